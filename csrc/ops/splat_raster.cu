// A block blends a tile of 16 × 16 pixels, each of its warps a rectangle of them: 8 × 4, and on the way back 8 × 8.
// Splats pass through shared memory in batches; whoever fetches one also finds which warps' pixels its ellipse touches,
// so that a warp visits no others.
#include "core/cuda.h"
#include "ops/splat_raster.h"

namespace n3d::cuda {

namespace {

constexpr int kTile = kTileSizeCuda, kTilePixels = kTile * kTile, kWarps = kTilePixels / 32;
constexpr int kWarpWidth = 8, kWarpHeight = 4;
constexpr unsigned kAll = 0xffffffffu;

struct Tile {
  int number, left, top;  // its first pixel

  __device__ explicit Tile(int64_t width) : number(blockIdx.x) {
    const int along = int(tiles_along(width, kTile));
    left = number % along * kTile, top = number / along * kTile;
  }
  __device__ int64_t state(int x, int y) const {  // of `through` and `stopped`
    return int64_t(number) * kTilePixels + (y - top) * kTile + x - left;
  }
};

// Which of a tile's rectangles, one a warp and two in a row, a splat touches: a bit each.
template <int kWidth, int kHeight, class T>
__device__ uint32_t touched_warps(const Splat<T>& g, const Tile& tile) {
  static_assert(2 * kWidth == kTile);
  const T h = T(-0.5) * g.b, k = h / g.c, l = h / g.a;
  uint32_t bits = 0;
  for (int w = 0; w < kTilePixels / (kWidth * kHeight); ++w) {
    const T x = T(tile.left + w % 2 * kWidth) + T(0.5) - g.x, y = T(tile.top + w / 2 * kHeight) + T(0.5) - g.y;
    const T least = least_exponent<T>(g, k, l, x, y, x + T(kWidth - 1), y + T(kHeight - 1));
    bits |= uint32_t(least <= g.reach) << w;
  }
  return bits;
}

// What a pixel needs of a splat, in shared memory.
template <int kChannels, int kSize, class T>
struct Batch {
  static constexpr int kMore = kChannels - kRecorded;
  Splat<T> splat[kSize];
  T more[kSize][kMore > 0 ? kMore : 1];  // features that the record has no room for
  uint32_t warps[kSize];

