// From splats to lists of those that touch each tile, by depth.
//
// splat_bin writes the records of the splats that can be seen, sorts these by depth (radix sort, stable) and counts the
// tiles within their boxes. splat_fill finds the cells of each of those tiles that the ellipse touches: entries without
// any are dropped, the others go to their tiles, splat by splat in order of depth. Threads share the splats in parts.
#include "ops/splat_bin.h"

#include "core/dispatch.h"
#include "core/lanes.h"
#include "core/mask.h"
#include "core/pack.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int kDigitBits = 11, kMostParts = 16;

template <class T>
struct Item {
  Key<T> key;
  int32_t splat;
};

// The number of parts that threads share follows from the problem alone.
N3D_HD int64_t parts_of(int64_t n) { return n < 4096 ? 1 : n / 2048 < kMostParts ? n / 2048 : kMostParts; }
N3D_HD int64_t part_begin(int64_t n, int64_t parts, int64_t p) { return n * p / parts; }

template <class T>
struct Head {
  int64_t sorted;  // which of the two arrays of items ended up in order
  int64_t seen[kMostParts], slots[kMostParts];
  Key<T> low[kMostParts], high[kMostParts];
};

// How scratch memory is laid out.
template <class T>
struct Scratch {
  uint8_t* base;
  int64_t bytes = 0;
  int64_t parts;
  Head<T>* head;
  Item<T>* items[2];     // (N,)
  uint32_t* digits;      // (parts, 2^kDigitBits)
  uint32_t* tile_count;  // (parts, tiles): a part's entries in each tile, then where its next one goes

  Scratch(uint8_t* memory, int64_t count, int64_t tiles) : base(memory), parts(parts_of(count)) {
    head = take<Head<T>>(1);
    items[0] = take<Item<T>>(count), items[1] = take<Item<T>>(count);
    digits = take<uint32_t>(parts << kDigitBits);
    tile_count = take<uint32_t>(parts * tiles);
  }
  template <class U>
  U* take(int64_t n) {
    U* p = reinterpret_cast<U*>(base + bytes);
    bytes += (n * int64_t(sizeof(U)) + 63) / 64 * 64;
    return p;
  }
};

// p[0], p[stride] … for the first n lanes.
N3D_HD f32x strided(const float* p, int stride, int n) {
  if (n >= kLanes) return gather(p, lane_numbers() * stride);
  f32x v{};
  for (int i = 0; i < n; ++i) v[i] = p[i * stride];
  return v;
}
N3D_HD double strided(const double* p, int, int) { return *p; }

// Records of the splats [begin, end) and the items of those that are seen, which go to `items`; their number.
template <class T>
int64_t record(const SplatBinArgs<T>& a, int64_t begin, int64_t end, Item<T>* items, int64_t& slots, Key<T>& low,
               Key<T>& high) {
  using S = typename Lanes<T>::S;
  constexpr int n = Lanes<T>::kCount;
  const int64_t first_features = a.channels < kRecorded ? a.channels : kRecorded;
  int64_t seen = 0;
  slots = 0, low = ~Key<T>(0), high = 0;
  for (int64_t i = begin; i < end; i += n) {
    const int m = end - i < n ? int(end - i) : n;
    const Footprint<S, T> f(strided(a.conic + 3 * i, 3, m), strided(a.conic + 3 * i + 1, 3, m),
                            strided(a.conic + 3 * i + 2, 3, m), strided(a.opacity + i, 1, m));
    alignas(64) T out[7][n];
    store(out[0], f.a), store(out[1], f.b), store(out[2], f.c), store(out[3], f.level), store(out[4], f.reach);
    store(out[5], f.rx), store(out[6], f.ry);
    for (int k = 0; k < m; ++k) {
      Splat<T>& g = a.splats[i + k];
      const T o = a.opacity[i + k], depth = a.depth[i + k];
      SplatBox box;
      g.slot = int32_t(slots), g.tiles = 0;
      if (!can_be_seen(o, depth, out[0][k], out[2][k], out[5][k], out[6][k])) continue;
      g.x = a.xy[2 * (i + k)], g.y = a.xy[2 * (i + k) + 1];
      if (!box.around(g.x, g.y, out[5][k], out[6][k], a.width, a.height, kCellSize)) continue;
      g.a = out[0][k], g.b = out[1][k], g.c = out[2][k], g.level = out[3][k], g.reach = out[4][k];
      for (int c = 0; c < first_features; ++c) g.feature[c] = a.features[(i + k) * a.channels + c];
      box.write(g);
      g.tiles = (box.x1 / kTileCells - box.x0 / kTileCells + 1) * (box.y1 / kTileCells - box.y0 / kTileCells + 1);
      slots += g.tiles;
      const Key<T> key = sort_key(depth);
      low = key < low ? key : low, high = key > high ? key : high;
      items[seen++] = {key, int32_t(i + k)};
    }
  }
  return seen;
}

// f(part) for each part. Threads share them only where there is much to do: with 26,000 splats two of them took three
// times as long as one, waiting for one another and for records that lay in the other's cache from the step before.
constexpr int64_t kShared = 1 << 18;
template <class F>
void each_part(int64_t splats, int64_t parts, const F& f) {
  if (splats >= kShared) return parallel_for(parts, f);
  for (int64_t p = 0; p < parts; ++p) f(p);
}

