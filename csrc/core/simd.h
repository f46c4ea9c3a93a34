// Short vectors of the variant's natural width, on top of GCC's and Clang's vector extensions.
//
// Formulas are templated on the scalar S, which may be a pack; they select instead of branching. Packs hold kLanes
// floats: 16 with AVX-512, 8 with AVX2, 4 in the portable baseline (SSE2, NEON). nvcc sees the scalar overloads only.
#pragma once

#include <math.h>

#include "core/hd.h"

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace n3d::N3D_ISA {

N3D_HD float select(bool c, float a, float b) { return c ? a : b; }
N3D_HD double select(bool c, double a, double b) { return c ? a : b; }

N3D_HD float square_root(float a) { return sqrtf(a); }
N3D_HD double square_root(double a) { return sqrt(a); }

N3D_HD uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

// Truncation; the argument must be in [0, 2³¹). Back: exact below 2²⁴.
N3D_HD uint32_t to_unsigned(float a) { return uint32_t(a); }
N3D_HD uint32_t to_unsigned(double a) { return uint32_t(a); }
N3D_HD void to_floating(uint32_t a, float& out) { out = float(a); }
N3D_HD void to_floating(uint32_t a, double& out) { out = double(a); }

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

// True where any lane of a comparison holds.
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

}  // namespace n3d::N3D_ISA
