// Arrays of short rows (points, quaternions, colours, harmonics) to one pack per column, and back. CPU only.
//
// Rows lie one behind the other; a pack holds a column of the next kLanes rows. Of the last rows of an array there may
// be fewer, n: nothing beyond them is read (the lanes are zero) or written.
#pragma once

#include "core/lanes.h"
#include "core/pack.h"

namespace n3d::N3D_ISA {

// (a₀ a₁ a₂ …) = (e₀ o₀ e₁ …), in two packs: zip's inverse.
N3D_HD void unzip(f32x a, f32x b, f32x& even, f32x& odd) {
#if defined(__AVX512F__)
  const __m512i e = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  even = (f32x)_mm512_permutex2var_ps((__m512)a, e, (__m512)b);
  odd = (f32x)_mm512_permutex2var_ps((__m512)a, _mm512_add_epi32(e, _mm512_set1_epi32(1)), (__m512)b);
#elif defined(__AVX2__)
  const __m256d e = _mm256_castps_pd(_mm256_shuffle_ps((__m256)a, (__m256)b, 0x88));  // lanes 0 1 4 5 2 3 6 7
  const __m256d o = _mm256_castps_pd(_mm256_shuffle_ps((__m256)a, (__m256)b, 0xdd));
  even = (f32x)_mm256_permute4x64_pd(e, 0xd8);
  odd = (f32x)_mm256_permute4x64_pd(o, 0xd8);
#else
  even = f32x{a[0], a[2], b[0], b[2]};
  odd = f32x{a[1], a[3], b[1], b[3]};
#endif
}

// Rows of three. Position v kLanes + i of the kLanes rows, lane i of pack v, belongs to column (v kLanes + i) mod 3. As
// 3 and kLanes have no common divisor, a column's positions are each in another lane: one permutation gathers them.
struct Threes {
  int32_t is_column[3][3][kLanes];  // [v][c]: −1 where lane i of pack v belongs to column c
  int32_t lane[3][kLanes];          // [c]: where row i's position is
  int32_t row[3][kLanes];           // [c]: whose position lane i is

