#include "ops/composite.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(composite, CompositeArgs)
N3D_OP(composite_vjp, CompositeVjpArgs)
N3D_OP(composite_used, UsedArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "composite",
      +[](Tensor<T> sigma, Tensor<T> color, Tensor<T> t, Tensor<T> dt, Tensor<int64_t> offsets, Tensor<T> out_color,
          Tensor<T> opacity, Tensor<T> depth, Tensor<T> distortion, Tensor<T> weights, Tensor<int32_t> used,
          double early_stop, uintptr_t stream) {
        run::composite<T>({sigma, color, t, dt, offsets, out_color, opacity, depth, distortion, weights, used,
                           opacity.size(0), color.size(1), early_stop, pointer(stream)});
      },
      "sigma", "color", "t", "dt", "offsets", "out_color", "opacity", "depth", "distortion", "weights", "used",
      "early_stop", "stream");
  def_kernel(
      m, "composite_vjp",
      +[](Tensor<T> color, Tensor<T> t, Tensor<T> dt, Tensor<T> weights, Tensor<T> opacity, Tensor<int32_t> used,
          Tensor<int64_t> offsets, OptionalTensor<T> v_out_color, OptionalTensor<T> v_opacity,
          OptionalTensor<T> v_depth, OptionalTensor<T> v_distortion, OptionalTensor<T> v_weights, Tensor<T> v_sigma,
          Tensor<T> v_color, uintptr_t stream) {
        run::composite_vjp<T>({color, t, dt, weights, opacity, used, offsets, v_out_color, v_opacity, v_depth,
                               v_distortion, v_weights, v_sigma, v_color, opacity.size(0), color.size(1),
                               pointer(stream)});
      },
      "color", "t", "dt", "weights", "opacity", "used", "offsets", "v_out_color", "v_opacity", "v_depth",
      "v_distortion", "v_weights", "v_sigma", "v_color", "stream");
  def_kernel(
      m, "composite_used",
      +[](Tensor<T> sigma, Tensor<T> dt, Tensor<int64_t> offsets, Tensor<int64_t> used, double early_stop,
          uintptr_t stream) {
        run::composite_used<T>({sigma, dt, offsets, used, used.size(0), early_stop, pointer(stream)});
      },
      "sigma", "dt", "offsets", "used", "early_stop", "stream");
}

}  // namespace

void bind_composite(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
