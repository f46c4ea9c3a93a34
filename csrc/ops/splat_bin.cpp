// From splats to lists of those that touch each tile, by depth.
//
// splat_bin writes the records of the splats that can be seen, sorts these by depth (radix sort, stable) and counts the
// tiles within their boxes. splat_fill takes each record once, in order of depth, and finds the cells of each of its
// tiles that the ellipse touches; then it deals these hits, which lie in order, out to their tiles. Threads share the
// splats in parts.
#include "ops/splat_bin.h"

#include "core/dispatch.h"
#include "core/lanes.h"
#include "core/mask.h"
#include "core/pack.h"
#include "core/parallel.h"
#include "core/rows.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int kAhead = 12;  // records are fetched so many splats early
constexpr int kDigitBits = 11, kMostParts = 64, kLeastPart = 11;

template <class T>
struct Item {
  Key<T> key;
  int32_t splat;
};

// The parts that threads share follow from the problem alone: 2^bits splats each, bits at least kLeastPart.
N3D_HD int part_bits(int64_t n) {
  int bits = kLeastPart;
  while ((n - 1) >> bits >= kMostParts) ++bits;
  return bits;
}

template <class T>
struct Head {
  int64_t sorted;  // which of the two arrays of items ended up in order
  int64_t seen[kMostParts], slots[kMostParts], first_slot[kMostParts];
  Key<T> low[kMostParts], high[kMostParts];
};

// A tile that a splat touches.
struct Hit {
  uint64_t cells;
  int32_t tile, splat, row;
};

// How scratch memory is laid out.
template <class T>
struct Scratch {
  uint8_t* base;
  int64_t bytes = 0;
  int64_t count, parts;
  int bits;  // of a part
  Head<T>* head;
  Item<T>* items[2];     // (N,)
  int32_t* tiles;        // (N,) in a splat's box; 0: not seen
  uint32_t* digits;      // (parts, 2^kDigitBits)
  uint32_t* tile_count;  // (parts, tiles): a part's entries in each tile, then where its next one goes

  Scratch(uint8_t* memory, int64_t n, int64_t image_tiles) : base(memory), count(n), bits(part_bits(n)) {
    parts = ((n - 1) >> bits) + 1;
    head = take<Head<T>>(1);
    items[0] = take<Item<T>>(n), items[1] = take<Item<T>>(n);
    tiles = take<int32_t>(n);
    digits = take<uint32_t>(parts << kDigitBits);
    tile_count = take<uint32_t>(parts * image_tiles);
  }
  // A part's first splat; that of so many in order of depth.
  int64_t begin(int64_t p) const { return p << bits < count ? p << bits : count; }
  int64_t begin_of(int64_t seen, int64_t p) const { return seen * p / parts; }
  template <class U>
  U* take(int64_t n) {
    U* p = reinterpret_cast<U*>(base + bytes);
    bytes += (n * int64_t(sizeof(U)) + 63) / 64 * 64;
    return p;
  }
};

// A bit for each lane of a comparison.
N3D_HD uint32_t bits(i32x c) { return lane_bits(less(c, i32x{})); }
N3D_HD uint32_t bits(bool c) { return c; }

