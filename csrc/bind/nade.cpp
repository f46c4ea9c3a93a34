#include "ops/nade.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(nade, NadeArgs)
N3D_OP(nade_vjp, NadeVjpArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "nade",
      +[](Tensor<bool> x, Tensor<T> w, Tensor<T> v, Tensor<T> c, Tensor<T> a, Tensor<T> h, Tensor<T> logits,
          uintptr_t stream) {
        run::nade<T>({x, w, v, c, a, h, logits, x.size(0), x.size(1), w.size(0), pointer(stream)});
      },
      "x", "w", "v", "c", "a", "h", "logits", "stream");
  def_kernel(
      m, "nade_vjp",
      +[](Tensor<bool> x, Tensor<T> w, Tensor<T> v, Tensor<T> a, Tensor<T> v_logits, Tensor<T> v_w, Tensor<T> v_v,
          Tensor<T> v_c, uintptr_t stream) {
        run::nade_vjp<T>(
            {x, w, v, a, v_logits, v_w, v_v, v_c, x.size(0), x.size(1), w.size(0), v_w.size(0), pointer(stream)});
      },
      "x", "w", "v", "a", "v_logits", "v_w", "v_v", "v_c", "stream");
}

}  // namespace

void bind_nade(nb::module_& m) {
#ifdef N3D_CUDA_MODULE
  m.attr("nade_parts") = n3d::kNadeParts;
#else
  m.attr("nade_parts") = 1;  // units are shared out, not examples
#endif
  def<float>(m);
  def<double>(m);
}