  // Splat i, by one thread, to place j. kWidth, kHeight: of a warp's pixels.
  template <int kWidth, int kHeight>
  __device__ void fetch(int j, const Splat<T>* splats, const T* features, int64_t channels, int64_t c0, int32_t i,
                        const Tile& tile) {
    Splat<T>& g = splat[j];
    g = splats[i];
    if (c0 > 0)
      for (int c = 0; c < kChannels && c < kRecorded; ++c) g.feature[c] = features[i * channels + c0 + c];
    for (int c = 0; c < kMore; ++c) more[j][c] = features[i * channels + c0 + kRecorded + c];
    warps[j] = touched_warps<kWidth, kHeight>(g, tile);
  }
  __device__ T feature(int j, int c) const { return c < kRecorded ? splat[j].feature[c] : more[j][c - kRecorded]; }
};

template <int kChannels, class T>
__global__ void __launch_bounds__(kTilePixels) blend_tiles(SplatRasterArgs<T> a, int64_t c0) {
  __shared__ Batch<kChannels, kTilePixels, T> batch;
  const Tile tile(a.width);
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int x = tile.left + warp % 2 * kWarpWidth + lane % kWarpWidth;
  const int y = tile.top + warp / 2 * kWarpHeight + lane / kWarpWidth;
  const bool inside = x < a.width && y < a.height;
  const int begin = a.tile_begin[tile.number], end = a.tile_begin[tile.number + 1];
  T through = 1, sum[kChannels] = {};
  int32_t stopped = INT32_MAX;
  bool done = !inside;
  for (int base = begin; base < end; base += kTilePixels) {
    if (__syncthreads_count(done) == kTilePixels) break;
    const int n = end - base < kTilePixels ? end - base : kTilePixels;
    if (thread < n)
      batch.template fetch<kWarpWidth, kWarpHeight>(thread, a.splats, a.features, a.channels, c0,
                                                    a.entry[base + thread], tile);
    __syncthreads();
    for (int j0 = 0; j0 < n; j0 += 32) {
      unsigned todo = __ballot_sync(kAll, j0 + lane < n && (batch.warps[j0 + lane] >> warp & 1));
      for (; todo; todo &= todo - 1) {
        const int j = j0 + __ffs(todo) - 1;
        const Splat<T>& g = batch.splat[j];
        const T e = exponent<T>(T(x) + T(0.5) - g.x, T(y) + T(0.5) - g.y, g.a, g.b, g.c, g.level);
        if (done || !(e >= T(kLevelMin))) continue;
        const T alpha = minimum(power_of_two(e), T(kAlphaMax)), next = fused(-through, alpha, through);
        if (next < T(kTransmittanceMin)) {
          done = true, stopped = base + j - begin;
          continue;
        }
        const T w = through * alpha;
        for (int c = 0; c < kChannels; ++c) sum[c] = fused(w, batch.feature(j, c), sum[c]);
        through = next;
      }
      if (__all_sync(kAll, done)) break;
    }
  }
  a.through[tile.state(x, y)] = through;
  a.stopped[tile.state(x, y)] = inside ? stopped : 0;
  if (!inside) return;
  const int64_t pixel = int64_t(y) * a.width + x;
  a.alpha[pixel] = 1 - through;
  for (int c = 0; c < kChannels; ++c)
    a.image[pixel * a.channels + c0 + c] = sum[c] + (a.background ? through * a.background[c0 + c] : T(0));
}

// --- the way back: a block of 4 warps, a warp 8 × 8 pixels of the tile in two halves of 4 × 8, a lane a pixel of each
// ---

constexpr int kHalves = 2, kSide = 8, kHalfWidth = kSide / kHalves;
constexpr int kBackWarps = kTilePixels / (kSide * kSide), kBackThreads = 32 * kBackWarps;
constexpr int kSlots = 32 / kSide;  // splats whose sums a warp takes at a time, a lane a row of pixels of one of them

// What a warp takes sums of (SplatSum): of each pixel and splat that is blended to it w, and s = ∂L/∂α · α.
template <int kChannels, class T>
struct alignas(16) Terms {
  T w[kSlots][kHalves][32], s[kSlots][kHalves][32], v_color[kChannels][kHalves][32];
};

template <class T>
struct alignas(16) Four {  // read at once
  T v[4];
};
template <class T>
__device__ Four<T> four(const T* from) {
  return *reinterpret_cast<const Four<T>*>(from);
}

// Sums of v over the 8 lanes of a slot: lane `row` gets that of v[row · kCount / 8]. kCount is a power of two, 8 at
// most; v is used up.
template <int kCount, int kBit = kSide / 2, class T>
__device__ T sum_of_rows(T* v, int row) {
  if constexpr (kBit == 0) {
    return v[0];
  } else if constexpr (kCount == 1) {
    v[0] += __shfl_xor_sync(kAll, v[0], kBit);
    return sum_of_rows<1, kBit / 2>(v, row);
  } else {
    const bool upper = row & kBit;
#pragma unroll
    for (int k = 0; k < kCount / 2; ++k) {
      const T mine = upper ? v[k + kCount / 2] : v[k], others = upper ? v[k] : v[k + kCount / 2];
      v[k] = mine + __shfl_xor_sync(kAll, others, kBit);
    }
    return sum_of_rows<kCount / 2, kBit / 2>(v, row);
  }
}

constexpr int power_of_two_from(int n) { return n <= 1 ? n : 2 * power_of_two_from((n + 1) / 2); }

// The sums of an entry, as its row holds them, over a warp's pixels.
template <int kChannels, bool kAbs>
struct Sums {
  static constexpr int kFeature = sum_feature(kAbs), kUsed = kFeature + kChannels;
  static constexpr int kRest = power_of_two_from(kUsed > kSide ? kUsed - kSide : 0), kStored = kSide + kRest;

