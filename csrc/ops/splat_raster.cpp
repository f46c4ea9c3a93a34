// Tiles of 32 × 32 pixels are shared by threads. A tile walks its splats by depth, forwards, or backwards for the
// gradients; its pixels' state stays in the first-level cache. A splat visits its cells of 4 × 4 pixels: one pack of 16
// floats, or two of 8, or four of 4.
#include "ops/splat_raster.h"

#include <type_traits>

#include "core/dispatch.h"
#include "core/lanes.h"
#include "core/mask.h"
#include "core/pack.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int kTile = kTileSizeCpu, kCells = kTileCells * kTileCells, kTilePixels = kTile * kTile;
constexpr int kAhead = 4;  // splats' records are fetched so many entries early

N3D_HD f32x same(f32x, float a) { return splat(a); }
N3D_HD double same(double, double a) { return a; }

// Writes `a` where the mask holds.
N3D_HD void put_where(Mask m, f32x a, float* to) { store(to, select(m, a, load(to))); }
N3D_HD void put_where(Mask m, int32_t a, int32_t* to) { store(to, select(m, i32x{} + a, load(to))); }
N3D_HD void put_where(bool m, double a, double* to) { *to = m ? a : *to; }
N3D_HD void put_where(bool m, int32_t a, int32_t* to) { *to = m ? a : *to; }

// Pixels that have not stopped in front of entry i.
N3D_HD Mask before(f32x, int32_t i, const int32_t* stopped) { return less(i32x{} + i, load(stopped)); }
N3D_HD bool before(double, int32_t i, const int32_t* stopped) { return i < *stopped; }

// Where the tile lies, and the centres of its cells' pixels.
template <class T>
struct TilePlace {
  int64_t x, y, width, height;  // the tile's first pixel; the image's size
  T px[kTileCells][kCellPixels], py[kTileCells][kCellPixels];

  N3D_HD TilePlace(int64_t tile, int64_t w, int64_t h) : width(w), height(h) {
    const int64_t tiles_x = tiles_along(w, kTile);
    x = tile % tiles_x * kTile, y = tile / tiles_x * kTile;
    for (int c = 0; c < kTileCells; ++c)
      for (int i = 0; i < kCellPixels; ++i) {
        px[c][i] = T(x + c * kCellSize + i % kCellSize) + T(0.5);
        py[c][i] = T(y + c * kCellSize + i / kCellSize) + T(0.5);
      }
  }
  // Of pixels [v, v + kCount) of a cell. Packs of four or more have the same columns, hence the same x.
  N3D_HD auto x_of(int cell, int v) const { return load(px[cell % kTileCells] + v % kCellSize); }
  N3D_HD auto y_of(int cell, int v) const { return load(py[cell / kTileCells] + v); }
  N3D_HD bool whole() const { return x + kTile <= width && y + kTile <= height; }
  N3D_HD bool inside(int cell, int lane) const {
    return x + cell % kTileCells * kCellSize + lane % kCellSize < width &&
           y + cell / kTileCells * kCellSize + lane / kCellSize < height;
  }
  // f(cell, lane, pixel's index in the image, number of pixels), for the rows of pixels of cells within the image; the
  // number is a constant where it is kCellSize.
  template <class F>
  N3D_HD void each_row(const F& f) const {
    const int64_t w = width - x < kTile ? width - x : kTile, h = height - y < kTile ? height - y : kTile;
    for (int v = 0; v < h; ++v)
      for (int u = 0; u < w; u += kCellSize) {
        const int cell = v / kCellSize * kTileCells + u / kCellSize, lane = v % kCellSize * kCellSize;
        const int64_t pixel = (y + v) * width + x + u;
        if (w - u >= kCellSize)
          f(cell, lane, pixel, std::integral_constant<int, kCellSize>());
        else
          f(cell, lane, pixel, int(w - u));
      }
  }
};

// Features of splat i: in the records where all of them fit.
template <class T>
struct Features {
  const T* base;
  int64_t stride;
  N3D_HD Features(const Splat<T>* splats, const T* features, int64_t channels, int64_t c0)
      : base(channels > kRecorded ? features + c0 : splats->feature),
        stride(channels > kRecorded ? channels : kSplatScalars) {}
  N3D_HD const T* of(int64_t i) const { return base + i * stride; }
};

