// Small matrix products on tiles that stay in cache, as register blocks: the inside of fused networks.
//
// A tile is row-major with `pitch` scalars between rows; its columns are padded to a multiple of 16, which every pack
// divides. The right-hand matrix is packed once into panels (pack_panels) and then read from front to back.
#pragma once

#include <type_traits>

#include "core/simd.h"

namespace n3d::N3D_ISA {

constexpr int kTileRows = 48;  // a multiple of every block height below; two 64-wide tiles share an L1 with a panel
constexpr int kPad = 16;       // columns of tiles and panels come in sixteens

constexpr int padded(int64_t width) { return static_cast<int>((width + kPad - 1) / kPad * kPad); }

// What a loop over T works on: packs of float, single doubles (those serve gradient checks only).
template <class T>
struct PackOf {
  using type = T;
  static constexpr int lanes = 1;
};
template <>
struct PackOf<float> {
  using type = f32x;
  static constexpr int lanes = kLanes;
};
template <class T>
using Pack = typename PackOf<T>::type;

template <class T>
N3D_HD Pack<T> load_pack(const T* p) {
  Pack<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
N3D_HD void store_pack(T* p, Pack<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}
// a − 0 is a for every a, so this is a bare broadcast; 0 + a would be an addition, for the sake of −0.
template <class T>
N3D_HD Pack<T> broadcast(T a) {
  return a - Pack<T>{};
}

// Accumulators that fit the register file beside the operands: of 32 registers, or of 16.
#if defined(__AVX512F__)
constexpr int kAccumulators = 24, kOuterAccumulators = 16, kMaxPacks = 4;
#else
constexpr int kAccumulators = 12, kOuterAccumulators = 8, kMaxPacks = 2;
#endif

constexpr int block_rows(int packs) { return kAccumulators / packs; }
constexpr int outer_rows(int packs) {
  return packs == 1 ? kOuterAccumulators : packs == 2 ? kOuterAccumulators / 2 : 4;
}

// f(first column, compile-time number of packs) for panels that cover `columns`, a multiple of kPad.
template <class T, class F>
N3D_HD void for_each_panel(int columns, const F& f) {
  constexpr int lanes = PackOf<T>::lanes;
  int packs = columns / lanes, at = 0;
  for (; packs >= kMaxPacks; packs -= kMaxPacks, at += kMaxPacks * lanes)
    f(at, std::integral_constant<int, kMaxPacks>{});
  if constexpr (kMaxPacks > 3)
    if (packs == 3) return f(at, std::integral_constant<int, 3>{});
  if constexpr (kMaxPacks > 2)
    if (packs == 2) return f(at, std::integral_constant<int, 2>{});
  if (packs == 1) f(at, std::integral_constant<int, 1>{});
}

// B (depth, columns), B[k][n] = b[k · stride_k + n · stride_n], into panels of a few packs each: panel, then k, then n.
// Needs depth · padded(columns) scalars; the padding is zero.
template <class T>
inline void pack_panels(const T* b, int64_t stride_k, int64_t stride_n, int depth, int columns, T* out) {
  for_each_panel<T>(padded(columns), [&](int first, auto packs) {
    for (int k = 0; k < depth; ++k)
      for (int n = first; n < first + packs * PackOf<T>::lanes; ++n)
        *out++ = n < columns ? b[k * stride_k + n * stride_n] : T(0);
  });
}

template <int Packs, class T, class Finish>
N3D_HD void multiply_block(const T* a, int pitch, const T* panel, int depth, const T* init, const Finish& finish) {
  constexpr int kRows = block_rows(Packs), lanes = PackOf<T>::lanes;
  Pack<T> c[kRows][Packs];
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) c[r][p] = init ? load_pack(init + p * lanes) : Pack<T>{};
  for (int k = 0; k < depth; ++k) {
    Pack<T> b[Packs];
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) b[p] = load_pack(panel + (k * Packs + p) * lanes);
#pragma GCC unroll 24
    for (int r = 0; r < kRows; ++r) {
      const Pack<T> value = broadcast(a[r * pitch + k]);
#pragma GCC unroll 4
      for (int p = 0; p < Packs; ++p) c[r][p] += value * b[p];
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) finish(r, p * lanes, c[r][p]);
}

// C = init + A · B for a tile A (kTileRows, depth) and B in panels; finish(row, column, pack) receives C.
// init: `columns` scalars that every row starts from (a bias), or null for zero.
template <class T, class Finish>
N3D_HD void multiply(const T* a, int pitch, const T* panels, int depth, int columns, const T* init,
                     const Finish& finish) {
  for_each_panel<T>(columns, [&](int first, auto packs) {
    const T* panel = panels + first * depth;
    for (int row = 0; row < kTileRows; row += block_rows(packs))
      multiply_block<packs>(a + row * pitch, pitch, panel, depth, init ? init + first : nullptr,
                            [&](int r, int column, Pack<T> c) { finish(row + r, first + column, c); });
  });
}

template <int Packs, class T>
N3D_HD void outer_block(const T* a, int a_pitch, const T* b, int b_pitch, T* c) {
  constexpr int kRows = outer_rows(Packs), lanes = PackOf<T>::lanes;
  Pack<T> sum[kRows][Packs];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) sum[i][p] = load_pack(c + i * b_pitch + p * lanes);
  for (int row = 0; row < kTileRows; ++row) {
    Pack<T> value[Packs];
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) value[p] = load_pack(b + row * b_pitch + p * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Pack<T> factor = broadcast(a[row * a_pitch + i]);
#pragma GCC unroll 4
      for (int p = 0; p < Packs; ++p) sum[i][p] += factor * value[p];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) store_pack(c + i * b_pitch + p * lanes, sum[i][p]);
}

// C += Aᵀ · B for tiles A (kTileRows, a_columns) and B (kTileRows, b_columns): a weight's gradient.
// C has padded(a_columns) rows of b_columns; b_columns is a multiple of kPad.
template <class T>
N3D_HD void accumulate_outer(const T* a, int a_pitch, int a_columns, const T* b, int b_columns, T* c) {
  for_each_panel<T>(b_columns, [&](int first, auto packs) {
    for (int i = 0; i < a_columns; i += outer_rows(packs))
      outer_block<packs>(a + i, a_pitch, b + first, b_columns, c + i * b_columns + first);
  });
}

}  // namespace n3d::N3D_ISA
