// A block of 8 warps blends a tile of 16 × 16 pixels, a warp 8 × 4 of them. Splats pass through shared memory in
// batches; whoever fetches one also finds which warps' pixels its ellipse touches, so that a warp visits no others.
#include "core/cuda.h"
#include "ops/splat_raster.h"

namespace n3d::cuda {

namespace {

constexpr int kTile = kTileSizeCuda, kTilePixels = kTile * kTile, kWarps = kTilePixels / 32;
constexpr int kWarpWidth = 8, kWarpHeight = 4;
constexpr unsigned kAll = 0xffffffffu;

struct Pixel {
  int tile, thread, warp, lane;
  int left, top;  // the tile's first pixel
  int x, y;
  bool inside;

  __device__ Pixel(int64_t width, int64_t height) {
    const int tiles_x = int(tiles_along(width, kTile));
    tile = blockIdx.x, thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    left = tile % tiles_x * kTile, top = tile / tiles_x * kTile;
    x = left + warp % 2 * kWarpWidth + lane % kWarpWidth, y = top + warp / 2 * kWarpHeight + lane / kWarpWidth;
    inside = x < width && y < height;
  }
  __device__ int64_t index(int64_t width) const { return int64_t(y) * width + x; }
  __device__ int64_t state() const { return int64_t(tile) * kTilePixels + thread; }
};

// Which warps' pixels a splat touches, a bit each.
template <class T>
__device__ uint32_t touched_warps(const Splat<T>& g, int left, int top) {
  const T h = T(-0.5) * g.b, k = h / g.c, l = h / g.a;
  uint32_t bits = 0;
  for (int w = 0; w < kWarps; ++w) {
    const T x = T(left + w % 2 * kWarpWidth) + T(0.5) - g.x, y = T(top + w / 2 * kWarpHeight) + T(0.5) - g.y;
    const T least = least_exponent<T>(g, k, l, x, y, x + T(kWarpWidth - 1), y + T(kWarpHeight - 1));
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

  // Entry `at`, by one thread, to place j.
  __device__ void fetch(int j, const Splat<T>* splats, const T* features, int64_t channels, int64_t c0, int32_t i,
                        const Pixel& p) {
    Splat<T>& g = splat[j];
    g = splats[i];
    if (c0 > 0)
      for (int c = 0; c < kChannels && c < kRecorded; ++c) g.feature[c] = features[i * channels + c0 + c];
    for (int c = 0; c < kMore; ++c) more[j][c] = features[i * channels + c0 + kRecorded + c];
    warps[j] = touched_warps(g, p.left, p.top);
  }
  __device__ T feature(int j, int c) const { return c < kRecorded ? splat[j].feature[c] : more[j][c - kRecorded]; }
};

template <int kChannels, class T>
__global__ void __launch_bounds__(kTilePixels) blend_tiles(SplatRasterArgs<T> a, int64_t c0) {
  __shared__ Batch<kChannels, kTilePixels, T> batch;
  const Pixel p(a.width, a.height);
  const int begin = a.tile_begin[p.tile], end = a.tile_begin[p.tile + 1];
  T through = 1, sum[kChannels] = {};
  int32_t stopped = INT32_MAX;
  bool done = !p.inside;
  for (int base = begin; base < end; base += kTilePixels) {
    if (__syncthreads_count(done) == kTilePixels) break;
    const int n = end - base < kTilePixels ? end - base : kTilePixels;
    if (p.thread < n) batch.fetch(p.thread, a.splats, a.features, a.channels, c0, a.entry[base + p.thread], p);
    __syncthreads();
    for (int j0 = 0; j0 < n; j0 += 32) {
      unsigned todo = __ballot_sync(kAll, j0 + p.lane < n && (batch.warps[j0 + p.lane] >> p.warp & 1));
      for (; todo; todo &= todo - 1) {
        const int j = j0 + __ffs(todo) - 1;
        const Splat<T>& g = batch.splat[j];
        const T e = exponent<T>(T(p.x) + T(0.5) - g.x, T(p.y) + T(0.5) - g.y, g.a, g.b, g.c, g.level);
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
  a.through[p.state()] = through;
  a.stopped[p.state()] = p.inside ? stopped : 0;
  if (!p.inside) return;
  const int64_t pixel = p.index(a.width);
  a.alpha[pixel] = 1 - through;
  for (int c = 0; c < kChannels; ++c)
    a.image[pixel * a.channels + c0 + c] = sum[c] + (a.background ? through * a.background[c0 + c] : T(0));
}

// Sums of v[q] over the warp: threads 2 q and 2 q + 1 have that of v[q]. v is used up.
template <int kHalf = kSplatScalars / 2, class T>
__device__ T warp_sums(T (&v)[kSplatScalars], int lane) {
  if constexpr (kHalf == 0) {
    return v[0] + __shfl_xor_sync(kAll, v[0], 1);
  } else {
    const bool upper = lane & 2 * kHalf;
#pragma unroll
    for (int k = 0; k < kHalf; ++k) {
      const T mine = upper ? v[k + kHalf] : v[k], others = upper ? v[k] : v[k + kHalf];
      v[k] = mine + __shfl_xor_sync(kAll, others, 2 * kHalf);
    }
    return warp_sums<kHalf / 2>(v, lane);
  }
}

// `ordered`: rows belong to entries, and the warps' sums are added in their order; otherwise rows belong to splats, and
// each warp adds its sums to them atomically, all of a row at once.
template <int kChannels, bool kAbs, bool kOrdered, class T>
__global__ void __launch_bounds__(kTilePixels) unblend_tiles(SplatRasterVjpArgs<T> a, int64_t c0) {
  constexpr int kBatch = kOrdered ? 32 : kTilePixels, kFeature = sum_feature(kAbs), kUsed = kFeature + kChannels;
  __shared__ Batch<kChannels, kBatch, T> batch;
  __shared__ T parts[kOrdered ? kBatch : 1][kWarps][kSplatScalars];
  __shared__ int most;
  const Pixel p(a.width, a.height);
  const int begin = a.tile_begin[p.tile], count = a.tile_begin[p.tile + 1] - begin;
  const int32_t stopped = a.stopped[p.state()];
  T through = a.through[p.state()], behind = 0, v_color[kChannels] = {};
  if (p.inside) {
    const int64_t pixel = p.index(a.width);
    if (a.v_alpha && c0 == 0) behind = -a.v_alpha[pixel];
    for (int c = 0; c < kChannels; ++c) {
      v_color[c] = a.v_image[pixel * a.channels + c0 + c];
      if (a.background) behind += a.background[c0 + c] * v_color[c];
    }
  }
  if (p.thread == 0) most = 0;
  __syncthreads();
  atomicMax(&most, stopped < count ? stopped : count);
  __syncthreads();

  for (int high = most; high > 0; high -= kBatch) {
    const int low = high > kBatch ? high - kBatch : 0;
    __syncthreads();
    if (p.thread < high - low)
      batch.fetch(p.thread, a.splats, a.features, a.channels, c0, a.entry[begin + low + p.thread], p);
    if (kOrdered)
      for (int k = p.thread; k < kBatch * kWarps * kSplatScalars; k += kTilePixels) (&parts[0][0][0])[k] = 0;
    __syncthreads();
    for (int j0 = (high - low - 1) / 32 * 32; j0 >= 0; j0 -= 32) {
      unsigned todo = __ballot_sync(kAll, j0 + p.lane < high - low && (batch.warps[j0 + p.lane] >> p.warp & 1));
      while (todo) {
        const int bit = 31 - __clz(todo), j = j0 + bit;
        todo &= ~(1u << bit);
        const Splat<T>& g = batch.splat[j];
        const T dx = T(p.x) + T(0.5) - g.x, dy = T(p.y) + T(0.5) - g.y;
        const T e = exponent<T>(dx, dy, g.a, g.b, g.c, g.level);
        const bool covered = low + j < stopped && e >= T(kLevelMin);
        if (!__any_sync(kAll, covered)) continue;
        T v[kSplatScalars] = {};
        if (covered) {
          const T full = power_of_two(e), alpha = minimum(full, T(kAlphaMax));
          through = quotient(through, 1 - alpha);
          const T w = through * alpha;
          T d = -behind;
          for (int c = 0; c < kChannels; ++c) {
            d = fused(batch.feature(j, c), v_color[c], d);
            v[kFeature + c] = w * v_color[c];
          }
          behind = fused(alpha, d, behind);
          const T s = full < T(kAlphaMax) ? w * d : T(0), sx = s * dx, sy = s * dy;
          v[kSum] = s, v[kSumX] = sx, v[kSumY] = sy;
          v[kSumXX] = sx * dx, v[kSumXY] = sx * dy, v[kSumYY] = sy * dy;
          if (kAbs) {
            v[kSumAbsX] = absolute(fused(2 * g.a, sx, g.b * sy));
            v[kSumAbsY] = absolute(fused(2 * g.c, sy, g.b * sx));
          }
        }
        const T total = warp_sums(v, p.lane);
        const int q = p.lane / 2;
        if (p.lane % 2 == 0 && q < kUsed) {
          if constexpr (kOrdered)
            parts[j][p.warp][q] = total;
          else
            atomicAdd(a.rows + int64_t(a.entry[begin + low + j]) * kSplatScalars + q, total);
        }
      }
    }
    if constexpr (kOrdered) {
      __syncthreads();
      for (int k = p.thread; k < (high - low) * kSplatScalars; k += kTilePixels) {
        const int j = k / kSplatScalars, q = k % kSplatScalars;
        T sum = 0;
        for (int w = 0; w < kWarps; ++w) sum += parts[j][w][q];
        a.rows[int64_t(a.place[begin + low + j]) * kSplatScalars + q] = sum;
      }
    }
  }
  if constexpr (kOrdered)  // entries that every pixel stopped in front of
    for (int k = most * kSplatScalars + p.thread; k < count * kSplatScalars; k += kTilePixels)
      a.rows[int64_t(a.place[begin + k / kSplatScalars]) * kSplatScalars + k % kSplatScalars] = 0;

  if (a.v_background == nullptr) return;
  __shared__ T v_warp[kWarps];
  for (int c = 0; c < kChannels; ++c) {
    T v = a.through[p.state()] * v_color[c];
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kAll, v, step);
    if (p.lane == 0) v_warp[p.warp] = v;
    __syncthreads();
    if (p.thread == 0) {
      T sum = 0;
      for (int w = 0; w < kWarps; ++w) sum += v_warp[w];
      a.v_tile[int64_t(p.tile) * a.channels + c0 + c] = sum;
    }
    __syncthreads();
  }
}

template <class T>
__global__ void sum_rows(SplatRasterVjpArgs<T> a, int64_t c0, int channels) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= a.count) return;
  const Splat<T>& g = a.splats[i];
  T sums[kSplatScalars] = {};
  for (int k = 0; k < (a.ordered ? g.tiles : 1); ++k) {
    const T* row = a.rows + (a.ordered ? int64_t(g.slot + k) : i) * kSplatScalars;
    for (int q = 0; q < kSplatScalars; ++q) sums[q] += row[q];
  }
  store_gradients(a, i, c0, channels, sums);
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

template <bool kAbs, bool kOrdered, class T, int kMost = kGroup>
auto unblend_kernel(int64_t channels) {
  if constexpr (kMost > 1)
    if (channels < kMost) return unblend_kernel<kAbs, kOrdered, T, kMost - 1>(channels);
  return unblend_tiles<kMost, kAbs, kOrdered, T>;
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
    const auto kernel = a.v_xy_abs
                            ? (a.ordered ? unblend_kernel<true, true, T>(n) : unblend_kernel<true, false, T>(n))
                            : (a.ordered ? unblend_kernel<false, true, T>(n) : unblend_kernel<false, false, T>(n));
    if (!a.ordered) cudaMemsetAsync(a.rows, 0, a.count * kSplatScalars * sizeof(T), where);
    kernel<<<tiles, kTilePixels, 0, where>>>(a, c0);
    if (a.count > 0) sum_rows<<<blocks(a.count), kThreads, 0, where>>>(a, c0, int(n));
  }
  if (a.v_background) sum_tiles<<<unsigned(a.channels), kThreads, 0, where>>>(a, int64_t(tiles));
  check("splat_raster_vjp");
}

template void splat_raster<float>(const SplatRasterArgs<float>&);
template void splat_raster<double>(const SplatRasterArgs<double>&);
template void splat_raster_vjp<float>(const SplatRasterVjpArgs<float>&);
template void splat_raster_vjp<double>(const SplatRasterVjpArgs<double>&);

}  // namespace n3d::cuda