// The splat's α at pixels [v, v + kCount) of a cell, 0 where it covers nothing. `among`: which of the covered pixels
// count.
template <class T, class F>
N3D_HD typename Lanes<T>::S alpha_at(const Splat<T>& g, const TilePlace<T>& place, int cell, int v, const F& among) {
  using S = typename Lanes<T>::S;
  // Towards the centre, so that places are read by the subtraction; only products of two of these count.
  const S dx = g.x - place.x_of(cell, v), dy = g.y - place.y_of(cell, v);
  const S e = exponent<S>(dx, dy, same(S{}, g.a), same(S{}, g.b), same(S{}, g.c), same(S{}, g.level));
  const auto covered = among(at_least(e, same(S{}, T(kLevelMin))));
  return only(covered, minimum(power_of_two(e), same(S{}, T(kAlphaMax))));
}

// f(whether the features are finite, as a constant).
template <int kChannels, class T, class F>
N3D_HD void if_finite(const T* feature, const F& f) {
  T none = 0;  // NaN where one of them is not
  for (int c = 0; c < kChannels; ++c) none += feature[c] * T(0);
  none == 0 ? f(std::true_type()) : f(std::false_type());
}

// The pixels of a cell on the way forward.
template <int kChannels, class T>
struct alignas(64) FrontCell {
  T through[kCellPixels];  // T; 0 once the pixel has stopped, and outside the image
  T least[kCellPixels];    // T may not fall below: kTransmittanceMin; −1 once the pixel has stopped
  T sum[kChannels][kCellPixels];
};

template <int kChannels, class T>
struct FrontTile {
  FrontCell<kChannels, T> cells[kCells];
  T end[kCells][kCellPixels];  // T of the pixels that have stopped
  int32_t stopped[kCells][kCellPixels];
  uint64_t live;  // cells with pixels that have not
};

// One entry on one cell. Returns whether it was blended to any pixel. Where α is 0 so is w, which multiplies features;
// of these kFinite says that they are, else they have to be kept from such pixels.
template <bool kFinite, int kChannels, class T>
N3D_HD bool blend_cell(const Splat<T>& g, const typename Lanes<T>::S (&feature)[kChannels], const TilePlace<T>& place,
                       int32_t i, int cell, FrontTile<kChannels, T>& tile) {
  using S = typename Lanes<T>::S;
  constexpr int n = Lanes<T>::kCount, kPacks = kCellPixels / n;
  FrontCell<kChannels, T>& p = tile.cells[cell];
  S next[kPacks], w[kPacks], margins{}, weights{};
  for (int k = 0; k < kPacks; ++k) {
    const S alpha = alpha_at(g, place, cell, k * n, [](auto covered) { return covered; });
    const S through = load(p.through + k * n);
    next[k] = fused(-through, alpha, through), w[k] = through * alpha;
    margins = either(margins, next[k] - load(p.least + k * n));
  }
  if (__builtin_expect(any_negative(margins), 0)) {  // pixels die: covered ones, elsewhere T stays, and is no less
    bool live = false;
    for (int k = 0; k < kPacks; ++k) {
      const auto dying = less(next[k], load(p.least + k * n));
      put_where(dying, load(p.through + k * n), tile.end[cell] + k * n);
      put_where(dying, same(S{}, T(-1)), p.least + k * n);
      put_where(dying, i, tile.stopped[cell] + k * n);
      next[k] = select(dying, S{}, next[k]), w[k] = select(dying, S{}, w[k]);
      live |= any(less(S{}, next[k]));
    }
    if (!live) tile.live &= ~(uint64_t(1) << cell);
  }
  for (int k = 0; k < kPacks; ++k) {
    store(p.through + k * n, next[k]);
    for (int c = 0; c < kChannels; ++c) {
      const S sum = load(p.sum[c] + k * n);
      store(p.sum[c] + k * n,
            kFinite ? fused(w[k], feature[c], sum) : fused_where(less(S{}, w[k]), w[k], feature[c], sum));
    }
    weights = either(weights, w[k]);
  }
  return any_nonzero(weights);
}

