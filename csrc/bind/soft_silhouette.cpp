#include "ops/soft_silhouette.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(soft_silhouette, SoftSilhouetteArgs)
N3D_OP(soft_silhouette_vjp, SoftSilhouetteVjpArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "soft_silhouette",
      +[](Tensor<T> pixels, Tensor<int32_t> faces, Tensor<T> transmittance, double sigma, double reach,
          uintptr_t stream) {
        run::soft_silhouette<T>({pixels, faces, transmittance, T(sigma), T(reach), pixels.size(0), pixels.size(1),
                                 faces.size(0), transmittance.size(2), transmittance.size(1), pointer(stream)});
      },
      "pixels", "faces", "transmittance", "sigma", "reach", "stream");
  def_kernel(
      m, "soft_silhouette_vjp",
      +[](Tensor<T> pixels, Tensor<int32_t> faces, Tensor<T> transmittance, Tensor<T> v_silhouette, Tensor<T> v_corners,
          double sigma, double reach, uintptr_t stream) {
        run::soft_silhouette_vjp<T>({pixels, faces, transmittance, v_silhouette, v_corners, T(sigma), T(reach),
                                     pixels.size(0), pixels.size(1), faces.size(0), transmittance.size(2),
                                     transmittance.size(1), pointer(stream)});
      },
      "pixels", "faces", "transmittance", "v_silhouette", "v_corners", "sigma", "reach", "stream");
}

}  // namespace

void bind_soft_silhouette(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
