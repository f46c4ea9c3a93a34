// Blending of splats (Kerbl et al. 2023, "3D Gaussian Splatting for Real-Time Radiance Field Rendering", after Zwicker
// et al. 2001). Splat i, in order of depth, covers a pixel whose centre lies d away from its own by
//   α_i = min(0.99, o_i exp(−½ dᵀ Q_i d)),   w_i = T_i α_i,   T_{i+1} = T_i (1 − α_i),   T_1 = 1
//   colour Σ w_i c_i + T_end background,   opacity 1 − T_end
// where i runs over the splats with α_i ≥ 1/255, up to the one that would bring T below 1e-4, which is left out.
// (core/splat.h holds the constants.) Everywhere here α = 2^e with e = log₂ o − (a dx² + b dx dy + c dy²): Q is scaled
// once per splat instead of the exponent once per pixel.
#pragma once

#include "core/hd.h"
#include "core/power.h"
#include "core/splat.h"

namespace n3d {

constexpr int kSplatScalars = 16;  // of a `Splat`, and of the row of gradients that a tile leaves for a splat
constexpr int kGroup = 8;          // channels that are blended together; of more, each group walks the splats anew
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
  int32_t slot;          // its first row of gradients; after `splat_bin`: the tiles in its box have numbers from here
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

template <class T>
struct SplatRasterArgs {
  const Splat<T>* splats;
  const T* features;          // (N, C)
  const T* background;        // (C,) or null
  const int32_t* tile_begin;  // from `splat_fill`, as the next two
  const int32_t* entry;
  int64_t* cells;    // afterwards: those that an entry was blended to
  T* image;          // (H, W, C)
  T* alpha;          // (H, W)
  T* through;        // (tiles · pixels of one,) T_end, for the way back
  int32_t* stopped;  // as many: the entry, counted from its tile's first, that was left out
  int64_t channels, width, height;
  void* stream;
};

template <class T>
struct SplatRasterVjpArgs {
  const Splat<T>* splats;
  const T* opacity;     // (N,)
  const T* features;    // (N, C)
  const T* background;  // (C,) or null
  const int32_t* tile_begin;
  const int32_t* entry;
  const int64_t* cells;
  const int32_t* place;
  const T* through;
  const int32_t* stopped;
  const T* v_image;  // (H, W, C)
  const T* v_alpha;  // (H, W) or null
  T* rows;           // (max(slots, N), kSplatScalars): a splat's sums over a tile, or on CUDA over all
  T* v_tile;         // (tiles, C): sums of T_end v_image
  T* v_xy;           // (N, 2)
  T* v_conic;        // (N, 3)
  T* v_opacity;      // (N,)
  T* v_features;     // (N, C)
  T* v_background;   // (C,) or null
  T* v_xy_abs;       // (N, 2) or null: sums of |∂L/∂xy| over pixels, for C ≤ kGroup
  int64_t count, channels, width, height;
  bool ordered;  // CUDA: sums that do not depend on the order in which blocks run
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

// e at (dx, dy) from the centre. a … level: the splat's, as packs or scalars.
template <class S>
N3D_HD S exponent(S dx, S dy, S a, S b, S c, S level) {
  const S slope = fused(b, dy, a * dx);
  return fused(-dy, c * dy, fused(-dx, slope, level));
}

// What a splat's row of gradients holds: with s = ∂L/∂α · α of its pixels where α was not capped, and g = ∂L/∂colour,
enum SplatSum {
  kSum,      // Σ s
  kSumX,     // Σ s dx
  kSumY,     // Σ s dy
  kSumXX,    // Σ s dx²
  kSumXY,    // Σ s dx dy
  kSumYY,    // Σ s dy²
  kSumAbsX,  // Σ |s (2 a dx + b dy)|, where asked for
  kSumAbsY,
};
// … and then Σ w g, up to kGroup of them: from here.
constexpr int sum_feature(bool abs) { return abs ? kSumAbsY + 1 : kSumAbsX; }
static_assert(sum_feature(true) + kGroup == kSplatScalars);

// ∂L/∂(xy, conic, opacity) of a splat from its sums: α = o exp(−σ), σ = ½ dᵀ Q d, d = pixel − xy, so that
//   ∂L/∂xy = Q Σ s d,   ∂L/∂Q = −½ Σ s d dᵀ (the off-diagonal entry stands twice in σ),   ∂L/∂o = Σ s / o.
template <class T>
N3D_HD void splat_gradients(const Splat<T>& g, T opacity, const T* sums, T* v_xy, T* v_conic, T* v_opacity) {
  const T xx = T(2 * kLn2) * g.a, xy = T(kLn2) * g.b, yy = T(2 * kLn2) * g.c;
  v_xy[0] = xx * sums[kSumX] + xy * sums[kSumY];
  v_xy[1] = xy * sums[kSumX] + yy * sums[kSumY];
  v_conic[0] = T(-0.5) * sums[kSumXX];
  v_conic[1] = -sums[kSumXY];
  v_conic[2] = T(-0.5) * sums[kSumYY];
  *v_opacity = sums[kSum] / opacity;
}

}  // namespace N3D_ISA
}  // namespace n3d
