#include "core/cuda.h"
#include "ops/ssim.h"

namespace n3d::cuda {

namespace {

// A block blurs kTileRows × kColumns scalars: each thread walks down a column (and one beyond the tile's sides), which
// gives the vertically blurred rows in shared memory, then the block blurs along them.
constexpr int kTileRows = 8;
constexpr int kReach = kSsimRadius;
template <class T>
constexpr int kColumns = sizeof(T) == 4 ? 256 : 64;  // of double, what fits 48 KiB
template <class T>
constexpr int kPitch = kColumns<T> + 2 * kReach * kSsimMaxChannels;
constexpr int kBlock = 288;  // RGB: columns and both sides at once

template <class T, int kFields>
struct BlurredRows {
  T rows[kFields][kTileRows][kPitch<T>];
};

// fields(y, c, out) reads what is to be blurred; f(y, c, blurred fields) takes the results inside the picture.
template <class T, int kFields, class Fields, class F>
__device__ void blur_tile(BlurredRows<T, kFields>& shared, int64_t height, int64_t columns, int channels,
                          const Fields& fields, const F& f) {
  const int64_t row = int64_t(blockIdx.y) * kTileRows, first = int64_t(blockIdx.x) * kColumns<T>;
  const int halo = kReach * channels;
  for (int at = threadIdx.x; at < kColumns<T> + 2 * halo; at += kBlock) {
    const int64_t c = first - halo + at;
    T sums[kTileRows][kFields] = {};
#pragma unroll
    for (int j = 0; j < kTileRows + 2 * kReach; ++j) {
      const int64_t y = row - kReach + j;
      if (c < 0 || c >= columns || y < 0 || y >= height) continue;
      T values[kFields];
      fields(y, c, values);
#pragma unroll
      for (int r = 0; r < kTileRows; ++r)
        if (j - r >= 0 && j - r <= 2 * kReach)
#pragma unroll
          for (int k = 0; k < kFields; ++k) sums[r][k] += ssim_weight<T>(j - r - kReach) * values[k];
    }
#pragma unroll
    for (int r = 0; r < kTileRows; ++r)
#pragma unroll
      for (int k = 0; k < kFields; ++k) shared.rows[k][r][at] = sums[r][k];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kTileRows * kColumns<T>; i += kBlock) {
    const int r = i / kColumns<T>, at = i % kColumns<T>;
    if (row + r >= height || first + at >= columns) continue;
    T sums[kFields] = {};
#pragma unroll
    for (int j = -kReach; j <= kReach; ++j)
#pragma unroll
      for (int k = 0; k < kFields; ++k) sums[k] += ssim_weight<T>(j) * shared.rows[k][r][at + halo + j * channels];
    f(row + r, first + at, sums);
  }
}

// The block's sums in a fixed order: lanes of a warp, then warps. For thread 0; called once.
__device__ void block_sums(double (&values)[2]) {
  __shared__ double warps[2][kBlock / 32];
  for (int k = 0; k < 2; ++k) {
    for (int offset = 16; offset > 0; offset /= 2) values[k] += __shfl_down_sync(0xffffffff, values[k], offset);
    if (threadIdx.x % 32 == 0) warps[k][threadIdx.x / 32] = values[k];
  }
  __syncthreads();
  if (threadIdx.x == 0)
    for (int k = 0; k < 2; ++k) {
      values[k] = 0;
      for (int w = 0; w < kBlock / 32; ++w) values[k] += warps[k][w];
    }
}

template <class T>
__global__ void __launch_bounds__(kBlock) ssim_tiles(SsimArgs<T> a) {
  __shared__ BlurredRows<T, 4> shared;
  const int64_t columns = a.width * a.channels, plane = a.height * columns;
  double totals[2] = {};  // Σ S, Σ |x − y|
  blur_tile(
      shared, a.height, columns, static_cast<int>(a.channels),
      [&](int64_t y, int64_t c, T* out) {
        const T image = a.image[y * columns + c], truth = a.truth[y * columns + c];
        out[0] = image, out[1] = truth, out[2] = image * image + truth * truth, out[3] = image * truth;
      },
      [&](int64_t y, int64_t c, const T* blurred) {
        const SsimPoint<T> point = ssim_point<T>(blurred[0], blurred[1], blurred[2], blurred[3]);
        const int64_t at = y * columns + c;
        totals[0] += point.value, totals[1] += absolute(a.image[at] - a.truth[at]);
        if (!a.partials) return;
        T* to = a.partials + at;
        to[0] = point.by_mean, to[plane] = point.by_squares, to[2 * plane] = point.by_product;
      });
  block_sums(totals);
  const int64_t piece = blockIdx.y * int64_t(gridDim.x) + blockIdx.x, pieces = int64_t(gridDim.x) * gridDim.y;
  if (threadIdx.x == 0) a.sums[piece] = totals[0], a.sums[pieces + piece] = totals[1];
}

template <class T>
__global__ void __launch_bounds__(kBlock) ssim_means(SsimArgs<T> a, int64_t pieces) {
  double totals[2] = {};
  for (int64_t i = threadIdx.x; i < pieces; i += kBlock) totals[0] += a.sums[i], totals[1] += a.sums[pieces + i];
  block_sums(totals);
  const double count = static_cast<double>(a.height * a.width * a.channels);
  if (threadIdx.x == 0)
    for (int k = 0; k < 2; ++k) a.means[k] = static_cast<T>(totals[k] / count);
}

template <class T>
__global__ void __launch_bounds__(kBlock) ssim_tiles_vjp(SsimVjpArgs<T> a) {
  __shared__ BlurredRows<T, 3> shared;
  const int64_t columns = a.width * a.channels, plane = a.height * columns;
  const double share = 1 / static_cast<double>(plane);
  const T scale = static_cast<T>(a.v_means[0] * share), pull = static_cast<T>(a.v_means[1] * share);
  blur_tile(
      shared, a.height, columns, static_cast<int>(a.channels),
      [&](int64_t y, int64_t c, T* out) {
#pragma unroll
        for (int k = 0; k < 3; ++k) out[k] = a.partials[k * plane + y * columns + c];
      },
      [&](int64_t y, int64_t c, const T* blurred) {
        const int64_t at = y * columns + c;
        const T image = a.image[at], truth = a.truth[at];
        a.v_image[at] =
            scale * (blurred[0] + 2 * image * blurred[1] + truth * blurred[2]) + sign_times(image - truth, pull);
      });
}

template <class T>
dim3 tiles(int64_t height, int64_t columns) {
  return {blocks(columns, kColumns<T>), blocks(height, kTileRows)};
}

}  // namespace

template <class T>
void ssim(const SsimArgs<T>& a) {
  const dim3 grid = tiles<T>(a.height, a.width * a.channels);
  ssim_tiles<<<grid, kBlock, 0, stream(a.stream)>>>(a);
  ssim_means<<<1, kBlock, 0, stream(a.stream)>>>(a, int64_t(grid.x) * grid.y);
  check("ssim");
}

template <class T>
void ssim_vjp(const SsimVjpArgs<T>& a) {
  ssim_tiles_vjp<<<tiles<T>(a.height, a.width * a.channels), kBlock, 0, stream(a.stream)>>>(a);
  check("ssim_vjp");
}

template void ssim<float>(const SsimArgs<float>&);
template void ssim<double>(const SsimArgs<double>&);
template void ssim_vjp<float>(const SsimVjpArgs<float>&);
template void ssim_vjp<double>(const SsimVjpArgs<double>&);

}  // namespace n3d::cuda
