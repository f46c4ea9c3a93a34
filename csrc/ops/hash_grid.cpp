// CPU driver. Points go through in chunks; within a chunk the work is cut by level, because one level's table fits a
// core's L2 cache and the whole does not:
//   1. rows to planes: x, g and v_features as structure of arrays, points clamped, the last pack padded;
//   2. level by level, planes in, planes out: features, or the sum of the position's gradient over the levels;
//   3. planes to rows.
// scatter has no third step: it adds to the table's gradient. A range of one level's entries belongs to one task, which
// goes through the points in order; so there are no atomics, and the sums depend neither on the number of threads nor
// on the ranges.
#include "ops/hash_grid.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/lanes.h"
#include "core/pack.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int64_t kBlock = 1 << 11;     // points of a level handed to a thread at once; a multiple of every kLanes
constexpr int64_t kRowBlock = 1 << 10;  // points transposed at once, likewise
constexpr int64_t kStreamed = 1 << 20;  // scalars of features from which planes and rows pass by the caches: they would
                                        // not stay until they are read, and push the table out
constexpr int64_t kFetched = 1 << 20;   // bytes of a level's table from which it is fetched as a whole
constexpr int64_t kWide = 1 << 20;      // bytes of a dense level's gradient under which x and x + 1 are added at once:
                                        // beyond, what lies in two cache lines costs more
constexpr int64_t kAhead = 3 << 20;     // bytes of a level's table from which entries are fetched a pack ahead

// The planes of a chunk, in the workspace: a[c] + i is coordinate or feature c of the chunk's point i.
template <class T>
struct Chunk {
  int64_t first, count, stride;
  T *x, *g, *v, *out;

  Chunk(const HashGridArgs<T>& a, int64_t first_, int64_t stride_)
      : first(first_), count(a.n - first_ < stride_ ? a.n - first_ : stride_), stride(stride_) {
    x = a.workspace;
    g = x + 3 * stride;
    v = g + (a.direction ? 3 * stride : 0);
    out = v + (a.v_features ? a.levels * a.features * stride : 0);
  }
};

template <class T>
N3D_HD void load3(const T* planes, int64_t stride, int64_t i, typename Lanes<T>::S (&out)[3]) {
  for (int d = 0; d < 3; ++d) out[d] = load(planes + d * stride + i);
}

template <class T>
N3D_HD bool outside(T x) {
  return x < T(0) || x > T(1);
}

// Step 1 for points [begin, end) of the chunk; the last block also fills its last pack.
template <class T>
void load_planes(const HashGridArgs<T>& a, const Chunk<T>& chunk, int64_t begin, int64_t end, bool streamed) {
  const int64_t stride = chunk.stride;
  for (int d = 0; d < 3; ++d) {
    const T* x = a.positions + 3 * chunk.first + d;
    T* to = chunk.x + d * stride;
    for (int64_t i = begin; i < end; ++i) to[i] = x[3 * i] < T(0) ? T(0) : x[3 * i] > T(1) ? T(1) : x[3 * i];
    if (!a.direction) continue;
    const T* g = a.direction + 3 * chunk.first + d;
    T* along = chunk.g + d * stride;
    for (int64_t i = begin; i < end; ++i) along[i] = outside(x[3 * i]) ? T(0) : g[3 * i];
  }
  const int64_t columns = a.levels * a.features;
  if (a.v_features)
    rows_to_planes(a.v_features + (chunk.first + begin) * columns, columns, end - begin, columns, chunk.v + begin,
                   stride, streamed);
  if (end < chunk.count) return;
  const int64_t planes = (chunk.out - chunk.x) / stride;
  for (int64_t plane = 0; plane < planes; ++plane)
    for (int64_t i = end; i % kLanes; ++i) chunk.x[plane * stride + i] = T(0);
}

