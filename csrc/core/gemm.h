// Small matrix products on tiles that stay in cache, as register blocks: the inside of fused networks.
//
// A tile is row-major, kTileRows high; `pitch` scalars lie between its rows. Pitches are few and known at compile time,
// so that a block's rows are constant offsets from one pointer. The right-hand matrix is packed once into panels
// (pack_panels) and then read from front to back.
#pragma once

#include <type_traits>

#ifndef __CUDACC__
#include "core/pack.h"
#endif

namespace n3d {

// Every pack divides 16: columns of panels, and those that are written to tiles, are its multiples.
constexpr int padded(int width) { return (width + 15) / 16 * 16; }
constexpr int tile_pitch(int width) {
  return width <= 16 ? 16 : width <= 32 ? 32 : width <= 64 ? 64 : width <= 128 ? 128 : 256;
}
constexpr int panel_depth(int depth) { return (depth + 3) / 4 * 4; }  // loops over k advance by four

namespace N3D_ISA {

#ifndef __CUDACC__

constexpr int kTileRows = 96;  // a multiple of every block height below; a few tiles and their panels fit L2

// f(compile-time pitch) for a tile `width` columns wide.
template <class F>
N3D_HD void with_pitch(int width, const F& f) {
  if (width <= 16) return f(std::integral_constant<int, 16>{});
  if (width <= 32) return f(std::integral_constant<int, 32>{});
  if (width <= 64) return f(std::integral_constant<int, 64>{});
  if (width <= 128) return f(std::integral_constant<int, 128>{});
  f(std::integral_constant<int, 256>{});
}

// a − 0 is a for every a, so this is a bare broadcast; 0 + a would be an addition, for the sake of −0.
template <class T>
N3D_HD auto broadcast(T a) {
  return a - typename Lanes<T>::S{};
}

// `rows` rows of `columns` scalars from one array to another.
template <class T>
N3D_HD void copy_rows(const T* from, int64_t from_stride, int rows, int columns, T* to, int64_t to_stride) {
  constexpr int lanes = Lanes<T>::kCount;
  for (int r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
    int i = 0;
    for (; i + lanes <= columns; i += lanes) store(to + i, load(from + i));
    for (; i < columns; ++i) to[i] = from[i];
  }
}

// Memory that the next tile needs, fetched a few lines at a time between blocks of arithmetic: the hardware's own
// prefetching stops at every page and starts again too late.
class Prefetch {
 public:
  template <class T>
  void add(const T* begin, int64_t scalars) {
    ranges_[count_++] = {reinterpret_cast<const char*>(begin), reinterpret_cast<const char*>(begin + scalars)};
  }
  void some() {
    for (int lines = 16; lines > 0 && next_ < count_; --lines) {
      __builtin_prefetch(ranges_[next_].at, 0, 2);  // into L2: L1 is full of what is in use
      if ((ranges_[next_].at += 64) >= ranges_[next_].end) ++next_;
    }
  }

