// Rows of a picture, a pack of pixels at a time. CPU only.
#pragma once

#include "core/lanes.h"
#include "core/pack.h"

namespace n3d::N3D_ISA {

// Of a row's pixels from p, the first n or a whole pack: numbers, and the faces seen there.
N3D_HD void load_pixels(const float* p, int n, f32x& v) { v = load_first(p, n); }
N3D_HD void load_pixels(const double* p, int, double& v) { v = *p; }
N3D_HD void load_pixels(const int32_t* p, int n, i32x& v) {
  v = float_bits(load_first(reinterpret_cast<const float*>(p), n));
}
N3D_HD void load_pixels(const int32_t* p, int, int32_t& v) { v = *p; }
N3D_HD void store_pixels(float* p, int n, f32x v) { store_first(p, v, n); }
N3D_HD void store_pixels(double* p, int, double v) { *p = v; }
N3D_HD void store_pixels(int32_t* p, int n, i32x v) { store_first(reinterpret_cast<float*>(p), bits_float(v), n); }
N3D_HD void store_pixels(int32_t* p, int, int32_t v) { *p = v; }

// Packs of neighbouring pixels.
template <class T>
struct Pixels {
  using S = typename Lanes<T>::S;
  using Index = decltype(truncate(S{}));
  static constexpr int kCount = Lanes<T>::kCount;
  // Centres of pixels x, x + 1, …
  static N3D_HD S centres(int32_t x) { return to_float(lane_numbers()) + (T(x) + T(0.5)); }
};
template <>
struct Pixels<double> {
  using S = double;
  using Index = int32_t;
  static constexpr int kCount = 1;
  static N3D_HD double centres(int32_t x) { return x + 0.5; }
};

// f(first pixel, x) for packs over the pixels x0 … x1 of a row. The last pack of a row lies within it: lanes before
// pixel x were there before. Only rows shorter than a pack are shorter.
template <class T, class F>
N3D_HD void each_pack(int32_t x0, int32_t x1, int64_t width, const F& f) {
  constexpr int n = Pixels<T>::kCount;
  const int32_t last = width > n ? int32_t(width) - n : 0;
  for (int32_t x = x0; x <= x1; x += n) f(x < last ? x : last, x);
}

}  // namespace n3d::N3D_ISA