// Channels [c0, c0 + kChannels) of a tile.
template <int kChannels, class T>
void blend_tile(const SplatRasterArgs<T>& a, int64_t t, int64_t c0) {
  using S = typename Lanes<T>::S;
  const TilePlace<T> place(t, a.width, a.height);
  const Features<T> features(a.splats, a.features, a.channels, c0);
  FrontTile<kChannels, T> tile;
  tile.live = 0;
  memset(tile.end, 0, sizeof tile.end);
  for (int cell = 0; cell < kCells; ++cell) {
    FrontCell<kChannels, T>& p = tile.cells[cell];
    memset(p.sum, 0, sizeof p.sum);
    for (int k = 0; k < kCellPixels; ++k) {
      const bool in = place.whole() || place.inside(cell, k);
      p.through[k] = in ? 1 : 0, p.least[k] = in ? T(kTransmittanceMin) : T(-1);
      tile.stopped[cell][k] = in ? INT32_MAX : 0;
    }
    tile.live |= uint64_t(p.through[0] > 0) << cell;
  }

  const int64_t begin = a.tile_begin[t], end = a.tile_begin[t + 1];
  for (int64_t at = begin; at < end; ++at) {
    uint64_t todo = uint64_t(a.cells[at]) & tile.live, blended = 0;
    if (at + kAhead < end) {
      __builtin_prefetch(a.splats + a.entry[at + kAhead]);
      if (kChannels > kRecorded) __builtin_prefetch(features.of(a.entry[at + kAhead]));
    }
    if (todo) {
      const Splat<T>& g = a.splats[a.entry[at]];
      const T* f = features.of(a.entry[at]);
      S feature[kChannels];
      for (int c = 0; c < kChannels; ++c) feature[c] = same(S{}, f[c]);
      if_finite<kChannels>(f, [&](auto finite) {
        for (; todo; todo &= todo - 1) {
          const int cell = __builtin_ctzll(todo);
          const uint64_t any =
              blend_cell<decltype(finite)::value, kChannels>(g, feature, place, int32_t(at - begin), cell, tile);
          blended |= any << cell;
        }
      });
    }
    a.cells[at] = int64_t(blended);
  }

  for (int cell = 0; cell < kCells; ++cell)  // pixels that have not stopped
    for (int k = 0; k < kCellPixels; ++k) tile.end[cell][k] += tile.cells[cell].through[k];
  memcpy(a.through + t * kTilePixels, tile.end, sizeof tile.end);
  memcpy(a.stopped + t * kTilePixels, tile.stopped, sizeof tile.stopped);
  T background[kChannels] = {};
  if (a.background) memcpy(background, a.background + c0, sizeof background);
  place.each_row([&](int cell, int lane, int64_t pixel, auto n) {
    const T* through = tile.end[cell] + lane;
    for (int k = 0; k < n; ++k) a.alpha[pixel + k] = 1 - through[k];
    T* out = a.image + pixel * a.channels + c0;
    for (int k = 0; k < n; ++k)
      for (int c = 0; c < kChannels; ++c)
        out[k * a.channels + c] = fused(through[k], background[c], tile.cells[cell].sum[c][lane + k]);
  });
}

// The pixels of a cell on the way back.
template <int kChannels, class T>
struct alignas(64) BackCell {
  T through[kCellPixels];  // T behind the entry
  T behind[kCellPixels];   // ⟨∂L/∂colour, colour⟩ of all that lies behind it, as seen without it
  T v_image[kChannels][kCellPixels];
  int32_t stopped[kCellPixels];
};

// A splat's sums (SplatSum) over the cells it visits.
template <int kChannels, bool kAbs, class T>
struct Sums {
  static constexpr int kFeature = sum_feature(kAbs), kCount = kFeature + kChannels;
  typename Lanes<T>::S of[kCount]{};
};

// Sums over the lanes of each pack, to a row: zipping two packs and adding the halves leaves sums of both, alternately,
// and so on until a pack holds as many sums as lanes. That of pack q ends up at row_place(q).
template <int n>
N3D_HD void sum_lanes(f32x (&v)[n], float* row) {
  int packs = n;
  for (int sums = 1; sums < kLanes; sums *= 2) {
    for (int k = 0; 2 * k < packs; ++k) {
      f32x lo, hi;
      zip(v[2 * k], v[2 * k + 1 < packs ? 2 * k + 1 : 2 * k], lo, hi);
      v[k] = lo + hi;
    }
    packs = (packs + 1) / 2;
  }
  for (int k = 0; k < packs; ++k) store(row + k * kLanes, v[k]);
}
template <int n>
N3D_HD void sum_lanes(double (&v)[n], double* row) {
  for (int k = 0; k < n; ++k) row[k] = v[k];
}

template <class T>
constexpr int row_place(int q) {
  constexpr int n = Lanes<T>::kCount;
  int place = q / n * n;
  for (int bit = 1, mirrored = n / 2; bit < n; bit *= 2, mirrored /= 2) place += q & bit ? mirrored : 0;
  return place;
}

