// Powers of two and their logarithms, with fused multiply-adds that compilers cannot regroup: wherever a formula is
// repeated (forward and backward), the same bits come out.
#pragma once

#include "core/simd.h"

namespace n3d::N3D_ISA {

// a b + c, rounded once where the processor can.
N3D_HD float fused(float a, float b, float c) { return fmaf(a, b, c); }
N3D_HD double fused(double a, double b, double c) { return a * b + c; }

// 2^x for −126 ≤ x < 128; log₂ x for normal x > 0. Beyond that, nonsense without a trap.
N3D_HD float power_of_two(float x) { return exp2f(x); }
N3D_HD double power_of_two(double x) { return exp2(x); }
N3D_HD float log_of_two(float x) { return log2f(x); }
N3D_HD double log_of_two(double x) { return log2(x); }

// a / x to rounding, for normal x and 1 / x.
N3D_HD float quotient(float a, float x) { return a / x; }
N3D_HD double quotient(double a, double x) { return a / x; }

#ifndef __CUDACC__

N3D_HD f32x fused(f32x a, f32x b, f32x c) {
#if defined(__AVX512F__)
  return (f32x)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (f32x)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// x = n + r with |r| ≤ ½; 2^r = 1 + r p(r), whose relative error is 9e-8 (least-maximum fit of degree 5), by Estrin's
// scheme: callers wait for the result, not for multipliers. 2ⁿ by adding n to the exponent.
N3D_HD f32x power_of_two(f32x x) {
  constexpr float kRound = 12582912.f;  // 1.5 · 2²³: adding it rounds to an integer, which the low bits then hold
  const f32x shifted = x + kRound, r = x - (shifted - kRound);
  const f32x rr = r * r, high = fused(splat(1.326472776e-3f), r, splat(9.671513131e-3f));
  const f32x middle = fused(splat(5.550733746e-2f), r, splat(2.402224208e-1f));
  const f32x low = fused(splat(6.931469776e-1f), r, splat(1.f)), p = fused(fused(high, rr, middle), rr, low);
  return bits_float(float_bits(p) + (float_bits(shifted) << 23));
}

// x = 2ⁿ m with m in [√½, √2); log₂ m = t p(t²) with t = (m − 1) / (m + 1): relative error 7e-10 before rounding.
N3D_HD f32x log_of_two(f32x x) {
  const i32x n = (float_bits(x) - 0x3f3504f3) >> 23;  // 0x3f3504f3 is √½
  const f32x m = bits_float(float_bits(x) - (n << 23)), t = (m - 1) / (m + 1), tt = t * t;
  f32x p = splat(0.4317367463f);
  p = fused(p, tt, splat(0.5767143507f));
  p = fused(p, tt, splat(0.961798848f));
  p = fused(p, tt, splat(2.88539008f));
  return fused(p, t, to_float(n));
}

N3D_HD f32x quotient(f32x a, f32x x) {
#if defined(__AVX512F__)
  const f32x r = (f32x)_mm512_rcp14_ps((__m512)x);
#elif defined(__AVX2__)
  const f32x r = (f32x)_mm256_rcp_ps((__m256)x);
#else
  return a / x;
#endif
#if defined(__AVX2__) || defined(__AVX512F__)
  const f32x rough = a * r;
  return fused(rough, fused(-x, r, splat(1.f)), rough);  // Newton's step
#endif
}

#endif  // __CUDACC__

}  // namespace n3d::N3D_ISA
