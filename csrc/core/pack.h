// Moving data between memory and packs: gathers, interleaving, transposition. CPU only; simd.h has the arithmetic.
//
// Lanes<T> names what a kernel templated on the scalar T computes with: packs of float, single doubles (those serve
// gradient checks, not training), and the unsigned integers of as many lanes.
#pragma once

#include "core/simd.h"

namespace n3d::N3D_ISA {

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  using S = f32x;
  using I = u32x;
  static constexpr int kCount = kLanes;
};
template <>
struct Lanes<double> {
  using S = double;
  using I = uint32_t;
  static constexpr int kCount = 1;
};

N3D_HD double load(const double* p) { return *p; }
N3D_HD void store(double* p, double v) { *p = v; }
N3D_HD void store(uint32_t* p, uint32_t v) { *p = v; }
N3D_HD void store(uint32_t* p, u32x v) { __builtin_memcpy(p, &v, sizeof v); }

// Past the caches; p must be a multiple of the pack's size.
N3D_HD void store_streamed(float* p, f32x v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, (__m256)v);
#else
  store(p, v);
#endif
}
N3D_HD void store_streamed(double* p, double v) { *p = v; }

// Other threads see what this one streamed before.
N3D_HD void end_streaming() {
#if defined(__AVX2__) || defined(__AVX512F__)
  _mm_sfence();
#endif
}

// (a₀ b₀ a₁ b₁ …), in two packs.
N3D_HD void zip(f32x a, f32x b, f32x& lo, f32x& hi) {
#if defined(__AVX512F__)
  const __m512i l = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i h = _mm512_add_epi32(l, _mm512_set1_epi32(8));
  lo = (f32x)_mm512_permutex2var_ps((__m512)a, l, (__m512)b);
  hi = (f32x)_mm512_permutex2var_ps((__m512)a, h, (__m512)b);
#elif defined(__AVX2__)
  const __m256 l = _mm256_unpacklo_ps((__m256)a, (__m256)b), h = _mm256_unpackhi_ps((__m256)a, (__m256)b);
  lo = (f32x)_mm256_permute2f128_ps(l, h, 0x20);
  hi = (f32x)_mm256_permute2f128_ps(l, h, 0x31);
#else
  lo = f32x{a[0], b[0], a[1], b[1]};
  hi = f32x{a[2], b[2], a[3], b[3]};
#endif
}

N3D_HD void store_zipped(float* p, f32x a, f32x b) {
  f32x lo, hi;
  zip(a, b, lo, hi);
  store(p, lo), store(p + kLanes, hi);
}
N3D_HD void store_zipped(double* p, double a, double b) { p[0] = a, p[1] = b; }

// (a b c d) of one lane after the other: lane j's are the quad_of(j)-th, which takes the fewest shuffles.
constexpr int quad_of(int j) { return j % 4 * (kLanes / 4) + j / 4; }
N3D_HD void store_quads(float* p, f32x a, f32x b, f32x c, f32x d) {
#if defined(__AVX512F__)
  const __m512 ab0 = _mm512_unpacklo_ps((__m512)a, (__m512)b), ab2 = _mm512_unpackhi_ps((__m512)a, (__m512)b);
  const __m512 cd0 = _mm512_unpacklo_ps((__m512)c, (__m512)d), cd2 = _mm512_unpackhi_ps((__m512)c, (__m512)d);
  store(p, (f32x)_mm512_unpacklo_pd((__m512d)ab0, (__m512d)cd0));
  store(p + kLanes, (f32x)_mm512_unpackhi_pd((__m512d)ab0, (__m512d)cd0));
  store(p + 2 * kLanes, (f32x)_mm512_unpacklo_pd((__m512d)ab2, (__m512d)cd2));
  store(p + 3 * kLanes, (f32x)_mm512_unpackhi_pd((__m512d)ab2, (__m512d)cd2));
#elif defined(__AVX2__)
  const __m256 ab0 = _mm256_unpacklo_ps((__m256)a, (__m256)b), ab2 = _mm256_unpackhi_ps((__m256)a, (__m256)b);
  const __m256 cd0 = _mm256_unpacklo_ps((__m256)c, (__m256)d), cd2 = _mm256_unpackhi_ps((__m256)c, (__m256)d);
  store(p, (f32x)_mm256_unpacklo_pd((__m256d)ab0, (__m256d)cd0));
  store(p + kLanes, (f32x)_mm256_unpackhi_pd((__m256d)ab0, (__m256d)cd0));
  store(p + 2 * kLanes, (f32x)_mm256_unpacklo_pd((__m256d)ab2, (__m256d)cd2));
  store(p + 3 * kLanes, (f32x)_mm256_unpackhi_pd((__m256d)ab2, (__m256d)cd2));
#else
  for (int j = 0; j < kLanes; ++j) {
    float* to = p + 4 * quad_of(j);
    to[0] = a[j], to[1] = b[j], to[2] = c[j], to[3] = d[j];
  }
#endif
}
N3D_HD void store_quads(double* p, double a, double b, double c, double d) { p[0] = a, p[1] = b, p[2] = c, p[3] = d; }