// One pass of the radix sort: by `bits` bits from `shift`. Part p reads the items [begin(p), end(p)).
template <class T, class Begin, class End>
void sort_pass(const Scratch<T>& s, int64_t seen, const Item<T>* from, Item<T>* to, int shift, int bits, Key<T> low,
               const Begin& begin, const End& end) {
  const int64_t size = int64_t(1) << bits;
  const Key<T> mask = size - 1;
  each_part(seen, s.parts, [&](int64_t p) {
    uint32_t* count = s.digits + p * size;
    memset(count, 0, size * sizeof *count);
    for (int64_t i = begin(p); i < end(p); ++i) ++count[(from[i].key - low) >> shift & mask];
  });
  uint32_t sum = 0;
  for (int64_t d = 0; d < size; ++d)
    for (int64_t p = 0; p < s.parts; ++p) {
      uint32_t& at = s.digits[p * size + d];
      const uint32_t n = at;
      at = sum, sum += n;
    }
  each_part(seen, s.parts, [&](int64_t p) {
    uint32_t* next = s.digits + p * size;
    for (int64_t i = begin(p); i < end(p); ++i) to[next[(from[i].key - low) >> shift & mask]++] = from[i];
  });
}

// Which cells a splat touches, a bit each.
template <class T>
struct CellTest {
  using S = typename Lanes<T>::S;
  static constexpr int n = Lanes<T>::kCount;
  const Splat<T>& g;
  SplatBox box;
  T k, l;
  uint64_t small = 0;  // where the box has up to 4 × 4 cells: the touched ones, rows of 8 from its first cell

  N3D_HD explicit CellTest(const Splat<T>& splat) : g(splat), box(SplatBox::of(splat)) {
    const T h = T(-0.5) * g.b;
    k = h / g.c, l = h / g.a;
    if (is_small()) small = block(box.x0, box.y0, box.x1, box.y1);
  }
  N3D_HD bool is_small() const { return box.x1 - box.x0 < 4 && box.y1 - box.y0 < 4; }

  // Of the 4 × 4 cells from (x, y), those up to (right, bottom); in rows of 8.
  N3D_HD uint64_t block(int x, int y, int right, int bottom) const {
    alignas(64) static constexpr T across[16] = {0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12};
    alignas(64) static constexpr T down[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    const T left = T(kCellSize * x) + T(0.5) - g.x, top = T(kCellSize * y) + T(0.5) - g.y;
    uint32_t bits = 0;
    for (int v = 0; v < 16; v += n) {
      const S dx = left + load(across + v), dy = top + load(down + v);
      const S least = least_exponent<S>(g, k, l, dx, dy, dx + T(kCellSize - 1), dy + T(kCellSize - 1));
      bits |= lane_bits(at_least(S{} + g.reach, least)) << v;
    }
    const int columns = right - x < 3 ? right - x + 1 : 4, rows = bottom - y < 3 ? bottom - y + 1 : 4;
    const uint64_t b = bits & 0x1111u * ((1u << columns) - 1) & ((1u << 4 * rows) - 1);
    return (b & 0xf) | (b & 0xf0) << 4 | (b & 0xf00) << 8 | (b & 0xf000) << 12;
  }

  // Those in the tile whose first cell is (x, y).
  N3D_HD uint64_t tile(int x, int y) const {
    if (is_small()) {
      constexpr uint64_t column = 0x0101010101010101u;
      const int u = box.x0 - x, v = box.y0 - y;
      const uint64_t across =
          u >= 0 ? (small & column * (0xffu >> u)) << u : (small & column * (0xffu << -u & 0xff)) >> -u;
      return v >= 0 ? across << 8 * v : across >> -8 * v;
    }
    const int left = box.x0 > x ? box.x0 : x, right = box.x1 - x < kTileCells ? box.x1 : x + kTileCells - 1;
    const int top = box.y0 > y ? box.y0 : y, bottom = box.y1 - y < kTileCells ? box.y1 : y + kTileCells - 1;
    uint64_t bits = 0;
    for (int v = top; v <= bottom; v += 4)
      for (int u = left; u <= right; u += 4) bits |= block(u, v, right, bottom) << (kTileCells * (v - y) + u - x);
    return bits;
  }
};

// f(slot, tile, cells x, cells y) for the tiles of a splat's box.
template <class T, class F>
N3D_HD void each_tile(const Splat<T>& g, int64_t tiles_x, const F& f) {
  const SplatBox box = SplatBox::of(g);
  int64_t slot = g.slot;
  for (int y = box.y0 / kTileCells; y <= box.y1 / kTileCells; ++y)
    for (int x = box.x0 / kTileCells; x <= box.x1 / kTileCells; ++x)
      f(slot++, y * tiles_x + x, x * kTileCells, y * kTileCells);
}

}  // namespace