// One entry on one cell, on the way back: T and what lies behind move in front of it. With d = ⟨∂L/∂colour, c_i⟩ −
// behind, ∂L/∂α_i = T_i d, and in front of the splat behind ← behind + α_i d.
template <bool kFinite, int kChannels, bool kAbs, class T>
N3D_HD void unblend_cell(const Splat<T>& g, const typename Lanes<T>::S (&feature)[kChannels], const TilePlace<T>& place,
                         int cell, const T* alphas, BackCell<kChannels, T>& p, Sums<kChannels, kAbs, T>& sums) {
  using S = typename Lanes<T>::S;
  for (int v = 0; v < kCellPixels; v += Lanes<T>::kCount) {
    const S dx = place.x_of(cell, v) - g.x, dy = place.y_of(cell, v) - g.y, alpha = load(alphas + v);
    const auto covered = less(S{}, alpha), free = covered & less(alpha, same(S{}, T(kAlphaMax)));
    const S behind_through = load(p.through + v), behind = load(p.behind + v);
    const S through = select(covered, quotient(behind_through, 1 - alpha), behind_through);
    store(p.through + v, through);
    const S w = through * alpha;
    S d = -behind;
    for (int c = 0; c < kChannels; ++c) {
      const S v_color = load(p.v_image[c] + v);
      d = fused(feature[c], v_color, d);
      S& total = sums.of[Sums<kChannels, kAbs, T>::kFeature + c];
      total = fused(w, v_color, total);
    }
    const S ahead = fused(alpha, d, behind);
    store(p.behind + v, kFinite ? ahead : select(covered, ahead, behind));
    const S s = only(free, w * d), sx = s * dx, sy = s * dy;
    S* const sum = sums.of;
    sum[kSum] += s, sum[kSumX] += sx, sum[kSumY] += sy;
    sum[kSumXX] = fused(sx, dx, sum[kSumXX]), sum[kSumXY] = fused(sx, dy, sum[kSumXY]);
    sum[kSumYY] = fused(sy, dy, sum[kSumYY]);
    if constexpr (kAbs) {
      sum[kSumAbsX] += absolute(fused(same(S{}, 2 * g.a), sx, g.b * sy));
      sum[kSumAbsY] += absolute(fused(same(S{}, 2 * g.c), sy, g.b * sx));
    }
  }
}

template <int kChannels, bool kAbs, class T>
void unblend_tile(const SplatRasterVjpArgs<T>& a, int64_t t, int64_t c0) {
  using S = typename Lanes<T>::S;
  const TilePlace<T> place(t, a.width, a.height);
  const Features<T> features(a.splats, a.features, a.channels, c0);
  int visited[kCells];  // the cells of an entry, and its α there
  alignas(64) T alphas[kCells][kCellPixels];
  BackCell<kChannels, T> cells[kCells];
  memset(cells, 0, sizeof cells);
  for (int cell = 0; cell < kCells; ++cell) {
    memcpy(cells[cell].through, a.through + t * kTilePixels + cell * kCellPixels, sizeof cells[cell].through);
    memcpy(cells[cell].stopped, a.stopped + t * kTilePixels + cell * kCellPixels, sizeof cells[cell].stopped);
  }
  T v_tile[kChannels] = {}, background[kChannels] = {};
  if (a.background) memcpy(background, a.background + c0, sizeof background);
  place.each_row([&](int cell, int lane, int64_t pixel, auto n) {
    BackCell<kChannels, T>& p = cells[cell];
    const T* v = a.v_image + pixel * a.channels + c0;
    for (int k = 0; k < n; ++k) {
      T behind = a.v_alpha && c0 == 0 ? -a.v_alpha[pixel + k] : T(0);
      for (int c = 0; c < kChannels; ++c) {
        p.v_image[c][lane + k] = v[k * a.channels + c];
        behind = fused(background[c], v[k * a.channels + c], behind);
      }
      p.behind[lane + k] = behind;
    }
    if (a.v_background)
      for (int k = 0; k < n; ++k)
        for (int c = 0; c < kChannels; ++c) v_tile[c] = fused(p.through[lane + k], v[k * a.channels + c], v_tile[c]);
  });
  for (int c = 0; c < kChannels; ++c) a.v_tile[t * a.channels + c0 + c] = v_tile[c];

  const int64_t begin = a.tile_begin[t], end = a.tile_begin[t + 1];
  for (int64_t at = end - 1; at >= begin; --at) {
    if (at - kAhead >= begin) {
      __builtin_prefetch(a.splats + a.entry[at - kAhead]);
      if (kChannels > kRecorded) __builtin_prefetch(features.of(a.entry[at - kAhead]));
    }
    const Splat<T>& g = a.splats[a.entry[at]];
    const T* f = features.of(a.entry[at]);
    S feature[kChannels];
    for (int c = 0; c < kChannels; ++c) feature[c] = same(S{}, f[c]);
    Sums<kChannels, kAbs, T> sums;
    // All α first: it is a chain of some 40 cycles, and what follows another; together a cell fills a core's registers,
    // so that the next would not be begun meanwhile.
    int visits = 0;
    for (uint64_t todo = uint64_t(a.cells[at]); todo; todo &= todo - 1, ++visits) {
      const int cell = visited[visits] = __builtin_ctzll(todo);
      for (int v = 0; v < kCellPixels; v += Lanes<T>::kCount)
        store(alphas[visits] + v, alpha_at(g, place, cell, v, [&](auto covered) {
                return covered & before(S{}, int32_t(at - begin), cells[cell].stopped + v);
              }));
    }
    if_finite<kChannels>(f, [&](auto finite) {
      for (int k = 0; k < visits; ++k)
        unblend_cell<decltype(finite)::value, kChannels, kAbs>(g, feature, place, visited[k], alphas[k],
                                                               cells[visited[k]], sums);
    });
    sum_lanes(sums.of, a.rows + int64_t(a.place[at]) * kSplatScalars);
  }
}