  // Of the splat `g` whose terms lie at `slot`, to `to` if there is one: by 8 lanes, each a row of pixels from (x, y)
  // on. A row has one dy, which leaves three sums to be taken a pixel.
  template <class T>
  __device__ static void store(const Terms<kChannels, T>& terms, int slot, int row, const Splat<T>& g, T x, T y,
                               T* to) {
    T v[kStored] = {};
    const T dy = y - g.y;
    for (int half = 0; half < kHalves; ++half) {
      const int at = row * kHalfWidth;
      const Four<T> w = four(&terms.w[slot][half][at]), s = four(&terms.s[slot][half][at]);
      for (int k = 0; k < kHalfWidth; ++k) {
        const T dx = x + T(half * kHalfWidth + k) - g.x, sx = s.v[k] * dx;
        v[kSum] += s.v[k], v[kSumX] += sx, v[kSumXX] = fused(sx, dx, v[kSumXX]);
        if (kAbs) {
          const T sy = s.v[k] * dy;
          v[kSumAbsX] += absolute(fused(2 * g.a, sx, g.b * sy));
          v[kSumAbsY] += absolute(fused(2 * g.c, sy, g.b * sx));
        }
      }
      for (int c = 0; c < kChannels; ++c) {
        const Four<T> color = four(&terms.v_color[c][half][at]);
        for (int k = 0; k < kHalfWidth; ++k) v[kFeature + c] = fused(w.v[k], color.v[k], v[kFeature + c]);
      }
    }
    v[kSumY] = v[kSum] * dy, v[kSumXY] = v[kSumX] * dy, v[kSumYY] = v[kSumY] * dy;
    const T sum = sum_of_rows<kSide>(v, row);
    if (to) to[row] = sum;
    if constexpr (kRest > 0) {
      const T rest = sum_of_rows<kRest>(v + kSide, row);
      if (to && row % (kSide / kRest) == 0) to[kSide + row * kRest / kSide] = rest;
    }
  }
};

// Each warp leaves w and s of the pixels it blended an entry to in shared memory, pixel by pixel, and from there takes
// the entry's sums, row by row: fewer instructions than sums by shuffles. The block adds its warps' sums in their order
// and writes the entry's row: no atomic additions, and the same bytes whichever way the blocks run.
template <int kChannels, bool kAbs, class T>
__global__ void __launch_bounds__(kBackThreads) unblend_tiles(SplatRasterVjpArgs<T> a, int64_t c0) {
  using Sums = Sums<kChannels, kAbs>;
  constexpr int kBatch = 128 / sizeof(T);
  __shared__ Batch<kChannels, kBatch, T> batch;
  __shared__ Terms<kChannels, T> terms_of[kBackWarps];
  __shared__ T parts[kBatch][kBackWarps][Sums::kStored];
  __shared__ unsigned blended[kBackWarps];  // to which entries of the batch, a bit each
  __shared__ int most;
  const Tile tile(a.width);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int left = tile.left + warp % 2 * kSide, top = tile.top + warp / 2 * kSide;
  const int x = left + lane % kHalfWidth, y = top + lane / kHalfWidth, slot = lane / kSide, row = lane % kSide;
  const int begin = a.tile_begin[tile.number], count = a.tile_begin[tile.number + 1] - begin;
  Terms<kChannels, T>& terms = terms_of[warp];
  T through[kHalves], behind[kHalves] = {}, v_color[kHalves][kChannels] = {};
  int stopped[kHalves];
  for (int h = 0; h < kHalves; ++h) {
    const int column = x + h * kHalfWidth;
    through[h] = a.through[tile.state(column, y)], stopped[h] = a.stopped[tile.state(column, y)];
    if (column < a.width && y < a.height) {
      const int64_t pixel = int64_t(y) * a.width + column;
      if (a.v_alpha && c0 == 0) behind[h] = -a.v_alpha[pixel];
      for (int c = 0; c < kChannels; ++c) {
        v_color[h][c] = a.v_image[pixel * a.channels + c0 + c];
        if (a.background) behind[h] += a.background[c0 + c] * v_color[h][c];
      }
    }
    for (int c = 0; c < kChannels; ++c) terms.v_color[c][h][lane] = v_color[h][c];
  }
  if (threadIdx.x == 0) most = 0;
  __syncthreads();
  atomicMax(&most, minimum(maximum(stopped[0], stopped[1]), count));
  __syncthreads();

  for (int high = most; high > 0; high -= kBatch) {
    const int low = high > kBatch ? high - kBatch : 0, n = high - low;
    __syncthreads();
    if (threadIdx.x < n)
      batch.template fetch<kSide, kSide>(threadIdx.x, a.splats, a.features, a.channels, c0,
                                         a.entry[begin + low + threadIdx.x], tile);
    __syncthreads();
    unsigned todo = __ballot_sync(kAll, lane < n && (batch.warps[lane % kBatch] >> warp & 1)), done = 0;
    int filled = 0, mine = 0;  // slots; the entry of the lane's own
    const auto take_sums = [&] {
      __syncwarp();
      Sums::store(terms, slot, row, batch.splat[mine], T(left) + T(0.5), T(top + row) + T(0.5),
                  slot < filled ? parts[mine][warp] : nullptr);
      __syncwarp();
      filled = 0;
    };
    while (todo) {
      const int j = 31 - __clz(todo);
      todo &= ~(1u << j);
      const Splat<T>& g = batch.splat[j];
      const T dy = T(y) + T(0.5) - g.y;
      T e[kHalves];
      bool covered[kHalves];
      for (int h = 0; h < kHalves; ++h) {
        e[h] = exponent<T>(T(x + h * kHalfWidth) + T(0.5) - g.x, dy, g.a, g.b, g.c, g.level);
        covered[h] = low + j < stopped[h] && e[h] >= T(kLevelMin);
      }
      if (!__any_sync(kAll, covered[0] || covered[1])) continue;
      for (int h = 0; h < kHalves; ++h) {
        T w = 0, s = 0;
        if (covered[h]) {
          const T full = power_of_two(e[h]), alpha = minimum(full, T(kAlphaMax));
          through[h] = quotient(through[h], 1 - alpha);
          w = through[h] * alpha;
          T d = -behind[h];
          for (int c = 0; c < kChannels; ++c) d = fused(batch.feature(j, c), v_color[h][c], d);
          behind[h] = fused(alpha, d, behind[h]);
          if (full < T(kAlphaMax)) s = w * d;
        }
        terms.w[filled][h][lane] = w, terms.s[filled][h][lane] = s;
      }
      if (slot == filled) mine = j;
      done |= 1u << j;
      if (++filled == kSlots) take_sums();
    }
    if (filled > 0) take_sums();
    if (lane == 0) blended[warp] = done;
    __syncthreads();
    for (int k = threadIdx.x; k < n * kSplatScalars; k += kBackThreads) {
      const int j = k / kSplatScalars, q = k % kSplatScalars;
      T sum = 0;
      if (q < Sums::kUsed)
        for (int w = 0; w < kBackWarps; ++w)
          if (blended[w] >> j & 1) sum += parts[j][w][q];
      a.rows[int64_t(a.place[begin + low + j]) * kSplatScalars + q] = sum;
    }
  }
  for (int k = most * kSplatScalars + threadIdx.x; k < count * kSplatScalars; k += kBackThreads)  // behind all stops
    a.rows[int64_t(a.place[begin + k / kSplatScalars]) * kSplatScalars + k % kSplatScalars] = 0;

  if (a.v_background == nullptr) return;
  __shared__ T v_warp[kBackWarps];
  for (int c = 0; c < kChannels; ++c) {
    T v = 0;
    for (int h = 0; h < kHalves; ++h) v += a.through[tile.state(x + h * kHalfWidth, y)] * v_color[h][c];
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kAll, v, step);
    if (lane == 0) v_warp[warp] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
      T sum = 0;
      for (int w = 0; w < kBackWarps; ++w) sum += v_warp[w];
      a.v_tile[int64_t(tile.number) * a.channels + c0 + c] = sum;
    }
    __syncthreads();
  }
}

