#include "ops/mesh_raster.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(mesh_raster, MeshRasterArgs)
N3D_OP(mesh_raster_vjp, MeshRasterVjpArgs)
N3D_OP(mesh_outlines, MeshOutlinesArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "mesh_raster",
      +[](Tensor<T> pixels, Tensor<int32_t> faces, Tensor<int32_t> rows, Tensor<int32_t> face, Tensor<T> barycentrics,
          Tensor<T> depth, uintptr_t stream) {
        run::mesh_raster<T>({pixels, faces, rows, face, barycentrics, depth, pixels.size(0), pixels.size(1),
                             faces.size(0), face.size(2), face.size(1), pointer(stream)});
      },
      "pixels", "faces", "rows", "face", "barycentrics", "depth", "stream");
  def_kernel(
      m, "mesh_raster_vjp",
      +[](Tensor<T> pixels, Tensor<int32_t> faces, Tensor<int32_t> face, OptionalTensor<T> v_barycentrics,
          OptionalTensor<T> v_depth, Tensor<T> v_corners, uintptr_t stream) {
        run::mesh_raster_vjp<T>({pixels, faces, face, v_barycentrics, v_depth, v_corners, pixels.size(0),
                                 pixels.size(1), faces.size(0), face.size(2), face.size(1), pointer(stream)});
      },
      "pixels", "faces", "face", "v_barycentrics", "v_depth", "v_corners", "stream");
  def_kernel(
      m, "mesh_outlines",
      +[](Tensor<T> pixels, Tensor<int32_t> faces, Tensor<int32_t> opposite, Tensor<int32_t> face, Tensor<T> depth,
          Tensor<int32_t> edge, uintptr_t stream) {
        run::mesh_outlines<T>({pixels, faces, opposite, face, depth, edge, pixels.size(0), pixels.size(1),
                               faces.size(0), face.size(2), face.size(1), pointer(stream)});
      },
      "pixels", "faces", "opposite", "face", "depth", "edge", "stream");
}

}  // namespace

void bind_mesh_raster(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
