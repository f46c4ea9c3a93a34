#include "ops/splat_bin.h"

#include <nanobind/stl/pair.h>

#include <utility>

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(splat_scratch, SplatScratchArgs)
N3D_OP(splat_bin, SplatBinArgs)
N3D_OP(splat_fill, SplatFillArgs)

namespace {

using namespace n3d;

using Pair = std::pair<int64_t, int64_t>;

template <class T>
void def(nb::module_& m) {
  // Bytes of scratch memory: for splat_bin, and for splat_fill with so many slots.
  def_kernel(
      m, "splat_scratch",
      +[](Tensor<T> opacity, int64_t slots, int64_t width, int64_t height) {
        int64_t bytes[2];
        run::splat_scratch<T>({bytes, opacity.size(0), slots, width, height});
        return Pair(bytes[0], bytes[1]);
      },
      "opacity", "slots", "width", "height");
  // How many splats are seen, and how many slots their entries need.
  def_kernel(
      m, "splat_bin",
      +[](Tensor<T> xy, Tensor<T> conic, Tensor<T> depth, Tensor<T> opacity, Tensor<T> features, Tensor<T> splats,
          Tensor<uint8_t> scratch, int64_t width, int64_t height, uintptr_t stream) {
        int64_t totals[2];
        run::splat_bin<T>({xy, conic, depth, opacity, features, reinterpret_cast<Splat<T>*>(splats.data), scratch,
                           totals, opacity.size(0), features.size(1), width, height, pointer(stream)});
        return Pair(totals[0], totals[1]);
      },
      "xy", "conic", "depth", "opacity", "features", "splats", "scratch", "width", "height", "stream");
  def_kernel(
      m, "splat_fill",
      +[](Tensor<T> splats, Tensor<uint8_t> scratch, Tensor<int32_t> tile_begin, Tensor<int32_t> entry,
          Tensor<int64_t> cells, Tensor<int32_t> place, Tensor<uint8_t> fill_scratch, int64_t seen, int64_t width,
          int64_t height, uintptr_t stream) {
        run::splat_fill<T>({reinterpret_cast<Splat<T>*>(splats.data), scratch, tile_begin, entry, cells, place,
                            fill_scratch, splats.size(0), seen, entry.size(0), width, height, pointer(stream)});
      },
      "splats", "scratch", "tile_begin", "entry", "cells", "place", "fill_scratch", "seen", "width", "height",
      "stream");
}

}  // namespace

void bind_splat_bin(nb::module_& m) {
#ifdef N3D_CUDA_MODULE
  m.attr("splat_tile") = kTileSizeCuda;
#else
  m.attr("splat_tile") = kTileSizeCpu;
#endif
  def<float>(m);
  def<double>(m);
}