constexpr int kRowsOfBlock = kThreads / kSplatScalars;

// 16 threads a splat, one a number of its rows, which lie together.
template <class T>
__global__ void sum_rows(SplatRasterVjpArgs<T> a, int64_t c0, int channels) {
  __shared__ T sums[kRowsOfBlock][kSplatScalars];
  const int mine = threadIdx.x / kSplatScalars, q = threadIdx.x % kSplatScalars;
  const int64_t first = blockIdx.x * int64_t(kRowsOfBlock), i = first + mine;
  if (i < a.count) {
    const T* row = a.rows + int64_t(a.splats[i].slot) * kSplatScalars + q;
    const int tiles = a.splats[i].tiles;
    T sum = 0;
#pragma unroll 4
    for (int k = 0; k < tiles; ++k) sum += row[int64_t(k) * kSplatScalars];
    sums[mine][q] = sum;
  }
  __syncthreads();
  if (threadIdx.x < kRowsOfBlock && first + threadIdx.x < a.count)
    store_gradients(a, first + threadIdx.x, c0, channels, sums[threadIdx.x]);
}

// One block per channel; the same tree of sums each time.
template <class T>
__global__ void sum_tiles(SplatRasterVjpArgs<T> a, int64_t tiles) {
  __shared__ T parts[kThreads];
  T sum = 0;
  for (int64_t t = threadIdx.x; t < tiles; t += kThreads) sum += a.v_tile[t * a.channels + blockIdx.x];
  parts[threadIdx.x] = sum;
  for (int step = kThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
  }
  if (threadIdx.x == 0) a.v_background[blockIdx.x] = parts[0];
}

