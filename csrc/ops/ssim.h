// Structural similarity (Wang et al. 2004, eq. 13), per pixel and channel, and its gradient to the picture x; in the
// same pass |x − y|, which training losses add to it.
//
// With G the 11 × 11 Gaussian window (σ = 1.5, weights summing to 1) and pixels outside the picture counted as 0:
//   μx = G∗x,  μy = G∗y,  σx² = G∗x² − μx²,  σy² = G∗y² − μy²,  σxy = G∗(xy) − μx μy
//   A₁ = 2 μx μy + C₁,  A₂ = 2 σxy + C₂,  B₁ = μx² + μy² + C₁,  B₂ = σx² + σy² + C₂,   S = A₁ A₂ / (B₁ B₂)
// Only the sum of the variances enters, so four blurred fields suffice: x, y, x² + y², xy. G is symmetric, so with the
// partial derivatives of S to them, ∂ΣS/∂x = G∗S_μ + 2x G∗S_□ + y G∗S_xy.
// G is separable, and in rows of interleaved channels neighbours of a pixel lie `channels` scalars apart: drivers see a
// picture of height rows and width · channels columns.
#pragma once

#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

constexpr int kSsimRadius = 5;
constexpr int kSsimMaxChannels = 8;  // what the drivers' fixed buffers hold

// Room for the sums of the pieces that drivers cut a picture into, none smaller than 8 × 64 scalars.
constexpr int64_t ssim_pieces(int64_t height, int64_t columns) { return (height + 7) / 8 * ((columns + 63) / 64); }

template <class T>
struct SsimArgs {
  const T* image;  // (H, W, C) x
  const T* truth;  // (H, W, C) y
  T* partials;     // (3, H, W, C) S_μ, S_□, S_xy for the way back, or null
  double* sums;    // (2, ssim_pieces) Σ S and Σ |x − y| of each piece, to be added in their order
  T* means;        // (2,) of S and |x − y| over pixels and channels
  int64_t height, width, channels;
  void* stream;
};

template <class T>
struct SsimVjpArgs {
  const T* image;     // (H, W, C)
  const T* truth;     // (H, W, C)
  const T* partials;  // (3, H, W, C)
  const T* v_means;   // (2,) gradients of the means
  T* v_image;         // (H, W, C)
  int64_t height, width, channels;
  void* stream;
};

namespace N3D_ISA {

// exp(−d² / 2σ²) / Σ for |d| ≤ 5.
template <class T>
N3D_HD constexpr T ssim_weight(int d) {
  constexpr double weights[kSsimRadius + 1] = {0.2660117248617943,  0.21300553771125366,  0.1093606895097,
                                               0.03600077212843082, 0.007598758135239184, 0.0010283800844791099};
  return static_cast<T>(weights[d < 0 ? -d : d]);
}

template <class S>
struct SsimPoint {
  S value;                            // S
  S by_mean, by_squares, by_product;  // S_μ, S_□, S_xy
};

// From the blurred x, y, x² + y² and xy; K₁ = 0.01 and K₂ = 0.03 for values in [0, 1].
template <class T, class S>
N3D_HD SsimPoint<S> ssim_point(S mean_x, S mean_y, S squares, S product) {
  const T c1 = static_cast<T>(1e-4), c2 = static_cast<T>(9e-4);
  const S means = mean_x * mean_x + mean_y * mean_y, both = mean_x * mean_y;
  const S a1 = 2 * both + c1, a2 = 2 * (product - both) + c2;
  const S b1 = means + c1, b2 = squares - means + c2;
  const S inverse = 1 / (b1 * b2);
  const S value = a1 * a2 * inverse;
  return {value, 2 * inverse * (mean_y * (a2 - a1) + mean_x * value * (b1 - b2)), -value * b1 * inverse,
          2 * a1 * inverse};
}

// ∂|d|/∂d, 0 at 0.
template <class S, class T>
N3D_HD S sign_times(S d, T v) {
  return select(d > 0, S{} + v, select(d < 0, S{} - v, S{}));
}

}  // namespace N3D_ISA
}  // namespace n3d