// In place: row i, lane j becomes row j, lane i. Zipping row i with row i + half, log₂ kLanes times, transposes.
N3D_HD void transpose(f32x (&rows)[kLanes]) {
  for (int round = 1; round < kLanes; round *= 2) {
    f32x next[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) zip(rows[i], rows[i + kLanes / 2], next[2 * i], next[2 * i + 1]);
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

// base[index].
N3D_HD f32x gather(const float* base, u32x index) {
#if defined(__AVX512F__)
  return (f32x)_mm512_i32gather_ps((__m512i)index, base, 4);
#elif defined(__AVX2__)
  return (f32x)_mm256_i32gather_ps(base, (__m256i)index, 4);
#else
  f32x v;
  for (int i = 0; i < kLanes; ++i) v[i] = base[index[i]];
  return v;
#endif
}
N3D_HD double gather(const double* base, uint32_t index) { return base[index]; }

// The lanes of a pack of indices one by one, for addresses. j is known when compiling.
// AVX2: by way of general registers. Stored whole and read back in parts they are as few instructions, but then Zen 3
// guesses which store a load reads from, and how often it is wrong depends on where the code lies in memory: the hash
// grid's encoding took 50 or 80 ms by that.
#if defined(__AVX2__) && !defined(__AVX512F__)
struct Indices {
  uint64_t pairs[4];
  N3D_HD explicit Indices(u32x v) {
    const __m128i low = _mm256_castsi256_si128((__m256i)v), high = _mm256_extracti128_si256((__m256i)v, 1);
    pairs[0] = _mm_cvtsi128_si64(low), pairs[1] = _mm_extract_epi64(low, 1);
    pairs[2] = _mm_cvtsi128_si64(high), pairs[3] = _mm_extract_epi64(high, 1);
  }
  N3D_HD size_t operator[](int j) const { return j % 2 ? pairs[j / 2] >> 32 : uint32_t(pairs[j / 2]); }
};
#else
struct Indices {
  uint32_t lanes[kLanes];
  N3D_HD explicit Indices(u32x v) { store(lanes, v); }
  N3D_HD size_t operator[](int j) const { return lanes[j]; }
};
#endif

// a = base[2 index], b = base[2 index + 1]: one 8-byte load a lane.
N3D_HD void gather_pair(const float* base, u32x index, f32x& a, f32x& b) {
#if defined(__AVX512F__)
  const __m512i i = (__m512i)index;
  const __m512 lo = _mm512_castpd_ps(_mm512_i32gather_pd(_mm512_castsi512_si256(i), base, 8));
  const __m512 hi = _mm512_castpd_ps(_mm512_i32gather_pd(_mm512_extracti64x4_epi64(i, 1), base, 8));
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  a = (f32x)_mm512_permutex2var_ps(lo, even, hi);
  b = (f32x)_mm512_permutex2var_ps(lo, _mm512_add_epi32(even, _mm512_set1_epi32(1)), hi);
#elif defined(__AVX2__)
  // Eight loads instead of two gather instructions, which AMD's cores take apart into far more than eight (Zen 3).
  const Indices i(index);
  const auto two = [&](int j, int k) {
    const __m128d first = _mm_load_sd(reinterpret_cast<const double*>(base + 2 * i[j]));
    return _mm_loadh_pd(first, reinterpret_cast<const double*>(base + 2 * i[k]));
  };
  const __m256 lo = _mm256_castpd_ps(_mm256_set_m128d(two(4, 5), two(0, 1)));
  const __m256 hi = _mm256_castpd_ps(_mm256_set_m128d(two(6, 7), two(2, 3)));
  a = (f32x)_mm256_shuffle_ps(lo, hi, 0x88);
  b = (f32x)_mm256_shuffle_ps(lo, hi, 0xdd);
#else
  for (int i = 0; i < kLanes; ++i) {
    const float* pair = base + 2 * int64_t(index[i]);
    a[i] = pair[0], b[i] = pair[1];
  }
#endif
}
N3D_HD void gather_pair(const double* base, uint32_t index, double& a, double& b) {
  a = base[2 * int64_t(index)], b = base[2 * int64_t(index) + 1];
}

// The same, and c and d behind them: base[2 index + 2] and base[2 index + 3], in one 16-byte load a lane.
N3D_HD void gather_pairs(const float* base, u32x index, f32x& a, f32x& b, f32x& c, f32x& d) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const Indices i(index);
  const auto two = [&](int j) {
    return _mm256_set_m128(_mm_loadu_ps(base + 2 * i[j + 4]), _mm_loadu_ps(base + 2 * i[j]));
  };
  const __m256 t0 = two(0), t1 = two(1), t2 = two(2), t3 = two(3);
  const __m256d ab01 = (__m256d)_mm256_unpacklo_ps(t0, t1), ab23 = (__m256d)_mm256_unpacklo_ps(t2, t3);
  const __m256d cd01 = (__m256d)_mm256_unpackhi_ps(t0, t1), cd23 = (__m256d)_mm256_unpackhi_ps(t2, t3);
  a = (f32x)_mm256_unpacklo_pd(ab01, ab23), b = (f32x)_mm256_unpackhi_pd(ab01, ab23);
  c = (f32x)_mm256_unpacklo_pd(cd01, cd23), d = (f32x)_mm256_unpackhi_pd(cd01, cd23);
#else
  gather_pair(base, index, a, b);
  gather_pair(base, index + 1u, c, d);
#endif
}
N3D_HD void gather_pairs(const double* base, uint32_t index, double& a, double& b, double& c, double& d) {
  gather_pair(base, index, a, b);
  gather_pair(base, index + 1, c, d);
}

// Packs in a cache line. What is streamed past the caches goes by whole lines: in parts, it would cost as much as
// several.
constexpr int kLine = 64 / sizeof(f32x);

// Rows of memory, `pitch` apart, to planes `stride` apart: planes[c][i] = rows[i][c] for i < count, c < columns.
// Streamed stores pass by the caches, for planes that are too large to stay there.
template <class T>
inline void rows_to_planes(const T* rows, int64_t pitch, int64_t count, int64_t columns, T* planes, int64_t stride,
                           bool streamed) {
  int64_t whole = 0, c0 = 0;  // rows, and columns of them, that were transposed in tiles
  if constexpr (sizeof(T) == 4) {
    whole = count / kLanes * kLanes;
    streamed = streamed && reinterpret_cast<uintptr_t>(planes) % sizeof(f32x) == 0 && stride % kLanes == 0;
    for (; c0 + kLanes <= columns; c0 += kLanes)
      for (int64_t i = 0; i < whole; i += kLine * kLanes) {
        const int tiles = int(whole - i < kLine * kLanes ? (whole - i) / kLanes : kLine);
        f32x tile[kLine][kLanes];
        for (int t = 0; t < tiles; ++t) {
          for (int k = 0; k < kLanes; ++k) tile[t][k] = load(rows + (i + t * kLanes + k) * pitch + c0);
          transpose(tile[t]);
        }
        for (int k = 0; k < kLanes; ++k)
          for (int t = 0; t < tiles; ++t) {
            T* to = planes + (c0 + k) * stride + i + t * kLanes;
            streamed ? store_streamed(to, tile[t][k]) : store(to, tile[t][k]);
          }
      }
    if (streamed) end_streaming();
  }
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t i = c < c0 ? whole : 0; i < count; ++i) planes[c * stride + i] = rows[i * pitch + c];
}

