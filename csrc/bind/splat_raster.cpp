#include "ops/splat_raster.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(splat_scratch, SplatScratchArgs)
N3D_OP(splat_bin, SplatBinArgs)
N3D_OP(splat_fill, SplatFillArgs)
N3D_OP(splat_raster, SplatRasterArgs)
N3D_OP(splat_raster_vjp, SplatRasterVjpArgs)

namespace {

template <class T>
void def(nb::module_& m) {
  using n3d::Tensor;
  const auto records = [](const Tensor<T>& t) { return reinterpret_cast<n3d::Splat<T>*>(t.data); };
  m.def("splat_scratch", [](Tensor<T> opacity, int64_t slots, int64_t width, int64_t height) {
    int64_t bytes[2];
    n3d::run::splat_scratch<T>({bytes, opacity.size(0), slots, width, height});
    return nb::make_tuple(bytes[0], bytes[1]);
  });
  m.def("splat_bin", [=](Tensor<T> xy, Tensor<T> conic, Tensor<T> depth, Tensor<T> opacity, Tensor<T> features,
                         Tensor<T> splats, Tensor<uint8_t> scratch, int64_t width, int64_t height, uintptr_t stream) {
    int64_t totals[2];
    {
      nb::gil_scoped_release release;
      n3d::run::splat_bin<T>({xy, conic, depth, opacity, features, records(splats), scratch, totals, opacity.size(0),
                              features.size(1), width, height, reinterpret_cast<void*>(stream)});
    }
    return nb::make_tuple(totals[0], totals[1]);
  });
  m.def(
      "splat_fill",
      [=](Tensor<T> splats, Tensor<uint8_t> scratch, Tensor<int32_t> tile_begin, Tensor<int32_t> entry,
          Tensor<int64_t> cells, Tensor<int32_t> place, Tensor<uint8_t> fill_scratch, int64_t seen, int64_t width,
          int64_t height, uintptr_t stream) {
        n3d::run::splat_fill<T>({records(splats), scratch, tile_begin, entry, cells, place, fill_scratch,
                                 splats.size(0), seen, entry.size(0), width, height, reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "splat_raster",
      [=](Tensor<T> splats, Tensor<T> features, Tensor<T> background, Tensor<int32_t> tile_begin, Tensor<int32_t> entry,
          Tensor<int64_t> cells, Tensor<T> image, Tensor<T> alpha, Tensor<T> through, Tensor<int32_t> stopped,
          uintptr_t stream) {
        n3d::run::splat_raster<T>({records(splats), features, background, tile_begin, entry, cells, image, alpha,
                                   through, stopped, image.size(2), image.size(1), image.size(0),
                                   reinterpret_cast<void*>(stream)});
      },
      nb::arg("splats"), nb::arg("features"), nb::arg("background").none(), nb::arg("tile_begin"), nb::arg("entry"),
      nb::arg("cells"), nb::arg("image"), nb::arg("alpha"), nb::arg("through"), nb::arg("stopped"), nb::arg("stream"),
      nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "splat_raster_vjp",
      [=](Tensor<T> splats, Tensor<T> opacity, Tensor<T> features, Tensor<T> background, Tensor<int32_t> tile_begin,
          Tensor<int32_t> entry, Tensor<int64_t> cells, Tensor<int32_t> place, Tensor<T> through,
          Tensor<int32_t> stopped, Tensor<T> v_image, Tensor<T> v_alpha, Tensor<T> rows, Tensor<T> v_tile,
          Tensor<T> v_xy, Tensor<T> v_conic, Tensor<T> v_opacity, Tensor<T> v_features, Tensor<T> v_background,
          Tensor<T> v_xy_abs, bool ordered, uintptr_t stream) {
        n3d::run::splat_raster_vjp<T>({records(splats),
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
                                       ordered,
                                       reinterpret_cast<void*>(stream)});
      },
      nb::arg("splats"), nb::arg("opacity"), nb::arg("features"), nb::arg("background").none(), nb::arg("tile_begin"),
      nb::arg("entry"), nb::arg("cells"), nb::arg("place"), nb::arg("through"), nb::arg("stopped"), nb::arg("v_image"),
      nb::arg("v_alpha").none(), nb::arg("rows"), nb::arg("v_tile"), nb::arg("v_xy"), nb::arg("v_conic"),
      nb::arg("v_opacity"), nb::arg("v_features"), nb::arg("v_background").none(), nb::arg("v_xy_abs").none(),
      nb::arg("ordered"), nb::arg("stream"), nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_splat_raster(nb::module_& m) {
#ifdef N3D_CUDA_MODULE
  m.attr("splat_tile") = n3d::kTileSizeCuda;
#else
  m.attr("splat_tile") = n3d::kTileSizeCpu;
#endif
  def<float>(m);
  def<double>(m);
}