// Records of a part's splats, whose slots count from the part's first, and the items of those that are seen.
template <class T>
void record(const SplatBinArgs<T>& a, const Scratch<T>& s, int64_t p) {
  using S = typename Lanes<T>::S;
  constexpr int n = Lanes<T>::kCount;
  const int64_t first_features = a.channels < kRecorded ? a.channels : kRecorded;
  const int64_t begin = s.begin(p), end = s.begin(p + 1);
  Item<T>* items = s.items[0] + begin;
  int64_t seen = 0, slots = 0;
  Key<T> low = ~Key<T>(0), high = 0;
  for (int64_t i = begin; i < end; i += n) {
    const int m = end - i < n ? int(end - i) : n;
    S conic[3], opacity, depth, xy[2];
    load_rows<3>(a.conic + 3 * i, m, conic), load_rows<1>(a.opacity + i, m, &opacity);
    load_rows<1>(a.depth + i, m, &depth), load_rows<2>(a.xy + 2 * i, m, xy);
    const Footprint<S, T> f(conic[0], conic[1], conic[2], opacity);
    const Span<S, T> x(xy[0], f.rx, T(a.width)), y(xy[1], f.ry, T(a.height));
    // As many are out of sight as not, in no order: a bit each, and no jumps to guess.
    uint32_t visible = bits(can_be_seen(opacity, depth, f) & x.in & y.in);
    alignas(64) T out[5][n];
    store(out[0], f.a), store(out[1], f.b), store(out[2], f.c), store(out[3], f.level), store(out[4], f.reach);
    alignas(64) T edges[4][n];
    store(edges[0], x.first), store(edges[1], y.first), store(edges[2], x.last), store(edges[3], y.last);
    for (int k = 0; k < m; ++k, visible >>= 1) {
      Splat<T>& g = a.splats[i + k];
      const auto box =
          SplatBox::of_pixels(int(edges[0][k]), int(edges[1][k]), int(edges[2][k]), int(edges[3][k]), kCellSize);
      const int32_t across = box.x1 / kTileCells - box.x0 / kTileCells + 1;
      const int32_t down = box.y1 / kTileCells - box.y0 / kTileCells + 1;
      g.x = a.xy[2 * (i + k)], g.y = a.xy[2 * (i + k) + 1];
      g.a = out[0][k], g.b = out[1][k], g.c = out[2][k], g.level = out[3][k], g.reach = out[4][k];
      for (int c = 0; c < first_features; ++c) g.feature[c] = a.features[(i + k) * a.channels + c];
      box.write(g);
      g.slot = int32_t(slots), g.tiles = s.tiles[i + k] = visible & 1 ? across * down : 0;
      slots += g.tiles;
      const Key<T> key = sort_key(a.depth[i + k]);
      low = visible & 1 && key < low ? key : low, high = visible & 1 && key > high ? key : high;
      items[seen] = {key, int32_t(i + k)};  // there is room: what is not seen, the next one overwrites
      seen += visible & 1;
    }
  }
  Head<T>& h = *s.head;
  h.seen[p] = seen, h.slots[p] = slots, h.low[p] = low, h.high[p] = high;
}

// f(part) for each part. Threads share them only where there is much to do: with 26,000 splats two of them took three
// times as long as one, waiting for one another and for records that lay in the other's cache from the step before;
// with 100,000 three quarters.
constexpr int64_t kShared = 1 << 16;
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

// f(tile, cells x, cells y) for the tiles of a splat's box.
template <class T, class F>
N3D_HD void each_tile(const Splat<T>& g, int64_t tiles_x, const F& f) {
  const SplatBox box = SplatBox::of(g);
  for (int y = box.y0 / kTileCells; y <= box.y1 / kTileCells; ++y)
    for (int x = box.x0 / kTileCells; x <= box.x1 / kTileCells; ++x) f(y * tiles_x + x, x * kTileCells, y * kTileCells);
}

}  // namespace

