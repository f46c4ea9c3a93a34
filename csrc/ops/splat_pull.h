// What density control sums over views (Kerbl et al. 2023, section 5.2): how hard each view pulls at a splat's centre,
// in halves of the picture's sides, and whether it drew the splat at all.
#pragma once

#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

template <class T>
struct SplatPullArgs {
  const T* v_xy;    // (N, 2) ∂L/∂xy per pixel, or its absolute sum
  const T* radius;  // (N,) above 0: was drawn
  T* pull;          // (N,) added to
  T* views;         // (N,) added to
  int64_t count;
  double half_width, half_height;  // of the picture
  void* stream;
};

namespace N3D_ISA {

template <class S, class T>
N3D_HD void splat_pull(S x, S y, S radius, T half_width, T half_height, S& pull, S& views) {
  x = x * half_width, y = y * half_height;
  pull = pull + square_root(x * x + y * y);
  views = views + select(radius > 0, S{} + T(1), S{});
}

}  // namespace N3D_ISA
}  // namespace n3d