template <class T, int kMost = kGroup>
auto blend_kernel(int64_t channels) {
  if constexpr (kMost > 1)
    if (channels < kMost) return blend_kernel<T, kMost - 1>(channels);
  return blend_tiles<kMost, T>;
}

template <bool kAbs, class T, int kMost = kGroup>
auto unblend_kernel(int64_t channels) {
  if constexpr (kMost > 1)
    if (channels < kMost) return unblend_kernel<kAbs, T, kMost - 1>(channels);
  return unblend_tiles<kMost, kAbs, T>;
}

}  // namespace

template <class T>
void splat_raster(const SplatRasterArgs<T>& a) {
  const unsigned tiles = unsigned(tiles_along(a.width, kTile) * tiles_along(a.height, kTile));
  for (int64_t c0 = 0; c0 < a.channels; c0 += kGroup) {
    const auto kernel = blend_kernel<T>(a.channels - c0);
    kernel<<<tiles, kTilePixels, 0, stream(a.stream)>>>(a, c0);
  }
  check("splat_raster");
}

template <class T>
void splat_raster_vjp(const SplatRasterVjpArgs<T>& a) {
  const unsigned tiles = unsigned(tiles_along(a.width, kTile) * tiles_along(a.height, kTile));
  const auto where = stream(a.stream);
  for (int64_t c0 = 0; c0 < a.channels; c0 += kGroup) {
    const int64_t n = a.channels - c0 < kGroup ? a.channels - c0 : kGroup;
    const auto kernel = a.v_xy_abs ? unblend_kernel<true, T>(n) : unblend_kernel<false, T>(n);
    kernel<<<tiles, kBackThreads, 0, where>>>(a, c0);
    if (a.count > 0) sum_rows<<<blocks(a.count, kRowsOfBlock), kThreads, 0, where>>>(a, c0, int(n));
  }
  if (a.v_background) sum_tiles<<<unsigned(a.channels), kThreads, 0, where>>>(a, int64_t(tiles));
  check("splat_raster_vjp");
}

template void splat_raster<float>(const SplatRasterArgs<float>&);
template void splat_raster<double>(const SplatRasterArgs<double>&);
template void splat_raster_vjp<float>(const SplatRasterVjpArgs<float>&);
template void splat_raster_vjp<double>(const SplatRasterVjpArgs<double>&);

}  // namespace n3d::cuda