template <class T>
void splat_bin(const SplatBinArgs<T>& a) {
  const Scratch<T> s(a.scratch, a.count, tiles_along(a.width, kTileSizeCpu) * tiles_along(a.height, kTileSizeCpu));
  parallel_for(s.parts, [&](int64_t p) { record(a, s, p); });
  Head<T>& h = *s.head;
  int64_t seen = 0, slots = 0;
  Key<T> low = ~Key<T>(0), high = 0;
  for (int64_t p = 0; p < s.parts; ++p) {
    h.first_slot[p] = slots;
    seen += h.seen[p], slots += h.slots[p];
    low = h.low[p] < low ? h.low[p] : low, high = h.high[p] > high ? h.high[p] : high;
  }
  a.totals[0] = seen, a.totals[1] = slots;

  // As few passes as the keys' range allows. The first takes the parts as they were left, with gaps between them.
  int bits = 1;
  while (seen > 0 && bits < int(8 * sizeof low) && (high - low) >> bits) ++bits;
  const int passes = (bits + kDigitBits - 1) / kDigitBits, digit = (bits + passes - 1) / passes;
  for (int pass = 0; pass < passes; ++pass) {
    const Item<T>* from = s.items[pass % 2];
    Item<T>* to = s.items[1 - pass % 2];
    const auto left = [&](int64_t p) { return s.begin(p); };
    const auto dense = [&](int64_t p) { return s.begin_of(seen, p); };
    if (pass == 0)
      sort_pass(s, seen, from, to, 0, digit, low, left, [&](int64_t p) { return left(p) + h.seen[p]; });
    else
      sort_pass(s, seen, from, to, pass * digit, digit, low, dense, [&](int64_t p) { return dense(p + 1); });
  }
  h.sorted = passes % 2;
}

template <class T>
void splat_fill(const SplatFillArgs<T>& a) {
  const int64_t tiles_x = tiles_along(a.width, kTileSizeCpu), tiles = tiles_x * tiles_along(a.height, kTileSizeCpu);
  const Scratch<T> s(a.scratch, a.count, tiles);
  const Item<T>* items = s.items[s.head->sorted];
  const auto begin = [&](int64_t p) { return s.begin_of(a.seen, p); };

  // Room for a part's hits: all tiles of its boxes.
  Hit* const hits = reinterpret_cast<Hit*>(a.fill_scratch);
  int64_t room[kMostParts];
  each_part(a.seen, s.parts, [&](int64_t p) {
    room[p] = 0;
    for (int64_t i = begin(p); i < begin(p + 1); ++i) room[p] += s.tiles[items[i].splat];
  });
  Hit *first[kMostParts], *last[kMostParts];
  for (int64_t p = 0, at = 0; p < s.parts; at += room[p++]) first[p] = hits + at;

  parallel_for(s.parts, [&](int64_t p) {
    uint32_t* count = s.tile_count + p * tiles;
    memset(count, 0, tiles * sizeof *count);
    Hit* to = first[p];
    for (int64_t i = begin(p); i < begin(p + 1); ++i) {
      if (i + kAhead < begin(p + 1)) __builtin_prefetch(a.splats + items[i + kAhead].splat, 1);
      const int32_t splat = items[i].splat;
      Splat<T>& g = a.splats[splat];
      const CellTest<T> test(g);
      const int32_t row = g.slot + int32_t(s.head->first_slot[splat >> s.bits]);
      int32_t touched = 0;
      each_tile(g, tiles_x, [&](int64_t tile, int x, int y) {
        const uint64_t cells = test.tile(x, y);
        *to = {cells, int32_t(tile), splat, row + touched};
        const int hit = cells != 0;
        to += hit, touched += hit, count[tile] += hit;
      });
      g.slot = row, g.tiles = touched;
    }
    last[p] = to;
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
    for (const Hit* hit = first[p]; hit < last[p]; ++hit) {
      const uint32_t to = next[hit->tile]++;
      a.entry[to] = hit->splat, a.cells[to] = int64_t(hit->cells), a.place[to] = hit->row;
    }
  });
}

template <class T>
void splat_scratch(const SplatScratchArgs<T>& a) {
  const int64_t tiles = tiles_along(a.width, kTileSizeCpu) * tiles_along(a.height, kTileSizeCpu);
  a.bytes[0] = Scratch<T>(nullptr, a.count, tiles).bytes;
  a.bytes[1] = a.slots * int64_t(sizeof(Hit));
}

N3D_INSTANTIATE(splat_bin, SplatBinArgs)
N3D_INSTANTIATE(splat_fill, SplatFillArgs)
N3D_INSTANTIATE(splat_scratch, SplatScratchArgs)

}  // namespace n3d::N3D_ISA