// The weights of a pack of points: w_c, or scale · ∇w_c·g.
template <bool kAlong, class T, class S>
N3D_HD void weights(const Chunk<T>& chunk, int64_t i, S scale, const S (&frac)[3], S (&w)[8]) {
  if constexpr (kAlong) {
    S g[3];
    load3(chunk.g, chunk.stride, i, g);
    for (int d = 0; d < 3; ++d) g[d] = g[d] * scale;
    corner_weights_along(frac, g, w);
  } else {
    corner_weights(frac, w);
  }
}

// Inline: GCC takes a function that only prefetches for one without effect.
template <class T>
N3D_HD void fetch(const T* table, uint32_t at) {
  __builtin_prefetch(table + at);
}
template <class T>
N3D_HD void fetch(const T* table, u32x at) {
  const Indices i(at);
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) __builtin_prefetch(table + i[j]);
}

// body(i, where in its cell the pack of points at i is, entries at its corners) for the packs of [begin, end).
// A table beyond the L2 cache: the entries of the next pack are on their way while this one is worked on. One fetch for
// two corners, as x and x + 1 are mostly in a line. Of smaller tables this only costs instructions.
template <bool kHashed, class T, class F>
N3D_HD void for_packs(const HashGridArgs<T>& a, const Chunk<T>& chunk, const HashGridLevel& level, int64_t begin,
                      int64_t end, const F& body) {
  using S = typename Lanes<T>::S;
  using I = typename Lanes<T>::I;
  constexpr int64_t kCount = Lanes<T>::kCount;
  struct Corners {
    S frac[3];
    I index[8];
  };
  const S scale = S{} + T(level.scale);
  const auto corners_at = [&](int64_t i, Corners& to) {
    S x[3];
    load3(chunk.x, chunk.stride, i, x);
    const GridCell<S, I> at(scale, x);
    for (int d = 0; d < 3; ++d) to.frac[d] = at.frac[d];
    corner_indices<kHashed>(level, at.cell, to.index);
  };
  if (int64_t(level.size * a.features * sizeof(T)) < kAhead) {
    for (int64_t i = begin; i < end; i += kCount) {
      Corners now;
      corners_at(i, now);
      body(i, now.frac, now.index);
    }
    return;
  }
  const T* table = a.table + level.offset * a.features;
  const uint32_t features = a.features;
  Corners corners[2];  // of this pack and of the next
  corners_at(begin, corners[0]);
  for (int64_t i = begin, turn = 0; i < end; i += kCount, turn ^= 1) {
    const Corners& now = corners[turn];
    Corners& next = corners[turn ^ 1];
    corners_at(i + kCount < end ? i + kCount : i, next);
    for (int c = 0; c < 8; c += 2) fetch(table, next.index[c] * features);
    body(i, now.frac, now.index);
  }
}

// Fetches a level's entries in their order where the points need most of them anyway: quicker than in the points'
// order.
template <class T>
N3D_HD void fetch_level(const HashGridArgs<T>& a, const Chunk<T>& chunk, int l) {
  const HashGridLevel& level = a.level[l];
  const int64_t bytes = int64_t(level.size) * a.features * sizeof(T);
  if (level.weight == 0 || bytes < kFetched || bytes > 2 * 64 * chunk.count) return;
  const char* table = reinterpret_cast<const char*>(a.table + level.offset * a.features);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(table + i);
}

// Whether on a dense level, where the entry of x + 1 follows that of x, one of them wraps round the level's end, to 0.
N3D_HD bool any_zero(uint32_t x) { return x == 0; }
N3D_HD bool any_zero(u32x x) { return lane_bits(x == 0u) != 0; }
template <class I>
N3D_HD bool wraps(const I (&index)[8]) {
  return any_zero(smaller(smaller(index[1], index[3]), smaller(index[5], index[7])));
}