// From a splat's rows, in the order of its tiles, to its gradients.
template <class T>
void sum_rows(const SplatRasterVjpArgs<T>& a, int64_t i, int64_t c0, int64_t channels) {
  const Splat<T>& g = a.splats[i];
  T row[kSplatScalars] = {}, sums[kSplatScalars];
  for (int64_t slot = g.slot; slot < g.slot + g.tiles; ++slot)
    for (int k = 0; k < kSplatScalars; ++k) row[k] += a.rows[slot * kSplatScalars + k];
  for (int q = 0; q < kSplatScalars; ++q) sums[q] = row[row_place<T>(q)];
  store_gradients(a, i, c0, channels, sums);
}

// f(number of channels as a constant), of a group.
template <int kMost = kGroup, class F>
N3D_HD void with_channels(int64_t n, const F& f) {
  if constexpr (kMost > 1)
    if (n < kMost) return with_channels<kMost - 1>(n, f);
  f(std::integral_constant<int, kMost>());
}

}  // namespace

template <class T>
void splat_raster(const SplatRasterArgs<T>& a) {
  const int64_t tiles = tiles_along(a.width, kTile) * tiles_along(a.height, kTile);
  for (int64_t c0 = 0; c0 < a.channels; c0 += kGroup)
    with_channels(a.channels - c0,
                  [&](auto n) { parallel_for(tiles, [&](int64_t t) { blend_tile<decltype(n)::value>(a, t, c0); }); });
}

template <class T>
void splat_raster_vjp(const SplatRasterVjpArgs<T>& a) {
  const int64_t tiles = tiles_along(a.width, kTile) * tiles_along(a.height, kTile);
  for (int64_t c0 = 0; c0 < a.channels; c0 += kGroup) {
    with_channels(a.channels - c0, [&](auto n) {
      constexpr int kChannels = decltype(n)::value;
      const auto tile = a.v_xy_abs ? unblend_tile<kChannels, true, T> : unblend_tile<kChannels, false, T>;
      parallel_for(tiles, [&](int64_t t) { tile(a, t, c0); });
    });
    const int64_t channels = a.channels - c0 < kGroup ? a.channels - c0 : kGroup;
    parallel_chunks(a.count, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum_rows(a, i, c0, channels);
    });
  }
  if (a.v_background)
    for (int64_t c = 0; c < a.channels; ++c) {
      T sum = 0;
      for (int64_t t = 0; t < tiles; ++t) sum += a.v_tile[t * a.channels + c];
      a.v_background[c] = sum;
    }
}

N3D_INSTANTIATE(splat_raster, SplatRasterArgs)
N3D_INSTANTIATE(splat_raster_vjp, SplatRasterVjpArgs)

}  // namespace n3d::N3D_ISA
