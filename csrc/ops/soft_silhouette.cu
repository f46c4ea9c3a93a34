// A block draws a tile of the picture, a thread for a pixel: its threads read a batch of faces, and all take those
// within the tile's reach in their order. Gradients are gathered by a warp for each face, which finds its pixels again.
#include "core/cuda.h"
#include "ops/soft_silhouette.h"

namespace n3d::cuda {

namespace {

constexpr int kTile = 16, kWarps = kThreads / 32;
static_assert(kTile * kTile == kThreads);
constexpr unsigned kAll = 0xffffffffu;

template <class T>
__global__ void draw_tile(const __grid_constant__ SoftSilhouetteArgs<T> a, int64_t across, int64_t tiles) {
  __shared__ SoftTriangle<T> batch[kThreads];
  __shared__ unsigned within[kWarps];  // a bit for each of the batch
  const int64_t tile = blockIdx.x % tiles, image = blockIdx.x / tiles;
  const int left = int(tile % across) * kTile, top = int(tile / across) * kTile;
  const int x = left + threadIdx.x % kTile, y = top + threadIdx.x / kTile;
  const T* pixels = a.pixels + 3 * image * a.vertices;
  T through = 1;
  for (int64_t first = 0; first < a.count; first += kThreads) {
    const int64_t f = first + threadIdx.x;
    SoftTriangle<T>& own = batch[threadIdx.x];
    const bool reaches = f < a.count && own.read(pixels, a.faces, f, a.reach, a.width, a.height) &&
                         own.box.x0 < left + kTile && own.box.x1 >= left && own.box.y0 < top + kTile &&
                         own.box.y1 >= top;
    const unsigned bits = __ballot_sync(kAll, reaches);
    if (threadIdx.x % 32 == 0) within[threadIdx.x / 32] = bits;
    __syncthreads();
    for (int warp = 0; warp < kWarps; ++warp)
      for (unsigned rest = within[warp]; rest; rest &= rest - 1)
        through *= batch[32 * warp + __ffs(rest) - 1].lets_through(T(x) + T(0.5), T(y) + T(0.5), a.sigma);
    __syncthreads();
  }
  if (x < a.width && y < a.height) a.transmittance[(image * a.height + y) * a.width + x] = through;
}

template <class T>
__device__ T warp_sum(T v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kAll, v, step);
  return v;
}

template <class T>
__global__ void gather_pixels(const __grid_constant__ SoftSilhouetteVjpArgs<T> a) {
  const int64_t task = blockIdx.x * int64_t(kWarps) + threadIdx.x / 32;
  if (task >= a.batch * a.count) return;
  const int lane = threadIdx.x % 32;
  const int64_t f = task % a.count, image = task / a.count;
  T v_x[3] = {0, 0, 0}, v_y[3] = {0, 0, 0};
  SoftTriangle<T> t;
  if (t.read(a.pixels + 3 * image * a.vertices, a.faces, f, a.reach, a.width, a.height)) {
    const int64_t columns = t.box.x1 - t.box.x0 + 1, within = columns * (t.box.y1 - t.box.y0 + 1);
    for (int64_t i = lane; i < within; i += 32) {
      const int64_t x = t.box.x0 + i % columns, y = t.box.y0 + i / columns, at = (image * a.height + y) * a.width + x;
      const T v = a.v_silhouette[at] * a.transmittance[at];
      if (v != 0) t.corners_vjp(T(x) + T(0.5), T(y) + T(0.5), a.sigma, v, true, v_x, v_y);
    }
  }
  T* out = a.v_corners + 6 * task;
  for (int k = 0; k < 3; ++k) {
    const T x = warp_sum(v_x[k]), y = warp_sum(v_y[k]);
    if (lane == 0) out[2 * k] = x, out[2 * k + 1] = y;
  }
}

}  // namespace

template <class T>
void soft_silhouette(const SoftSilhouetteArgs<T>& a) {
  const int64_t across = (a.width + kTile - 1) / kTile, tiles = across * ((a.height + kTile - 1) / kTile);
  if (a.batch == 0) return;
  draw_tile<T><<<blocks(a.batch * tiles, 1), kThreads, 0, stream(a.stream)>>>(a, across, tiles);
  check("soft_silhouette");
}

template <class T>
void soft_silhouette_vjp(const SoftSilhouetteVjpArgs<T>& a) {
  if (a.batch * a.count == 0) return;
  gather_pixels<T><<<blocks(a.batch * a.count, kWarps), kThreads, 0, stream(a.stream)>>>(a);
  check("soft_silhouette_vjp");
}

template void soft_silhouette<float>(const SoftSilhouetteArgs<float>&);
template void soft_silhouette<double>(const SoftSilhouetteArgs<double>&);
template void soft_silhouette_vjp<float>(const SoftSilhouetteVjpArgs<float>&);
template void soft_silhouette_vjp<double>(const SoftSilhouetteVjpArgs<double>&);

}  // namespace n3d::cuda