// f(c, first, second) with two features, the k-th pair of `pairs`, of each corner's entry; on dense levels x and x + 1
// in the same load.
template <bool kHashed, class T, class I, class F>
N3D_HD void for_corners(const T* table, const I (&index)[8], uint32_t pairs, uint32_t k, const F& f) {
  using S = typename Lanes<T>::S;
  if constexpr (!kHashed)
    if (pairs == 1 && !wraps(index)) {
#pragma GCC unroll 4
      for (int c = 0; c < 8; c += 2) {
        S t0, t1, t2, t3;
        gather_pairs(table, index[c], t0, t1, t2, t3);
        f(c, t0, t1), f(c + 1, t2, t3);
      }
      return;
    }
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) {
    S t0, t1;
    gather_pair(table, index[c] * pairs + k, t0, t1);
    f(c, t0, t1);
  }
}

template <bool kHashed, bool kAlong, class T>
void encode_level(const HashGridArgs<T>& a, const Chunk<T>& chunk, int l, int64_t begin, int64_t end, bool streamed) {
  using S = typename Lanes<T>::S;
  streamed = streamed && sizeof(S) == 64;  // a part of a cache line, streamed, costs more than the whole
  using I = typename Lanes<T>::I;
  const HashGridLevel& level = a.level[l];
  const T* table = a.table + level.offset * a.features;
  T* out = chunk.out + l * a.features * chunk.stride;
  if (level.weight == 0) {
    for (int f = 0; f < a.features; ++f) std::fill(out + f * chunk.stride + begin, out + f * chunk.stride + end, T(0));
    return;
  }
  const S scale = S{} + T(level.scale), weight = S{} + T(level.weight);
  const uint32_t pairs = a.features / 2;
  for_packs<kHashed>(a, chunk, level, begin, end, [=, &chunk](int64_t i, const S(&frac)[3], const I(&index)[8]) {
    S w[8];
    weights<kAlong>(chunk, i, scale, frac, w);
    if (pairs == 0) {
      S sum{};
      for (int c = 0; c < 8; ++c) sum += w[c] * gather(table, index[c]);
      store(out + i, sum * weight);
    }
    for (uint32_t k = 0; k < pairs; ++k) {
      S sum0{}, sum1{};
      for_corners<kHashed>(table, index, pairs, k, [&](int c, S t0, S t1) {
        sum0 += w[c] * t0;
        sum1 += w[c] * t1;
      });
      T *to0 = out + 2 * k * chunk.stride + i, *to1 = to0 + chunk.stride;
      streamed ? store_streamed(to0, sum0 * weight) : store(to0, sum0 * weight);
      streamed ? store_streamed(to1, sum1 * weight) : store(to1, sum1 * weight);
    }
  });
  if (streamed) end_streaming();
}

// What a pack of points adds to a level's table: at each of the corners U scalars, or, where the entry of x + 1 follows
// that of x, at each of the edges along x all four.
template <class T, int U>
struct Terms {
  static constexpr int kLanes = Lanes<T>::kCount, kPlaces = U == 4 ? 4 : 8, kStep = U == 4 ? 2 : U;
  typedef T Unit __attribute__((vector_size(U * sizeof(T)), aligned(sizeof(T)), may_alias));
  alignas(64) uint32_t entry[kPlaces][kLanes];
  alignas(64) Unit value[kPlaces][kLanes];

  static constexpr int slot(int j) { return U == 4 && kLanes > 1 ? quad_of(j) : j; }

  static void add(T* table, uint32_t entry, const Unit& value) {
    *reinterpret_cast<Unit*>(table + kStep * size_t(entry)) += value;
  }

  // Adds in the order of points, then places; neighbours along a ray share entries, which a loop over places first
  // would wait for. Meanwhile fetches the entries that `later` will add to.
  void add_to(T* table, const Terms* later) const {
    for (int j = 0; j < kLanes; ++j)
#pragma GCC unroll 8
      for (int c = 0; c < kPlaces; ++c) {
        if (later && c % 2 == 0)  // x and x + 1 are mostly in a line
          __builtin_prefetch(table + kStep * size_t(later->entry[c][j]), 1);
        add(table, entry[c][j], value[c][slot(j)]);
      }
  }

