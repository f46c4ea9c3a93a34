// From projected splats to lists of those that touch each tile of an image, by depth: what blending walks
// (splat_raster.h). A splat touches the pixels where its α = 2^e is at least 1/255, e = log₂ o − (a dx² + b dx dy +
// c dy²): an ellipse. It gets a record, its box says which tiles to look at, and the least exponent over a tile, or a
// cell of it, whether the ellipse is there.
#pragma once

#include "core/hd.h"
#include "core/power.h"
#include "core/splat.h"

namespace n3d {

constexpr int kSplatScalars = 16;  // of a `Splat`, and of the row of gradients that a tile leaves for a splat
constexpr int kRecorded = 4;       // channels that a `Splat` has room for: a colour, which thus costs no second line

// Pixels come in tiles, which one thread (one block of threads) works on. On the CPU a tile has 8 × 8 cells of 4 × 4
// pixels: an entry has a bit for each cell that its ellipse touches, and the pixels of a cell are computed together.
constexpr int kCellSize = 4, kCellPixels = kCellSize * kCellSize, kTileCells = 8;
constexpr int kTileSizeCpu = kCellSize * kTileCells, kTileSizeCuda = 16;

N3D_HD int64_t tiles_along(int64_t size, int tile) { return (size + tile - 1) / tile; }

// What blending needs of one splat, in one cache line (of float).
template <class T>
struct alignas(kSplatScalars * sizeof(T)) Splat {
  T x, y;                // centre, pixels
  T a, b, c;             // of the exponent: Q's xx/2, xy and yy/2 times log₂ e
  T level;               // log₂ of the opacity
  T feature[kRecorded];  // the first
  T reach;               // the largest a dx² + b dx dy + c dy² at which it is still blended, and a hair more
  int32_t box[2];        // first and last cell that it may touch: column, and row << 16
  int32_t slot;          // its first row of gradients; after `splat_bin`, a driver's own
  int32_t tiles;         // how many rows, one a tile it touches; 0: not seen
};

template <class T>
struct SplatScratchArgs {
  int64_t* bytes;  // (2,) of scratch memory: for `splat_bin`, and for `splat_fill` with so many slots. On the host
  int64_t count, slots, width, height;
};

// Entries are pairs of a splat and a tile that it touches: in the order of their tiles and there by depth.
template <class T>
struct SplatBinArgs {
  const T* xy;        // (N, 2)
  const T* conic;     // (N, 3) Q as xx, xy, yy
  const T* depth;     // (N,)
  const T* opacity;   // (N,)
  const T* features;  // (N, C)
  Splat<T>* splats;   // (N,)
  uint8_t* scratch;   // splat_scratch; `splat_fill` reads there what `splat_bin` left
  int64_t* totals;    // (2,): splats that are seen, and the slots to make room for. On the host
  int64_t count, channels, width, height;
  void* stream;
};

template <class T>
struct SplatFillArgs {
  Splat<T>* splats;
  uint8_t* scratch;
  int32_t* tile_begin;  // (tiles + 1,) first entry of each tile
  int32_t* entry;       // (slots,) its splat
  int64_t* cells;       // (slots,) CPU: which cells of its tile an entry touches, a bit each
  int32_t* place;       // (slots,) its row among those of gradients
  uint8_t* fill_scratch;
  int64_t count, seen, slots, width, height;
  void* stream;
};

namespace N3D_ISA {

constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;
constexpr double kLevelMin = -7.994353436858858;  // log₂ kAlphaMin

// Where a splat can be seen at all. Anything that is not finite, or no ellipse, is not.
template <class S, class T>
struct Footprint {
  S a, b, c, level, reach;
  S rx, ry;  // half the sides of the ellipse's box; NaN or ∞ where there is no ellipse