template <class T>
void splat_bin(const SplatBinArgs<T>& a) {
  const Scratch<T> s(a.scratch, a.count, tiles_along(a.width, kTileSizeCpu) * tiles_along(a.height, kTileSizeCpu));
  const auto source = [&](int64_t p) { return part_begin(a.count, s.parts, p); };
  each_part(a.count, s.parts, [&](int64_t p) {
    Head<T>& h = *s.head;
    h.seen[p] = record(a, source(p), source(p + 1), s.items[0] + source(p), h.slots[p], h.low[p], h.high[p]);
  });
  int64_t seen = 0, slots = 0;
  Key<T> low = ~Key<T>(0), high = 0;
  int64_t first_slot[kMostParts];
  for (int64_t p = 0; p < s.parts; ++p) {
    const Head<T>& h = *s.head;
    first_slot[p] = slots;
    seen += h.seen[p], slots += h.slots[p];
    low = h.low[p] < low ? h.low[p] : low, high = h.high[p] > high ? h.high[p] : high;
  }
  each_part(seen, s.parts, [&](int64_t p) {
    if (first_slot[p] > 0)
      for (int64_t i = source(p); i < source(p + 1); ++i) a.splats[i].slot += int32_t(first_slot[p]);
  });
  a.totals[0] = seen, a.totals[1] = slots;

  // As few passes as the keys' range allows. The first takes the parts as they were left, with gaps between them.
  int bits = 1;
  while (seen > 0 && bits < int(8 * sizeof low) && (high - low) >> bits) ++bits;
  const int passes = (bits + kDigitBits - 1) / kDigitBits, digit = (bits + passes - 1) / passes;
  for (int pass = 0; pass < passes; ++pass) {
    const Item<T>* from = s.items[pass % 2];
    Item<T>* to = s.items[1 - pass % 2];
    const auto dense = [&](int64_t p) { return part_begin(seen, s.parts, p); };
    if (pass == 0)
      sort_pass(s, seen, from, to, 0, digit, low, source, [&](int64_t p) { return source(p) + s.head->seen[p]; });
    else
      sort_pass(s, seen, from, to, pass * digit, digit, low, dense, [&](int64_t p) { return dense(p + 1); });
  }
  s.head->sorted = passes % 2;
}

template <class T>
void splat_fill(const SplatFillArgs<T>& a) {
  const int64_t tiles_x = tiles_along(a.width, kTileSizeCpu), tiles = tiles_x * tiles_along(a.height, kTileSizeCpu);
  const Scratch<T> s(a.scratch, a.count, tiles);
  const Item<T>* items = s.items[s.head->sorted];
  uint64_t* found = reinterpret_cast<uint64_t*>(a.fill_scratch);  // a slot's cells
  const auto begin = [&](int64_t p) { return part_begin(a.seen, s.parts, p); };

  parallel_for(s.parts, [&](int64_t p) {
    uint32_t* count = s.tile_count + p * tiles;
    memset(count, 0, tiles * sizeof *count);
    for (int64_t i = begin(p); i < begin(p + 1); ++i) {
      if (i + 8 < begin(p + 1)) __builtin_prefetch(a.splats + items[i + 8].splat);
      const Splat<T>& g = a.splats[items[i].splat];
      const CellTest<T> test(g);
      each_tile(g, tiles_x, [&](int64_t slot, int64_t tile, int x, int y) {
        const uint64_t cells = test.tile(x, y);
        found[slot] = cells;
        count[tile] += cells != 0;
      });
    }
  });
  uint32_t sum = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    a.tile_begin[t] = int32_t(sum);
    for (int64_t p = 0; p < s.parts; ++p) {
      uint32_t& at = s.tile_count[p * tiles + t];
      const uint32_t n = at;
      at = sum, sum += n;
    }
  }
  a.tile_begin[tiles] = int32_t(sum);
  parallel_for(s.parts, [&](int64_t p) {
    uint32_t* next = s.tile_count + p * tiles;
    for (int64_t i = begin(p); i < begin(p + 1); ++i) {
      if (i + 8 < begin(p + 1)) __builtin_prefetch(a.splats + items[i + 8].splat);
      const int32_t splat = items[i].splat;
      Splat<T>& g = a.splats[splat];
      int32_t row = g.slot;
      each_tile(g, tiles_x, [&](int64_t slot, int64_t tile, int, int) {
        const uint64_t cells = found[slot];
        if (!cells) return;
        const uint32_t to = next[tile]++;
        a.entry[to] = splat, a.cells[to] = int64_t(cells), a.place[to] = row++;
      });
      g.tiles = row - g.slot;
    }
  });
}

template <class T>
void splat_scratch(const SplatScratchArgs<T>& a) {
  const int64_t tiles = tiles_along(a.width, kTileSizeCpu) * tiles_along(a.height, kTileSizeCpu);
  a.bytes[0] = Scratch<T>(nullptr, a.count, tiles).bytes;
  a.bytes[1] = a.slots * int64_t(sizeof(uint64_t));
}

N3D_INSTANTIATE(splat_bin, SplatBinArgs)
N3D_INSTANTIATE(splat_fill, SplatFillArgs)
N3D_INSTANTIATE(splat_scratch, SplatScratchArgs)

}  // namespace n3d::N3D_ISA