  // The same, for entries in [lo, hi) only.
  void add_range_to(T* table, uint32_t lo, uint32_t hi) const {
    uint32_t at[8 * kLanes];
    Unit term[8 * kLanes];
    int count = 0;
    for (int j = 0; j < kLanes; ++j)
      for (int c = 0; c < kPlaces; ++c) {
        at[count] = entry[c][j];
        term[count] = value[c][j];
        count += entry[c][j] - lo < hi - lo;
      }
    for (int i = 0; i < count; ++i) add(table, at[i], term[i]);
  }
};

// The terms of the last packs: each is added when the entries it goes to, fetched when it came, have arrived.
template <class T, int U>
struct Pending {
  static constexpr int kDelay = 3;
  Terms<T, U> terms[kDelay + 1] = {};  // zeros, to be added to the first entry
  int now = 0;

  Terms<T, U>& newest() { return terms[now]; }
  void add_oldest_to(T* table, bool fetching) {
    const Terms<T, U>* later = fetching ? &terms[now] : nullptr;
    now = now == kDelay ? 0 : now + 1;
    terms[now].add_to(table, later);
  }
  void add_all_to(T* table) {
    for (int k = 0; k < kDelay; ++k) add_oldest_to(table, false);
  }
};

// Those of two features a corner, from its weights and the points' gradients v0, v1.
template <class T, class S, class I>
N3D_HD void set_terms(Terms<T, 2>& to, const I (&index)[8], const S (&w)[8], S v0, S v1) {
  for (int c = 0; c < 8; ++c) {
    store(to.entry[c], index[c]);
    store_zipped(reinterpret_cast<T*>(to.value[c]), w[c] * v0, w[c] * v1);
  }
}
template <class T, class S, class I>
N3D_HD void set_terms(Terms<T, 4>& to, const I (&index)[8], const S (&w)[8], S v0, S v1) {
  for (int c = 0; c < 8; c += 2) {
    store(to.entry[c / 2], index[c]);
    store_quads(reinterpret_cast<T*>(to.value[c / 2]), w[c] * v0, w[c] * v1, w[c + 1] * v0, w[c + 1] * v1);
  }
}

// Adds to the entries [lo, hi) of a level. U scalars at a time; 4: all entries of a dense level, of two features each.
template <bool kHashed, bool kAlong, int U, class T>
void scatter_units(const HashGridArgs<T>& a, const Chunk<T>& chunk, int l, uint32_t lo, uint32_t hi) {
  using S = typename Lanes<T>::S;
  using I = typename Lanes<T>::I;
  const HashGridLevel& level = a.level[l];
  T* table = a.out + level.offset * a.features;
  const T* v = chunk.v + l * a.features * chunk.stride;
  const S scale = S{} + T(level.scale), weight = S{} + T(level.weight);
  const uint32_t units = U == 4 ? 1 : a.features / U;
  const bool whole = hi - lo == level.size;
  Pending<T, U> pending;
  for (int64_t i = 0; i < chunk.count; i += Lanes<T>::kCount) {
    S x[3], w[8];
    I index[8];
    load3(chunk.x, chunk.stride, i, x);
    const GridCell<S, I> at(scale, x);
    corner_indices<kHashed>(level, at.cell, index);
    weights<kAlong>(chunk, i, scale, at.frac, w);
    if constexpr (U == 4)
      if (wraps(index)) {
        pending.add_all_to(table);
        pending = {};
        Terms<T, 2> terms;
        set_terms(terms, index, w, load(v + i) * weight, load(v + chunk.stride + i) * weight);
        terms.add_to(table, nullptr);
        continue;
      }
    for (uint32_t k = 0; k < units; ++k) {
      Terms<T, U>& terms = pending.newest();
      const T* vk = v + U * k * chunk.stride + i;
      if constexpr (U == 1) {
        const S vi = load(vk) * weight;
        for (int c = 0; c < 8; ++c) {
          store(terms.entry[c], index[c] * units + k);
          store(reinterpret_cast<T*>(terms.value[c]), w[c] * vi);
        }
      } else {
        I entry[8];
        for (int c = 0; c < 8; ++c) entry[c] = index[c] * units + k;
        set_terms(terms, entry, w, load(vk) * weight, load(vk + chunk.stride) * weight);
      }
      if (!whole)
        terms.add_range_to(table, lo * units, hi * units);
      else
        pending.add_oldest_to(table, U < 4);
    }
  }
  if (whole) pending.add_all_to(table);
}

