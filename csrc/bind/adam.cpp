#include "ops/adam.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(adam_step, AdamArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "adam_step",
      +[](Tensor<T> param, Tensor<T> grad, Tensor<T> m, Tensor<T> v, int64_t rows, int64_t width, bool skip_untouched,
          double lr, double beta1, double beta2, double eps, double correction1, double correction2, uintptr_t stream) {
        run::adam_step<T>({param, grad, m, v, rows, width, skip_untouched, lr, beta1, beta2, eps, correction1,
                           correction2, pointer(stream)});
      },
      "param", "grad", "m", "v", "rows", "width", "skip_untouched", "lr", "beta1", "beta2", "eps", "correction1",
      "correction2", "stream");
}

}  // namespace

void bind_adam(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
