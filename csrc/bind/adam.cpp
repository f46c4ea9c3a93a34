#include "ops/adam.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(adam_step, AdamArgs)

namespace {

template <class T>
void def(nb::module_& m) {
  using n3d::Tensor;
  m.def(
      "adam_step",
      [](Tensor<T> param, Tensor<T> grad, Tensor<T> m, Tensor<T> v, int64_t rows, int64_t width, bool skip_untouched,
         double lr, double beta1, double beta2, double eps, double correction1, double correction2, uintptr_t stream) {
        n3d::run::adam_step<T>({param, grad, m, v, rows, width, skip_untouched, lr, beta1, beta2, eps, correction1,
                                correction2, reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_adam(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
