#include "ops/splat_project.h"

#include <nanobind/stl/tuple.h>

#include <tuple>

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(splat_project, SplatProjectArgs)
N3D_OP(splat_project_vjp, SplatProjectVjpArgs)

namespace {

using namespace n3d;

// How the splats are seen: (width, height, degree, near, far, blur, antialiased, raw, lens).
using View = std::tuple<int, int, int, double, double, double, bool, bool, int>;

template <class T>
SplatInputs<T> inputs(const Tensor<T>& means, T* quats, T* scales, T* opacities, T* sh_dc, const Tensor<T>& sh_rest,
                      T* camera, T* intrinsics, const View& view) {
  const auto [width, height, degree, near, far, blur, antialiased, raw, lens] = view;
  const SplatLens seen_by = static_cast<SplatLens>(lens);
  return {means,  quats, scales, opacities, sh_dc, sh_rest, camera,      intrinsics, means.size(0), sh_rest.size(1),
          degree, width, height, near,      far,   blur,    antialiased, raw,        seen_by};
}

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "splat_project",
      +[](Tensor<T> means, Tensor<T> quats, Tensor<T> scales, Tensor<T> opacities, OptionalTensor<T> sh_dc,
          OptionalTensor<T> sh_rest, Tensor<T> camera, Tensor<T> intrinsics, const View& view, Tensor<T> xy,
          Tensor<T> conic, Tensor<T> depth, Tensor<T> opacity, Tensor<T> color, Tensor<T> radius,
          OptionalTensor<T> slopes, uintptr_t stream) {
        run::splat_project<T>({inputs<T>(means, quats, scales, opacities, sh_dc, sh_rest, camera, intrinsics, view), xy,
                               conic, depth, opacity, color, radius, slopes, pointer(stream)});
      },
      "means", "quats", "scales", "opacities", "sh_dc", "sh_rest", "camera", "intrinsics", "view", "xy", "conic",
      "depth", "opacity", "color", "radius", "slopes", "stream");
  def_kernel(
      m, "splat_project_vjp",
      +[](Tensor<T> means, Tensor<T> quats, Tensor<T> scales, Tensor<T> opacities, OptionalTensor<T> sh_dc,
          OptionalTensor<T> sh_rest, Tensor<T> camera, Tensor<T> intrinsics, const View& view, Tensor<T> color,
          Tensor<T> radius, OptionalTensor<T> slopes, OptionalTensor<T> v_xy, OptionalTensor<T> v_conic,
          OptionalTensor<T> v_depth, OptionalTensor<T> v_opacity, OptionalTensor<T> v_color, OptionalTensor<T> v_means,
          OptionalTensor<T> v_quats, OptionalTensor<T> v_scales, OptionalTensor<T> v_opacities,
          OptionalTensor<T> v_sh_dc, OptionalTensor<T> v_sh_rest, OptionalTensor<T> v_camera,
          OptionalTensor<T> v_intrinsics, OptionalTensor<T> partial, uintptr_t stream) {
        run::splat_project_vjp<T>({inputs<T>(means, quats, scales, opacities, sh_dc, sh_rest, camera, intrinsics, view),
                                   color, radius, slopes, v_xy, v_conic, v_depth, v_opacity, v_color, v_means, v_quats,
                                   v_scales, v_opacities, v_sh_dc, v_sh_rest, v_camera, v_intrinsics, partial,
                                   pointer(stream)});
      },
      "means", "quats", "scales", "opacities", "sh_dc", "sh_rest", "camera", "intrinsics", "view", "color", "radius",
      "slopes", "v_xy", "v_conic", "v_depth", "v_opacity", "v_color", "v_means", "v_quats", "v_scales", "v_opacities",
      "v_sh_dc", "v_sh_rest", "v_camera", "v_intrinsics", "partial", "stream");
}

}  // namespace

void bind_splat_project(nb::module_& m) {
  def<float>(m);
  def<double>(m);
  m.attr("SPLAT_BLOCK") = kSplatBlock;
  m.attr("CAMERA_SUMS") = kCameraSums;
}