  constexpr Threes() : is_column(), lane(), row() {
    for (int v = 0; v < 3; ++v)
      for (int i = 0; i < kLanes; ++i) {
        const int at = v * kLanes + i;
        is_column[v][at % 3][i] = -1;
        lane[at % 3][at / 3] = i;
        row[at % 3][i] = at / 3;
      }
  }
};
inline constexpr Threes kThrees{};

template <int kColumns>
N3D_HD void deinterleave(const float* p, f32x* out) {
  f32x flat[kColumns];
  for (int v = 0; v < kColumns; ++v) flat[v] = load(p + v * kLanes);
  if constexpr (kColumns == 1) out[0] = flat[0];
  if constexpr (kColumns == 2) unzip(flat[0], flat[1], out[0], out[1]);
  if constexpr (kColumns == 3)
    for (int c = 0; c < 3; ++c) {
      const f32x rest = select(load(kThrees.is_column[1][c]), flat[1], flat[2]);
      out[c] = permute(select(load(kThrees.is_column[0][c]), flat[0], rest), load(kThrees.lane[c]));
    }
  if constexpr (kColumns == 4) {
    f32x even[2], odd[2];
    for (int k = 0; k < 2; ++k) unzip(flat[2 * k], flat[2 * k + 1], even[k], odd[k]);
    unzip(even[0], even[1], out[0], out[2]);
    unzip(odd[0], odd[1], out[1], out[3]);
  }
}

template <int kColumns>
N3D_HD void interleave(const f32x* in, float* p) {
  f32x flat[kColumns];
  if constexpr (kColumns == 1) flat[0] = in[0];
  if constexpr (kColumns == 2) zip(in[0], in[1], flat[0], flat[1]);
  if constexpr (kColumns == 3) {
    f32x lanes[3];
    for (int c = 0; c < 3; ++c) lanes[c] = permute(in[c], load(kThrees.row[c]));
    for (int v = 0; v < 3; ++v)
      flat[v] =
          select(load(kThrees.is_column[v][0]), lanes[0], select(load(kThrees.is_column[v][1]), lanes[1], lanes[2]));
  }
  if constexpr (kColumns == 4) {
    f32x even[2], odd[2];
    zip(in[0], in[2], even[0], even[1]);
    zip(in[1], in[3], odd[0], odd[1]);
    for (int k = 0; k < 2; ++k) zip(even[k], odd[k], flat[2 * k], flat[2 * k + 1]);
  }
  for (int v = 0; v < kColumns; ++v) store(p + v * kLanes, flat[v]);
}

// Rows of one to four scalars.
template <int kColumns>
N3D_HD void load_rows(const float* p, int n, f32x* out) {
  if (n >= kLanes) return deinterleave<kColumns>(p, out);
  float copy[kColumns * kLanes] = {};
  for (int i = 0; i < n * kColumns; ++i) copy[i] = p[i];
  deinterleave<kColumns>(copy, out);
}
template <int kColumns>
N3D_HD void load_rows(const double* p, int, double* out) {
  for (int c = 0; c < kColumns; ++c) out[c] = p[c];
}

template <int kColumns>
N3D_HD void store_rows(float* p, int n, const f32x* in) {
  if (n >= kLanes) return interleave<kColumns>(in, p);
  float copy[kColumns * kLanes];
  interleave<kColumns>(in, copy);
  for (int i = 0; i < n * kColumns; ++i) p[i] = copy[i];
}
template <int kColumns>
N3D_HD void store_rows(double* p, int, const double* in) {
  for (int c = 0; c < kColumns; ++c) p[c] = in[c];
}

// Longer rows, `pitch` apart: tiles of kLanes columns are transposed, the last of which may overlap the one before.
template <int kColumns>
N3D_HD void load_columns(const float* p, int64_t pitch, int n, f32x* out) {
  constexpr int width = kColumns < kLanes ? kColumns : kLanes;
  for (int c = 0, done = 0; done < kColumns; c = done + width < kColumns ? done : kColumns - width) {
    f32x tile[kLanes];
    for (int k = 0; k < kLanes; ++k) tile[k] = k < n ? load_first(p + k * pitch + c, width) : f32x{};
    transpose(tile);
    for (int k = 0; k < width; ++k) out[c + k] = tile[k];
    done = c + width;
  }
}
template <int kColumns>
N3D_HD void load_columns(const double* p, int64_t, int, double* out) {
  for (int c = 0; c < kColumns; ++c) out[c] = p[c];
}

// Rows that lie one behind the other. Streamed, they pass by the caches, for arrays that would not stay there.
template <int kColumns>
N3D_HD void store_columns(float* p, int n, const f32x* in, bool streamed) {
  constexpr int width = kColumns < kLanes ? kColumns : kLanes;
  alignas(64) float copy[kColumns * kLanes];
  streamed = streamed && n >= kLanes && reinterpret_cast<uintptr_t>(p) % sizeof(f32x) == 0;
  float* rows = streamed ? copy : p;
  for (int c = 0, done = 0; done < kColumns; c = done + width < kColumns ? done : kColumns - width) {
    f32x tile[kLanes];
    for (int k = 0; k < kLanes; ++k) tile[k] = k < width ? in[c + k] : f32x{};
    transpose(tile);
    for (int k = 0; k < kLanes && k < n; ++k) store_first(rows + k * kColumns + c, tile[k], width);
    done = c + width;
  }
  if (streamed)
    for (int k = 0; k < kColumns; ++k) store_streamed(p + k * kLanes, load(copy + k * kLanes));
}
template <int kColumns>
N3D_HD void store_columns(double* p, int, const double* in, bool) {
  for (int c = 0; c < kColumns; ++c) p[c] = in[c];
}

}  // namespace n3d::N3D_ISA
