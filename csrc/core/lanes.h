// Moving values between the lanes of a pack: partial loads and stores, shifts, sums and running sums. CPU only.
#pragma once

#include "core/simd.h"

namespace n3d::N3D_ISA {

N3D_HD i32x lane_numbers() {
  i32x lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes;
}

// The first n lanes from memory, zero beyond; nothing beyond them is read. n may be out of [0, kLanes].
// AVX-512 masks always: it costs nothing, while a branch on n is mispredicted at the end of most rows.
#if defined(__AVX512F__)
N3D_HD __mmask16 first_lanes(int n) {
  return static_cast<__mmask16>((1u << (n < 0 ? 0 : n > kLanes ? kLanes : n)) - 1);
}
N3D_HD f32x load_first(const float* p, int n) {
  return reinterpret_cast<f32x>(_mm512_maskz_loadu_ps(first_lanes(n), p));
}
N3D_HD void store_first(float* p, f32x v, int n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), reinterpret_cast<__m512>(v));
}
#else
N3D_HD f32x load_first(const float* p, int n) {
  if (n >= kLanes) return load(p);
#if defined(__AVX2__)
  return reinterpret_cast<f32x>(_mm256_maskload_ps(p, reinterpret_cast<__m256i>(lane_numbers() < n)));
#else
  f32x v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}
N3D_HD void store_first(float* p, f32x v, int n) {
  if (n >= kLanes) return store(p, v);
#if defined(__AVX2__)
  _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(lane_numbers() < n), reinterpret_cast<__m256>(v));
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}
#endif

// Bit k is set where lane k of a comparison holds.
N3D_HD uint32_t lane_bits(i32x c) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(c));
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(c)));
#else
  uint32_t bits = 0;
  for (int k = 0; k < kLanes; ++k) bits |= (c[k] < 0 ? 1u : 0u) << k;
  return bits;
#endif
}

// The lanes whose bit is set, moved to the front; writes kLanes floats, of which only those are meaningful.
N3D_HD void store_packed(float* p, f32x v, uint32_t lanes) {
#if defined(__AVX512F__)
  _mm512_storeu_ps(p, _mm512_maskz_compress_ps(static_cast<__mmask16>(lanes), reinterpret_cast<__m512>(v)));
#else
  for (int k = 0; k < kLanes; ++k) {
    *p = v[k];
    p += lanes >> k & 1;
  }
#endif
}

// Lane i of the result is lane from[i] of v.
N3D_HD f32x permute(f32x v, i32x from) {
#if defined(__AVX512F__)
  const __m512i order = reinterpret_cast<__m512i>(from);
  return reinterpret_cast<f32x>(_mm512_maskz_permutexvar_ps(0xffff, order, reinterpret_cast<__m512>(v)));
#elif defined(__AVX2__)
  return reinterpret_cast<f32x>(_mm256_permutevar8x32_ps(reinterpret_cast<__m256>(v), reinterpret_cast<__m256i>(from)));
#else
  f32x r;
  for (int i = 0; i < kLanes; ++i) r[i] = v[from[i]];
  return r;
#endif
}

// Lanes move n up, away from lane 0; lanes below n are `fill`.
template <int n>
N3D_HD f32x shift_up(f32x v, float fill) {
#if defined(__AVX512F__)
  return reinterpret_cast<f32x>(_mm512_maskz_alignr_epi32(0xffff, reinterpret_cast<__m512i>(v),
                                                          reinterpret_cast<__m512i>(splat(fill)), kLanes - n));
#else
  const i32x lanes = lane_numbers();
  return select(lanes < n, splat(fill), permute(v, (lanes - n) & (kLanes - 1)));
#endif
}

// Lanes move n down, towards lane 0; the last n are `fill`.
template <int n>
N3D_HD f32x shift_down(f32x v, float fill) {
#if defined(__AVX512F__)
  return reinterpret_cast<f32x>(
      _mm512_maskz_alignr_epi32(0xffff, reinterpret_cast<__m512i>(splat(fill)), reinterpret_cast<__m512i>(v), n));
#else
  const i32x lanes = lane_numbers();
  return select(lanes < kLanes - n, permute(v, (lanes + n) & (kLanes - 1)), splat(fill));
#endif
}

// Lane i is the product of lanes 0 … i.
template <int n = 1>
N3D_HD f32x running_product(f32x v) {
  if constexpr (n < kLanes) return running_product<2 * n>(v * shift_up<n>(v, 1.f));
  return v;
}

// Lane i is the sum of lanes 0 … i.
template <int n = 1>
N3D_HD f32x running_sum(f32x v) {
  if constexpr (n < kLanes) return running_sum<2 * n>(v + shift_up<n>(v, 0.f));
  return v;
}

// Lane i is the sum of lanes i … last.
template <int n = 1>
N3D_HD f32x remaining_sum(f32x v) {
  if constexpr (n < kLanes) return remaining_sum<2 * n>(v + shift_down<n>(v, 0.f));
  return v;
}

// All lanes, in an order of its own.
N3D_HD float sum(f32x v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(reinterpret_cast<__m512>(v));
#else
  return remaining_sum(v)[0];
#endif
}
N3D_HD double sum(double v) { return v; }

}  // namespace n3d::N3D_ISA