 private:
  struct Range {
    const char *at, *end;
  } ranges_[4];
  int count_ = 0, next_ = 0;
};

// A finish that changes nothing.
struct Keep {
  template <class S>
  N3D_HD S operator()(int, S c) const {
    return c;
  }
};

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

// f(first column, compile-time number of packs) for panels that cover `columns`, padded.
template <class T, class F>
N3D_HD void for_each_panel(int columns, const F& f) {
  constexpr int lanes = Lanes<T>::kCount;
  int packs = padded(columns) / lanes, at = 0;
  for (; packs >= kMaxPacks; packs -= kMaxPacks, at += kMaxPacks * lanes)
    f(at, std::integral_constant<int, kMaxPacks>{});
  if constexpr (kMaxPacks > 3)
    if (packs == 3) return f(at, std::integral_constant<int, 3>{});
  if constexpr (kMaxPacks > 2)
    if (packs == 2) return f(at, std::integral_constant<int, 2>{});
  if (packs == 1) f(at, std::integral_constant<int, 1>{});
}

// B (depth, columns), B[k][n] = b[k · stride_k + n · stride_n], into panels of a few packs each: panel, then k, then n.
// Needs panel_depth(depth) · padded(columns) scalars; the padding is zero.
template <class T>
inline void pack_panels(const T* b, int64_t stride_k, int64_t stride_n, int depth, int columns, T* out) {
  for_each_panel<T>(columns, [&](int first, auto packs) {
    for (int k = 0; k < panel_depth(depth); ++k)
      for (int n = first; n < first + packs * Lanes<T>::kCount; ++n)
        *out++ = k < depth && n < columns ? b[k * stride_k + n * stride_n] : T(0);
  });
}

constexpr int kAhead = 8;  // rows of a panel from L2 to L1 before they are needed

template <int Packs, int Pitch, class T, class Finish>
N3D_HD void multiply_block(const T* a, const T* panel, int depth, const T* init, T* out, int out_pitch,
                           const Finish& finish) {
  using S = typename Lanes<T>::S;
  constexpr int kRows = block_rows(Packs), lanes = Lanes<T>::kCount;
  S c[kRows][Packs];
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) c[r][p] = init ? load(init + p * lanes) : S{};
  for (int k = 0; k < depth; k += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, panel += Packs * lanes) {
      S b[Packs];
#pragma GCC unroll 4
      for (int p = 0; p < Packs; ++p) {
        b[p] = load(panel + p * lanes);
        __builtin_prefetch(panel + (kAhead * Packs + p) * lanes);
      }
#pragma GCC unroll 24
      for (int r = 0; r < kRows; ++r) {
        const S value = broadcast(a[r * Pitch + k + i]);
#pragma GCC unroll 4
        for (int p = 0; p < Packs; ++p) c[r][p] += value * b[p];
      }
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) {
      const int at = r * out_pitch + p * lanes;
      store(out + at, finish(at, c[r][p]));
    }
}

// out = finish(init + A · B) for a tile A (kTileRows, depth) and B in panels.
// A's columns from depth to padded(depth) meet zeros in the panels: they may hold anything finite.
// init: padded(columns) scalars that every row starts from (a bias), or null for zero.
// finish(position, pack): maps the result for out[position].
template <class T, class Finish>
N3D_HD void multiply(const T* a, int depth, const T* panels, int columns, const T* init, T* out, Prefetch& soon,
                     const Finish& finish) {
  const int out_pitch = tile_pitch(columns);
  with_pitch(depth, [&](auto pitch) {
    for_each_panel<T>(columns, [&](int first, auto packs) {
      for (int row = 0; row < kTileRows; row += block_rows(packs)) {
        const int at = row * out_pitch + first;
        multiply_block<packs, pitch>(a + row * pitch, panels + first * panel_depth(depth), depth,
                                     init ? init + first : nullptr, out + at, out_pitch,
                                     [&](int i, auto c) { return finish(at + i, c); });
        soon.some();
      }
    });
  });
}

template <int Packs, class T>
N3D_HD void outer_block(const T* a, int a_pitch, const T* b, int b_pitch, T* c, int c_pitch) {
  using S = typename Lanes<T>::S;
  constexpr int kRows = outer_rows(Packs), lanes = Lanes<T>::kCount;
  S sum[kRows][Packs];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) sum[i][p] = load(c + i * c_pitch + p * lanes);
  for (int row = 0; row < kTileRows; ++row) {
    S value[Packs];
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) value[p] = load(b + row * b_pitch + p * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const S factor = broadcast(a[row * a_pitch + i]);
#pragma GCC unroll 4
      for (int p = 0; p < Packs; ++p) sum[i][p] += factor * value[p];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int p = 0; p < Packs; ++p) store(c + i * c_pitch + p * lanes, sum[i][p]);
}

// C += Aᵀ · B for tiles A (kTileRows, a_columns) and B (kTileRows, b_columns): a weight's gradient.
// C has padded(a_columns) rows of padded(b_columns).
template <class T>
N3D_HD void accumulate_outer(const T* a, int a_columns, const T* b, int b_columns, T* c, Prefetch& soon) {
  for_each_panel<T>(b_columns, [&](int first, auto packs) {
    const int a_pitch = tile_pitch(a_columns), b_pitch = tile_pitch(b_columns), c_pitch = padded(b_columns);
    for (int i = 0; i < a_columns; i += outer_rows(packs)) {
      outer_block<packs>(a + i, a_pitch, b + first, b_pitch, c + i * c_pitch + first, c_pitch);
      soon.some();
    }
  });
}

#endif  // __CUDACC__

}  // namespace N3D_ISA
}  // namespace n3d
