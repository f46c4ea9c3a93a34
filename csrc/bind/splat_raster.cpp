#include "ops/splat_raster.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(splat_raster, SplatRasterArgs)
N3D_OP(splat_raster_vjp, SplatRasterVjpArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "splat_raster",
      +[](Tensor<T> splats, Tensor<T> features, OptionalTensor<T> background, Tensor<int32_t> tile_begin,
          Tensor<int32_t> entry, Tensor<int64_t> cells, Tensor<T> image, Tensor<T> alpha, Tensor<T> through,
          Tensor<int32_t> stopped, uintptr_t stream) {
        run::splat_raster<T>({reinterpret_cast<const Splat<T>*>(splats.data), features, background, tile_begin, entry,
                              cells, image, alpha, through, stopped, image.size(2), image.size(1), image.size(0),
                              pointer(stream)});
      },
      "splats", "features", "background", "tile_begin", "entry", "cells", "image", "alpha", "through", "stopped",
      "stream");
  def_kernel(
      m, "splat_raster_vjp",
      +[](Tensor<T> splats, Tensor<T> opacity, Tensor<T> features, OptionalTensor<T> background,
          Tensor<int32_t> tile_begin, Tensor<int32_t> entry, Tensor<int64_t> cells, Tensor<int32_t> place,
          Tensor<T> through, Tensor<int32_t> stopped, Tensor<T> v_image, OptionalTensor<T> v_alpha, Tensor<T> rows,
          Tensor<T> v_tile, Tensor<T> v_xy, Tensor<T> v_conic, Tensor<T> v_opacity, Tensor<T> v_features,
          OptionalTensor<T> v_background, OptionalTensor<T> v_xy_abs, uintptr_t stream) {
        const auto* records = reinterpret_cast<const Splat<T>*>(splats.data);
        run::splat_raster_vjp<T>({records,
                                  opacity,
                                  features,
                                  background,
                                  tile_begin,
                                  entry,
                                  cells,
                                  place,
                                  through,
                                  stopped,
                                  v_image,
                                  v_alpha,
                                  rows,
                                  v_tile,
                                  v_xy,
                                  v_conic,
                                  v_opacity,
                                  v_features,
                                  v_background,
                                  v_xy_abs,
                                  opacity.size(0),
                                  v_image.size(2),
                                  v_image.size(1),
                                  v_image.size(0),
                                  pointer(stream)});
      },
      "splats", "opacity", "features", "background", "tile_begin", "entry", "cells", "place", "through", "stopped",
      "v_image", "v_alpha", "rows", "v_tile", "v_xy", "v_conic", "v_opacity", "v_features", "v_background", "v_xy_abs",
      "stream");
}

}  // namespace

void bind_splat_raster(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