template <bool kHashed, bool kAlong, class T>
void scatter_level(const HashGridArgs<T>& a, const Chunk<T>& chunk, int l, uint32_t lo, uint32_t hi) {
  const HashGridLevel& level = a.level[l];
  if (level.weight == 0) return;
  if (a.features == 1) return scatter_units<kHashed, kAlong, 1>(a, chunk, l, lo, hi);
  if constexpr (!kHashed)
    if (a.features == 2 && hi - lo == level.size && int64_t(2 * level.size * sizeof(T)) < kWide)
      return scatter_units<kHashed, kAlong, 4>(a, chunk, l, lo, hi);
  scatter_units<kHashed, kAlong, 2>(a, chunk, l, lo, hi);
}

template <bool kHashed, bool kAlong, class T>
void position_level(const HashGridArgs<T>& a, const Chunk<T>& chunk, int l, int64_t begin, int64_t end) {
  using S = typename Lanes<T>::S;
  using I = typename Lanes<T>::I;
  const HashGridLevel& level = a.level[l];
  if (level.weight == 0) return;
  const T* table = a.table + level.offset * a.features;
  const T* v = chunk.v + l * a.features * chunk.stride;
  const S scale = S{} + T(level.scale), slope = scale * T(level.weight);
  const uint32_t pairs = a.features / 2;
  for_packs<kHashed>(a, chunk, level, begin, end, [=, &chunk](int64_t i, const S(&frac)[3], const I(&index)[8]) {
    S dot[8], grad[3];
    for (int c = 0; c < 8; ++c) dot[c] = pairs ? S{} : load(v + i) * gather(table, index[c]);
    for (uint32_t k = 0; k < pairs; ++k) {
      const S v0 = load(v + 2 * k * chunk.stride + i), v1 = load(v + (2 * k + 1) * chunk.stride + i);
      for_corners<kHashed>(table, index, pairs, k, [&](int c, S t0, S t1) {
        dot[c] += v0 * t0;
        dot[c] += v1 * t1;
      });
    }
    if constexpr (kAlong) {
      S g[3];
      load3(chunk.g, chunk.stride, i, g);
      for (int d = 0; d < 3; ++d) g[d] = g[d] * scale;
      trilinear_hessian(frac, dot, g, grad);
    } else {
      trilinear_gradient(frac, dot, grad);
    }
    for (int d = 0; d < 3; ++d) {
      T* sum = chunk.out + d * chunk.stride + i;
      store(sum, load(sum) + slope * grad[d]);
    }
  });
}

// Step 3 of position: planes to rows, zero along clamped axes.
template <class T>
void store_positions(const HashGridArgs<T>& a, const Chunk<T>& chunk, int64_t begin, int64_t end) {
  for (int d = 0; d < 3; ++d)
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = 3 * (chunk.first + i) + d;
      a.out[at] = outside(a.positions[at]) ? T(0) : chunk.out[d * chunk.stride + i];
    }
}

