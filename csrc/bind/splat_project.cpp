#include "ops/splat_project.h"

#include <nanobind/stl/tuple.h>

#include <tuple>

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(splat_project, SplatProjectArgs)
N3D_OP(splat_project_vjp, SplatProjectVjpArgs)

namespace {

using n3d::Tensor;

// How the splats are seen: (width, height, degree, near, far, blur, antialiased, raw, lens).
using View = std::tuple<int, int, int, double, double, double, bool, bool, int>;

template <class T>
n3d::SplatInputs<T> inputs(const Tensor<T>& means, T* quats, T* scales, T* opacities, T* sh_dc,
                           const Tensor<T>& sh_rest, T* camera, T* intrinsics, const View& view) {
  const auto [width, height, degree, near, far, blur, antialiased, raw, lens] = view;
  return {means,
          quats,
          scales,
          opacities,
          sh_dc,
          sh_rest,
          camera,
          intrinsics,
          means.size(0),
          sh_rest.size(1),
          degree,
          width,
          height,
          near,
          far,
          blur,
          antialiased,
          raw,
          static_cast<n3d::SplatLens>(lens)};
}

template <class T>
void def(nb::module_& m) {
  m.def(
      "splat_project",
      [](Tensor<T> means, Tensor<T> quats, Tensor<T> scales, Tensor<T> opacities, Tensor<T> sh_dc, Tensor<T> sh_rest,
         Tensor<T> camera, Tensor<T> intrinsics, const View& view, Tensor<T> xy, Tensor<T> conic, Tensor<T> depth,
         Tensor<T> opacity, Tensor<T> color, Tensor<T> radius, Tensor<T> slopes, uintptr_t stream) {
        n3d::run::splat_project<T>(
            {inputs<T>(means, quats, scales, opacities, sh_dc, sh_rest, camera, intrinsics, view), xy, conic, depth,
             opacity, color, radius, slopes, reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "splat_project_vjp",
      [](Tensor<T> means, Tensor<T> quats, Tensor<T> scales, Tensor<T> opacities, Tensor<T> sh_dc, Tensor<T> sh_rest,
         Tensor<T> camera, Tensor<T> intrinsics, const View& view, Tensor<T> color, Tensor<T> radius, Tensor<T> slopes,
         Tensor<T> v_xy, Tensor<T> v_conic, Tensor<T> v_depth, Tensor<T> v_opacity, Tensor<T> v_color,
         Tensor<T> v_means, Tensor<T> v_quats, Tensor<T> v_scales, Tensor<T> v_opacities, Tensor<T> v_sh_dc,
         Tensor<T> v_sh_rest, Tensor<T> v_camera, Tensor<T> v_intrinsics, Tensor<T> partial, uintptr_t stream) {
        n3d::run::splat_project_vjp<T>(
            {inputs<T>(means, quats, scales, opacities, sh_dc, sh_rest, camera, intrinsics, view), color, radius,
             slopes, v_xy, v_conic, v_depth, v_opacity, v_color, v_means, v_quats, v_scales, v_opacities, v_sh_dc,
             v_sh_rest, v_camera, v_intrinsics, partial, reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_splat_project(nb::module_& m) {
  def<float>(m);
  def<double>(m);
  m.attr("SPLAT_BLOCK") = n3d::kSplatBlock;
  m.attr("CAMERA_SUMS") = n3d::kCameraSums;
}
