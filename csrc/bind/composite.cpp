#include "ops/composite.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(composite, CompositeArgs)
N3D_OP(composite_vjp, CompositeVjpArgs)
N3D_OP(composite_used, UsedArgs)

namespace {

template <class T>
void def(nb::module_& m) {
  using n3d::Tensor;
  m.def(
      "composite",
      [](Tensor<T> sigma, Tensor<T> color, Tensor<T> t, Tensor<T> dt, Tensor<int64_t> offsets, Tensor<T> out_color,
         Tensor<T> opacity, Tensor<T> depth, Tensor<T> distortion, Tensor<T> weights, Tensor<int32_t> used,
         double early_stop, uintptr_t stream) {
        n3d::run::composite<T>({sigma, color, t, dt, offsets, out_color, opacity, depth, distortion, weights, used,
                                opacity.size(0), color.size(1), early_stop, reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "composite_vjp",
      [](Tensor<T> color, Tensor<T> t, Tensor<T> dt, Tensor<T> weights, Tensor<T> opacity, Tensor<int32_t> used,
         Tensor<int64_t> offsets, Tensor<T> v_out_color, Tensor<T> v_opacity, Tensor<T> v_depth, Tensor<T> v_distortion,
         Tensor<T> v_weights, Tensor<T> v_sigma, Tensor<T> v_color, uintptr_t stream) {
        n3d::run::composite_vjp<T>({color, t, dt, weights, opacity, used, offsets, v_out_color, v_opacity, v_depth,
                                    v_distortion, v_weights, v_sigma, v_color, opacity.size(0), color.size(1),
                                    reinterpret_cast<void*>(stream)});
      },
      nb::arg("color"), nb::arg("t"), nb::arg("dt"), nb::arg("weights"), nb::arg("opacity"), nb::arg("used"),
      nb::arg("offsets"), nb::arg("v_out_color").none(), nb::arg("v_opacity").none(), nb::arg("v_depth").none(),
      nb::arg("v_distortion").none(), nb::arg("v_weights").none(), nb::arg("v_sigma"), nb::arg("v_color"),
      nb::arg("stream"), nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "composite_used",
      [](Tensor<T> sigma, Tensor<T> dt, Tensor<int64_t> offsets, Tensor<int64_t> used, double early_stop,
         uintptr_t stream) {
        n3d::run::composite_used<T>(
            {sigma, dt, offsets, used, used.size(0), early_stop, reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_composite(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