// Picks the instantiation for a level.
#define N3D_LEVEL(function, ...)                                                                    \
  do {                                                                                              \
    if (a.direction)                                                                                \
      a.level[l].hashed ? function<true, true>(__VA_ARGS__) : function<false, true>(__VA_ARGS__);   \
    else                                                                                            \
      a.level[l].hashed ? function<true, false>(__VA_ARGS__) : function<false, false>(__VA_ARGS__); \
  } while (false)

// body(chunk) for each chunk, between steps 1 and 3. `out_planes` is what the body needs besides its inputs.
template <class T, class F>
void for_chunks(const HashGridArgs<T>& a, int64_t out_planes, const F& body) {
  const bool streamed = a.n * a.levels * a.features >= kStreamed;
  const int64_t planes = 3 + (a.direction ? 3 : 0) + (a.v_features ? a.levels * a.features : 0) + out_planes;
  const int64_t stride = a.workspace_size / planes / kLanes * kLanes;
  for (int64_t first = 0; first < a.n; first += stride) {
    const Chunk<T> chunk(a, first, stride);
    parallel_chunks(chunk.count, kRowBlock, [&](int64_t b, int64_t e) { load_planes(a, chunk, b, e, streamed); });
    body(chunk);
  }
}

}  // namespace

template <class T>
void hash_grid_encode(const HashGridArgs<T>& a) {
  const int64_t columns = a.levels * a.features;
  const bool streamed = a.n * columns >= kStreamed;
  for_chunks(a, columns, [&](const Chunk<T>& chunk) {
    const int64_t blocks = (chunk.count + kBlock - 1) / kBlock;
    parallel_for(a.levels * blocks, [&](int64_t task) {
      const int l = int(task / blocks);
      const int64_t b = task % blocks * kBlock, e = b + kBlock < chunk.count ? b + kBlock : chunk.count;
      if (b == 0) fetch_level(a, chunk, l);
      N3D_LEVEL(encode_level, a, chunk, l, b, e, streamed);
    });
    parallel_chunks(chunk.count, kRowBlock, [&](int64_t b, int64_t e) {
      T* rows = a.out + (chunk.first + b) * columns;
      planes_to_rows(chunk.out + b, chunk.stride, e - b, columns, rows, columns, streamed);
    });
  });
}

template <class T>
void hash_grid_scatter(const HashGridArgs<T>& a) {
  // One task a level while there are more levels than threads, ranges of its entries otherwise: every range costs a
  // pass over all points. Fine levels take longest and go first.
  const int64_t ranges = (2 * max_threads() + a.levels - 1) / a.levels;
  for_chunks(a, 0, [&](const Chunk<T>& chunk) {
    parallel_for(a.levels * ranges, [&](int64_t task) {
      const int l = a.levels - 1 - int(task / ranges);
      const int64_t size = a.level[l].size, range = task % ranges;
      const uint32_t lo = size * range / ranges, hi = size * (range + 1) / ranges;
      N3D_LEVEL(scatter_level, a, chunk, l, lo, hi);
    });
  });
}

template <class T>
void hash_grid_position(const HashGridArgs<T>& a) {
  for_chunks(a, 3, [&](const Chunk<T>& chunk) {
    std::fill(chunk.out, chunk.out + 3 * chunk.stride, T(0));
    for (int l = 0; l < a.levels; ++l) {
      fetch_level(a, chunk, l);
      parallel_chunks(chunk.count, kBlock, [&](int64_t b, int64_t e) { N3D_LEVEL(position_level, a, chunk, l, b, e); });
    }
    parallel_chunks(chunk.count, kRowBlock, [&](int64_t b, int64_t e) { store_positions(a, chunk, b, e); });
  });
}

N3D_INSTANTIATE(hash_grid_encode, HashGridArgs)
N3D_INSTANTIATE(hash_grid_scatter, HashGridArgs)
N3D_INSTANTIATE(hash_grid_position, HashGridArgs)

}  // namespace n3d::N3D_ISA