  N3D_HD Footprint(S xx, S xy, S yy, S opacity) {
    a = T(0.5 * kLog2E) * xx, b = T(kLog2E) * xy, c = T(0.5 * kLog2E) * yy;
    level = log_of_two(opacity);
    const S extent = level - T(kLevelMin);
    // a c − b²/4 by Kahan's difference of products: thin ellipses cancel most of it.
    const S h = T(0.5) * b, hh = h * h;
    const S det = fused(a, c, -hh) - fused(h, h, -hh), scale = extent / det;
    rx = square_root(scale * c), ry = square_root(scale * a);
    // Rounding of the exponent may reach a few units of the largest of its terms.
    reach = extent + T(1e-4) + T(1e-6) * (a * rx * rx + c * ry * ry);
    rx = rx * T(1.0001) + T(1e-3), ry = ry * T(1.0001) + T(1e-3);
  }
};

// The least a dx² + b dx dy + c dy² over the rectangle [x0, x1] × [y0, y1] around the splat's centre. Where the centre
// is outside, the least value lies on a side that faces it: for each of two sides, the parabola's bottom, clamped to
// it. k = −b / 2c, l = −b / 2a.
template <class S, class T>
N3D_HD S least_exponent(const Splat<T>& g, T k, T l, S x0, S y0, S x1, S y1) {
  const S x = maximum(x0, minimum(x1, S{})), y = maximum(y0, minimum(y1, S{}));
  const S v = maximum(y0, minimum(y1, k * x)), u = maximum(x0, minimum(x1, l * y));
  return minimum(x * (g.a * x + g.b * v) + g.c * v * v, u * (g.a * u + g.b * y) + g.c * y * y);
}

// Whether it is an ellipse, and opaque enough to be seen. False where a number is NaN.
template <class T, class S>
N3D_HD auto can_be_seen(S opacity, S depth, const Footprint<S, T>& f) {
  constexpr T most = T(1e30);
  return (opacity >= T(kAlphaMin)) & (opacity < most) & (depth > -most) & (depth < most) & (f.a > 0) & (f.c > 0) &
         (f.rx < most) & (f.ry < most);
}

// The pixels first … last, as whole numbers, whose centres lie within `radius` of `center`, along an axis of `size`
// pixels. Only where `in` holds: not where there are none, nor where a number is NaN.
template <class S, class T>
struct Span {
  S first, last;
  decltype(S() < S()) in;

  N3D_HD Span(S center, S radius, T size) {
    const S most = S{} + (size - 1), low = center - radius - T(0.5), high = center + radius - T(0.5);
    first = floor(minimum(maximum(low, S{}), most));
    first = first + select(first < low, S{} + T(1), S{});
    last = floor(minimum(maximum(high, S{}), most));
    in = (low <= most) & (high >= 0) & (first <= last);
  }

 private:
  N3D_HD static S floor(S x) {  // of 0 ≤ x < 2³¹
    to_floating(to_unsigned(x), x);
    return x;
  }
};

// A record's box, of cells (tiles on CUDA).
struct SplatBox {
  int32_t x0, y0, x1, y1;

  N3D_HD int32_t width() const { return x1 - x0 + 1; }
  N3D_HD int32_t height() const { return y1 - y0 + 1; }

  template <class T>
  N3D_HD static SplatBox of(const Splat<T>& g) {
    return {g.box[0] & 0xffff, int32_t(uint32_t(g.box[0]) >> 16), g.box[1] & 0xffff, int32_t(uint32_t(g.box[1]) >> 16)};
  }
  template <class T>
  N3D_HD void write(Splat<T>& g) const {
    g.box[0] = x0 | y0 << 16, g.box[1] = x1 | y1 << 16;
  }
  // That of pixels x0 … x1, y0 … y1, in squares of so many a side.
  N3D_HD static SplatBox of_pixels(int x0, int y0, int x1, int y1, int square) {
    return {x0 / square, y0 / square, x1 / square, y1 / square};
  }
};

template <class T>
struct KeyOf;
template <>
struct KeyOf<float> {
  using Bits = uint32_t;
};
template <>
struct KeyOf<double> {
  using Bits = uint64_t;
};
template <class T>
using Key = typename KeyOf<T>::Bits;

// Orders as the numbers do.
template <class T>
N3D_HD Key<T> sort_key(T depth) {
  Key<T> bits;
  memcpy(&bits, &depth, sizeof bits);
  constexpr Key<T> sign = Key<T>(1) << (8 * sizeof bits - 1);
  return bits & sign ? ~bits : bits | sign;
}

}  // namespace N3D_ISA
}  // namespace n3d
