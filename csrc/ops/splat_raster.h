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
#include "ops/splat_bin.h"

namespace n3d {

constexpr int kGroup = 8;  // channels that are blended together; of more, each group walks the splats anew

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
  T* rows;           // (slots, kSplatScalars): a splat's sums over a tile
  T* v_tile;         // (tiles, C): sums of T_end v_image
  T* v_xy;           // (N, 2)
  T* v_conic;        // (N, 3)
  T* v_opacity;      // (N,)
  T* v_features;     // (N, C)
  T* v_background;   // (C,) or null
  T* v_xy_abs;       // (N, 2) or null: sums of |∂L/∂xy| over pixels, for C ≤ kGroup
  int64_t count, channels, width, height;
  void* stream;
};

namespace N3D_ISA {

// e at (dx, dy) from the centre. a … level: the splat's, as packs or scalars. What depends on dx alone stands apart:
// packs of pixels one above the other share it.
template <class S>
N3D_HD S exponent(S dx, S dy, S a, S b, S c, S level) {
  return fused(-dy, fused(c, dy, b * dx), fused(-dx, a * dx, level));
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

// Splat i's gradients from the sums of its rows, those of channels [c0, c0 + channels); later groups of channels add to
// what the first has written.
template <class T>
N3D_HD void store_gradients(const SplatRasterVjpArgs<T>& a, int64_t i, int64_t c0, int64_t channels, const T* sums) {
  const T* v_features = sums + sum_feature(a.v_xy_abs != nullptr);
  for (int64_t c = 0; c < channels; ++c) a.v_features[i * a.channels + c0 + c] = v_features[c];
  T v_xy[2] = {}, v_conic[3] = {}, v_opacity = 0;
  if (a.splats[i].tiles > 0) splat_gradients(a.splats[i], a.opacity[i], sums, v_xy, v_conic, &v_opacity);
  const auto put = [&](T* out, const T* v, int n) {
    for (int k = 0; k < n; ++k) out[n * i + k] = c0 ? out[n * i + k] + v[k] : v[k];
  };
  put(a.v_xy, v_xy, 2), put(a.v_conic, v_conic, 3), put(a.v_opacity, &v_opacity, 1);
  if (a.v_xy_abs)
    for (int k = 0; k < 2; ++k) a.v_xy_abs[2 * i + k] = T(kLn2) * sums[kSumAbsX + k];
}

}  // namespace N3D_ISA
}  // namespace n3d
