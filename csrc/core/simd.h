// Short vectors of the variant's natural width, on top of GCC's and Clang's vector extensions.
//
// Formulas are templated on the scalar S, which may be a pack; they select instead of branching. Packs hold kLanes
// floats: 16 with AVX-512, 8 with AVX2, 4 in the portable baseline (SSE2, NEON). nvcc sees the scalar overloads only.
#pragma once

#include <math.h>
#include <string.h>

#include "core/hd.h"

#if defined(__AVX2__) || defined(__AVX512F__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12's own _mm512_undefined_ps
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace n3d::N3D_ISA {

N3D_HD float select(bool c, float a, float b) { return c ? a : b; }
N3D_HD double select(bool c, double a, double b) { return c ? a : b; }
N3D_HD int32_t select(bool c, int32_t a, int32_t b) { return c ? a : b; }

// True where any lane of a comparison holds.
N3D_HD bool any(bool c) { return c; }

// max(0, a), where NaN stays NaN.
N3D_HD float rectify(float a) { return select(a < 0, 0.f, a); }
N3D_HD double rectify(double a) { return select(a < 0, 0.0, a); }

N3D_HD float square_root(float a) { return sqrtf(a); }
N3D_HD double square_root(double a) { return sqrt(a); }

N3D_HD uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

// Truncation; the argument must be in [0, 2³¹). Back: exact below 2²⁴.
N3D_HD uint32_t to_unsigned(float a) { return uint32_t(a); }
N3D_HD uint32_t to_unsigned(double a) { return uint32_t(a); }
N3D_HD void to_floating(uint32_t a, float& out) { out = float(a); }
N3D_HD void to_floating(uint32_t a, double& out) { out = double(a); }

N3D_HD float absolute(float a) { return fabsf(a); }
N3D_HD double absolute(double a) { return fabs(a); }

N3D_HD int32_t truncate(float a) { return static_cast<int32_t>(a); }
N3D_HD int32_t smaller_unsigned(int32_t a, int32_t b) { return uint32_t(a) < uint32_t(b) ? a : b; }
N3D_HD float to_float(int32_t a) { return static_cast<float>(a); }

// The same 32 bits, read as the other type.
N3D_HD int32_t float_bits(float a) {
  int32_t bits;
  memcpy(&bits, &a, sizeof bits);
  return bits;
}
N3D_HD float bits_float(int32_t bits) {
  float a;
  memcpy(&a, &bits, sizeof a);
  return a;
}

N3D_HD float gather(const float* p, int32_t i) { return p[i]; }
N3D_HD int32_t gather(const int32_t* p, int32_t i) { return p[i]; }

// e^x and e^x − 1, both to full relative precision.
template <class S>
struct Exp {
  S exp, expm1;
};
N3D_HD Exp<float> exponentials(float x) { return {expf(x), expm1f(x)}; }
N3D_HD Exp<double> exponentials(double x) { return {exp(x), expm1(x)}; }

N3D_HD float sine(float a) { return sinf(a); }
N3D_HD double sine(double a) { return sin(a); }

N3D_HD float arctangent(float a) { return atanf(a); }
N3D_HD double arctangent(double a) { return atan(a); }

// ln x for normal x > 0; anything else gives nonsense.
N3D_HD float logarithm(float a) { return logf(a); }
N3D_HD double logarithm(double a) { return log(a); }

#ifndef __CUDACC__

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float f32x __attribute__((vector_size(4 * kLanes)));
typedef int32_t i32x __attribute__((vector_size(4 * kLanes)));
typedef int64_t i64x __attribute__((vector_size(4 * kLanes)));  // the same bytes seen as pairs of lanes
typedef uint32_t u32x __attribute__((vector_size(4 * kLanes)));

N3D_HD f32x load(const float* p) {
  f32x v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
N3D_HD i32x load(const int32_t* p) {
  i32x v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
N3D_HD void store(float* p, f32x v) { __builtin_memcpy(p, &v, sizeof v); }
N3D_HD void store(int32_t* p, i32x v) { __builtin_memcpy(p, &v, sizeof v); }
N3D_HD f32x splat(float a) { return a - f32x{}; }  // a − 0 is a, even for −0, so this is a bare broadcast

N3D_HD f32x select(i32x c, f32x a, f32x b) { return c ? a : b; }
N3D_HD u32x smaller(u32x a, u32x b) { return a < b ? a : b; }
N3D_HD u32x to_unsigned(f32x a) { return reinterpret_cast<u32x>(__builtin_convertvector(a, i32x)); }
N3D_HD void to_floating(u32x a, f32x& out) { out = __builtin_convertvector(reinterpret_cast<i32x>(a), f32x); }
N3D_HD i32x select(i32x c, i32x a, i32x b) { return c ? a : b; }

N3D_HD f32x absolute(f32x a) { return reinterpret_cast<f32x>(reinterpret_cast<i32x>(a) & 0x7fffffff); }
N3D_HD i32x truncate(f32x a) { return __builtin_convertvector(a, i32x); }
N3D_HD i32x smaller_unsigned(i32x a, i32x b) {
  return reinterpret_cast<i32x>(smaller(reinterpret_cast<u32x>(a), reinterpret_cast<u32x>(b)));
}
N3D_HD f32x to_float(i32x a) { return __builtin_convertvector(a, f32x); }
N3D_HD i32x float_bits(f32x a) { return reinterpret_cast<i32x>(a); }
N3D_HD f32x bits_float(i32x a) { return reinterpret_cast<f32x>(a); }

N3D_HD f32x gather(const float* p, i32x i) {
#if defined(__AVX512F__)
  return reinterpret_cast<f32x>(_mm512_i32gather_ps(reinterpret_cast<__m512i>(i), p, 4));
#elif defined(__AVX2__)
  return reinterpret_cast<f32x>(_mm256_i32gather_ps(p, reinterpret_cast<__m256i>(i), 4));
#else
  f32x v;
  for (int k = 0; k < kLanes; ++k) v[k] = p[i[k]];
  return v;
#endif
}
N3D_HD i32x gather(const int32_t* p, i32x i) {
  return reinterpret_cast<i32x>(gather(reinterpret_cast<const float*>(p), i));
}

// x = n ln 2 + r with |r| ≤ ln 2 / 2 (Cody & Waite's two-part ln 2), p = e^r − 1 by a polynomial whose relative error
// is 2e-8 (least-maximum fit of degree 6); then e^x = 2ⁿ + 2ⁿ p and e^x − 1 = 2ⁿ p + (2ⁿ − 1), which loses nothing near
// 0. 2ⁿ is applied in two halves so that results may be subnormal. NaN stays NaN.
N3D_HD Exp<f32x> exponentials(f32x x) {
  x = select(x > 89.f, splat(89.f), x);  // e^89 overflows and e^-104 underflows: n stays in range
  x = select(x < -104.f, splat(-104.f), x);
  constexpr float kRound = 12582912.f;  // 1.5 · 2²³: adding it rounds to an integer
  const f32x n = (x * 1.44269504f + kRound) - kRound;
  const f32x r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  f32x q = splat(1.3882521307e-3f);
  q = q * r + 8.3665205166e-3f;
  q = q * r + 4.1667200625e-2f;
  q = q * r + 1.6666543484e-1f;
  q = q * r + 4.9999997020e-1f;
  const f32x p = r + r * r * q;
  const i32x whole = truncate(n), half = whole >> 1;
  const f32x s1 = bits_float((half + 127) << 23), s2 = bits_float((whole - half + 127) << 23), s = s1 * s2;
  const f32x e = (1 + p) * s1 * s2;
  return {e, select(x > 20.f, e, s * p + (s - 1))};
}

// x = 2ⁿ m with m in [√½, √2), and ln m = 2 artanh t = 2 (t + t³/3 + t⁵/5 + …) with t = (m − 1) / (m + 1): |t| ≤ 0.172,
// so that the terms left out are below 1e-9 of the sum.
N3D_HD f32x logarithm(f32x x) {
  const i32x below = (float_bits(x) - 0x3f3504f3) >> 23;  // 0x3f3504f3 is √½
  const f32x m = bits_float(float_bits(x) - (below << 23)), t = (m - 1) / (m + 1), tt = t * t;
  f32x q = splat(1.f / 9);
  q = q * tt + 1.f / 7;
  q = q * tt + 1.f / 5;
  q = q * tt + 1.f / 3;
  return to_float(below) * 0.693147181f + 2 * t * (1 + tt * q);
}

N3D_HD f32x rectify(f32x a) {
#if defined(__AVX512F__)
  return reinterpret_cast<f32x>(_mm512_max_ps(__m512{}, reinterpret_cast<__m512>(a)));  // NaN: the second operand
#elif defined(__AVX2__)
  return reinterpret_cast<f32x>(_mm256_max_ps(__m256{}, reinterpret_cast<__m256>(a)));
#else
  return select(a < 0, f32x{}, a);
#endif
}

N3D_HD f32x square_root(f32x a) {
#if defined(__AVX512F__)
  return reinterpret_cast<f32x>(_mm512_sqrt_ps(reinterpret_cast<__m512>(a)));
#elif defined(__AVX2__)
  return reinterpret_cast<f32x>(_mm256_sqrt_ps(reinterpret_cast<__m256>(a)));
#else
  for (int i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
#endif
}

// Lane by lane: only wide lenses ask for it.
N3D_HD f32x arctangent(f32x a) {
  for (int i = 0; i < kLanes; ++i) a[i] = atanf(a[i]);
  return a;
}

// As the templates below; GCC does not find the instruction by itself.
N3D_HD f32x minimum(f32x a, f32x b) {
#if defined(__AVX512F__)
  return reinterpret_cast<f32x>(_mm512_min_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<f32x>(_mm256_min_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
  return select(a < b, a, b);
#endif
}
N3D_HD f32x maximum(f32x a, f32x b) {
#if defined(__AVX512F__)
  return reinterpret_cast<f32x>(_mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<f32x>(_mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
  return select(a > b, a, b);
#endif
}

N3D_HD bool any(i32x c) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(c), reinterpret_cast<__m512i>(c)) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256(reinterpret_cast<__m256i>(c), reinterpret_cast<__m256i>(c));
#else
  int32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= c[i];
  return bits != 0;
#endif
}

#endif  // __CUDACC__

// min and max by comparison; where either is NaN the second argument is the answer.
template <class S>
N3D_HD S minimum(S a, S b) {
  return select(a < b, a, b);
}
template <class S>
N3D_HD S maximum(S a, S b) {
  return select(a > b, a, b);
}

}  // namespace n3d::N3D_ISA