// The other way round. Streamed stores pass by the caches, for rows that are too many to stay there.
template <class T>
inline void planes_to_rows(const T* planes, int64_t stride, int64_t count, int64_t columns, T* rows, int64_t pitch,
                           bool streamed) {
  int64_t whole = 0, c0 = 0;
  if constexpr (sizeof(T) == 4) {
    whole = count / kLanes * kLanes;
    streamed = streamed && reinterpret_cast<uintptr_t>(rows) % sizeof(f32x) == 0 && pitch % kLanes == 0;
    for (int tiles; (tiles = int((columns - c0) / kLanes)) > 0; c0 += tiles * kLanes) {
      tiles = tiles < kLine ? tiles : kLine;
      for (int64_t i = 0; i < whole; i += kLanes) {
        f32x tile[kLine][kLanes];
        for (int t = 0; t < tiles; ++t) {
          for (int k = 0; k < kLanes; ++k) tile[t][k] = load(planes + (c0 + t * kLanes + k) * stride + i);
          transpose(tile[t]);
        }
        for (int k = 0; k < kLanes; ++k)
          for (int t = 0; t < tiles; ++t) {
            T* to = rows + (i + k) * pitch + c0 + t * kLanes;
            streamed ? store_streamed(to, tile[t][k]) : store(to, tile[t][k]);
          }
      }
    }
  }
  if (streamed) end_streaming();
  for (int64_t i = 0; i < count; ++i)
    for (int64_t c = i < whole ? c0 : 0; c < columns; ++c) rows[i * pitch + c] = planes[c * stride + i];
}

}  // namespace n3d::N3D_ISA
