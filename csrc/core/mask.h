// Comparisons of packs, in the form each instruction set selects by: mask registers, packs of sign bits, or bool.
// CPU only. NaN compares false.
#pragma once

#include "core/power.h"
#include "core/simd.h"

namespace n3d::N3D_ISA {

#if defined(__AVX512F__)

struct Mask {
  __mmask16 lanes;
};

N3D_HD Mask at_least(f32x a, f32x b) { return {_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ)}; }
N3D_HD Mask less(f32x a, f32x b) { return {_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ)}; }
N3D_HD Mask less(i32x a, i32x b) { return {_mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b)}; }
N3D_HD Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.lanes & b.lanes)}; }
N3D_HD bool any(Mask a) { return a.lanes != 0; }
N3D_HD uint32_t lane_bits(Mask a) { return a.lanes; }
N3D_HD f32x select(Mask c, f32x a, f32x b) { return (f32x)_mm512_mask_blend_ps(c.lanes, (__m512)b, (__m512)a); }
// a b + c where the mask holds, elsewhere c.
N3D_HD f32x fused_where(Mask m, f32x a, f32x b, f32x c) {
  __m512 sum = _mm512_mask3_fmadd_ps((__m512)a, (__m512)b, (__m512)c, m.lanes);
  // Else GCC may merge the selection into a masked store, which holds up the next load from there.
  asm("" : "+v"(sum));
  return (f32x)sum;
}
N3D_HD i32x select(Mask c, i32x a, i32x b) { return (i32x)_mm512_mask_blend_epi32(c.lanes, (__m512i)b, (__m512i)a); }
N3D_HD f32x only(Mask c, f32x a) { return (f32x)_mm512_maskz_mov_ps(c.lanes, (__m512)a); }

#else

struct Mask {
  i32x lanes;  // all bits or none
};

N3D_HD Mask at_least(f32x a, f32x b) { return {a >= b}; }
N3D_HD Mask less(f32x a, f32x b) { return {a < b}; }
N3D_HD Mask less(i32x a, i32x b) { return {a < b}; }
N3D_HD Mask operator&(Mask a, Mask b) { return {a.lanes & b.lanes}; }
#if defined(__AVX2__)
N3D_HD uint32_t lane_bits(Mask a) { return static_cast<uint32_t>(_mm256_movemask_ps((__m256)a.lanes)); }
N3D_HD bool any(Mask a) { return lane_bits(a) != 0; }
N3D_HD f32x select(Mask c, f32x a, f32x b) { return (f32x)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)c.lanes); }
#else
N3D_HD uint32_t lane_bits(Mask a) {
  uint32_t bits = 0;
  for (int k = 0; k < kLanes; ++k) bits |= (a.lanes[k] & 1u) << k;
  return bits;
}
N3D_HD bool any(Mask a) { return any(a.lanes); }
N3D_HD f32x select(Mask c, f32x a, f32x b) {
  return reinterpret_cast<f32x>((c.lanes & reinterpret_cast<i32x>(a)) | (~c.lanes & reinterpret_cast<i32x>(b)));
}
#endif
N3D_HD i32x select(Mask c, i32x a, i32x b) { return (c.lanes & a) | (~c.lanes & b); }
// a where the mask holds, elsewhere 0: `and` has four ports on AMD's cores, blending shares two with multiplication.
N3D_HD f32x only(Mask c, f32x a) { return reinterpret_cast<f32x>(c.lanes & reinterpret_cast<i32x>(a)); }
N3D_HD f32x fused_where(Mask m, f32x a, f32x b, f32x c) { return select(m, fused(a, b, c), c); }

#endif

// What is asked of many packs at once: the bits of all of them, and then whether one was negative or not zero. `or` has
// four ports on AMD's cores; minima and comparisons share two with multiplication.
N3D_HD f32x either(f32x a, f32x b) {
  return reinterpret_cast<f32x>(reinterpret_cast<i32x>(a) | reinterpret_cast<i32x>(b));
}
#if defined(__AVX512F__)
N3D_HD bool any_negative(f32x a) { return _mm512_movepi32_mask((__m512i)a) != 0; }
N3D_HD bool any_nonzero(f32x a) { return _mm512_test_epi32_mask((__m512i)a, (__m512i)a) != 0; }
#elif defined(__AVX2__)
N3D_HD bool any_negative(f32x a) { return _mm256_movemask_ps((__m256)a) != 0; }
N3D_HD bool any_nonzero(f32x a) { return !_mm256_testz_si256((__m256i)a, (__m256i)a); }
#else
N3D_HD bool any_negative(f32x a) { return any(reinterpret_cast<i32x>(a) < 0); }
N3D_HD bool any_nonzero(f32x a) { return any(reinterpret_cast<i32x>(a) != 0); }
#endif

// The same for a pack of one.
N3D_HD double either(double a, double b) {
  int64_t x, y;
  memcpy(&x, &a, sizeof x), memcpy(&y, &b, sizeof y), x |= y;
  memcpy(&a, &x, sizeof a);
  return a;
}
N3D_HD bool any_negative(double a) { return __builtin_signbit(a); }
N3D_HD bool any_nonzero(double a) { return a != 0; }
N3D_HD bool at_least(double a, double b) { return a >= b; }
N3D_HD bool less(double a, double b) { return a < b; }
N3D_HD bool less(int32_t a, int32_t b) { return a < b; }
N3D_HD double fused_where(bool m, double a, double b, double c) { return m ? fused(a, b, c) : c; }
N3D_HD double only(bool m, double a) { return m ? a : 0; }
N3D_HD uint32_t lane_bits(bool a) { return a; }

}  // namespace n3d::N3D_ISA
