// A warp draws a face into a band of rows, its lanes over the pixels of the face's box there, twice: first the nearest
// 1 / depth is found for each pixel, by atomic maxima of its bits, then the lowest face that has it. Both are the same
// in any order. Gradients are gathered by a warp for each face, which finds its pixels again.
#include "core/cuda.h"
#include "ops/mesh_raster.h"

namespace n3d::cuda {

namespace {

constexpr int kBand = 64;  // rows
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAll = 0xffffffffu;

template <class T>
struct Bits;
template <>
struct Bits<float> {
  using Type = unsigned int;
};
template <>
struct Bits<double> {
  using Type = unsigned long long;
};

// Numbers above 0 and their bits have the same order.
template <class T>
__device__ typename Bits<T>::Type bits_of(T nearness) {
  typename Bits<T>::Type bits;
  memcpy(&bits, &nearness, sizeof bits);
  return bits;
}

template <bool kWhose, class T>
__global__ void draw_faces(MeshRasterArgs<T> a, int64_t bands) {
  const int64_t task = blockIdx.x * int64_t(kWarps) + threadIdx.x / 32;
  if (task >= a.batch * a.count * bands) return;
  const int lane = threadIdx.x % 32;
  const int64_t f = task / bands % a.count, image = task / bands / a.count;
  const int32_t first = int32_t(task % bands) * kBand;
  Triangle<T> t;
  if (!t.read(a.pixels + 3 * image * a.vertices, a.faces, f, a.width, a.height)) return;
  const int32_t top = t.box.y0 > first ? t.box.y0 : first;
  const int32_t bottom = t.box.y1 < first + kBand ? t.box.y1 : first + kBand - 1;
  const int32_t columns = t.box.x1 - t.box.x0 + 1;
  for (int32_t i = lane; i < columns * (bottom - top + 1); i += 32) {
    const int32_t x = t.box.x0 + i % columns, y = top + i / columns;
    T e[3];
    if (!t.covers(T(x) + T(0.5), T(y) + T(0.5), e)) continue;
    const T q = t.nearness(e);
    if (!(q > 0)) continue;
    const int64_t at = (image * a.height + y) * a.width + x;
    if constexpr (!kWhose)
      atomicMax(reinterpret_cast<typename Bits<T>::Type*>(a.depth + at), bits_of(q));
    else if (q == a.depth[at])
      atomicMin(reinterpret_cast<unsigned int*>(a.face + at), unsigned(f));  // −1 is the highest
  }
}

template <class T>
__global__ void finish_pixels(MeshRasterArgs<T> a) {
  const int64_t at = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (at >= a.batch * a.height * a.width) return;
  const int64_t x = at % a.width, y = at / a.width % a.height, image = at / a.width / a.height;
  const int32_t f = a.face[at];
  T b[3] = {0, 0, 0};
  if (f >= 0) {
    barycentrics_at(corners_of(a.pixels + 3 * image * a.vertices, a.faces, f), T(x) + T(0.5), T(y) + T(0.5), b);
    a.depth[at] = 1 / a.depth[at];
  }
  for (int k = 0; k < 3; ++k) a.barycentrics[3 * at + k] = b[k];
}

template <class T>
__device__ T warp_sum(T v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kAll, v, step);
  return v;
}

template <class T>
__global__ void gather_pixels(MeshRasterVjpArgs<T> a) {
  const int64_t task = blockIdx.x * int64_t(kWarps) + threadIdx.x / 32;
  if (task >= a.batch * a.count) return;
  const int lane = threadIdx.x % 32;
  const int64_t f = task % a.count, image = task / a.count;
  const Corners<T> c = corners_of(a.pixels + 3 * image * a.vertices, a.faces, f);
  Corners<T> v{};
  Box box{};
  if (box.around(c, a.width, a.height)) {
    const int64_t columns = box.x1 - box.x0 + 1, pixels = columns * (box.y1 - box.y0 + 1);
    for (int64_t i = lane; i < pixels; i += 32) {
      const int64_t x = box.x0 + i % columns, y = box.y0 + i / columns, at = (image * a.height + y) * a.width + x;
      if (a.face[at] != f) continue;
      T v_b[3] = {0, 0, 0};
      if (a.v_barycentrics)
        for (int k = 0; k < 3; ++k) v_b[k] = a.v_barycentrics[3 * at + k];
      corners_vjp(c, T(x) + T(0.5), T(y) + T(0.5), v_b, a.v_depth ? a.v_depth[at] : T(0), true, v);
    }
  }
  T* out = a.v_corners + 9 * task;
  for (int k = 0; k < 3; ++k) {
    const T sums[3] = {warp_sum(v.x[k]), warp_sum(v.y[k]), warp_sum(v.z[k])};
    if (lane == 0)
      for (int q = 0; q < 3; ++q) out[3 * k + q] = sums[q];
  }
}

template <class T>
__global__ void find_outlines(MeshOutlinesArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x, at = i / 2;
  if (at >= a.batch * a.height * a.width) return;
  a.edge[i] = outline_after(a, at / a.width / a.height, at % a.width, at / a.width % a.height, i % 2 == 1);
}

}  // namespace

template <class T>
void mesh_raster(const MeshRasterArgs<T>& a) {
  const int64_t pixels = a.batch * a.height * a.width, bands = (a.height + kBand - 1) / kBand;
  const int64_t tasks = a.batch * a.count * bands;
  if (pixels == 0) return;
  const auto where = stream(a.stream);
  cudaMemsetAsync(a.depth, 0, pixels * sizeof(T), where);
  cudaMemsetAsync(a.face, 0xff, pixels * sizeof(int32_t), where);
  if (tasks > 0) {
    draw_faces<false, T><<<blocks(tasks, kWarps), kThreads, 0, where>>>(a, bands);
    draw_faces<true, T><<<blocks(tasks, kWarps), kThreads, 0, where>>>(a, bands);
  }
  finish_pixels<T><<<blocks(pixels), kThreads, 0, where>>>(a);
  check("mesh_raster");
}

template <class T>
void mesh_raster_vjp(const MeshRasterVjpArgs<T>& a) {
  const int64_t tasks = a.batch * a.count;
  if (tasks == 0) return;
  gather_pixels<T><<<blocks(tasks, kWarps), kThreads, 0, stream(a.stream)>>>(a);
  check("mesh_raster_vjp");
}

template <class T>
void mesh_outlines(const MeshOutlinesArgs<T>& a) {
  const int64_t pairs = 2 * a.batch * a.height * a.width;
  if (pairs == 0) return;
  find_outlines<T><<<blocks(pairs), kThreads, 0, stream(a.stream)>>>(a);
  check("mesh_outlines");
}

template void mesh_raster<float>(const MeshRasterArgs<float>&);
template void mesh_raster<double>(const MeshRasterArgs<double>&);
template void mesh_raster_vjp<float>(const MeshRasterVjpArgs<float>&);
template void mesh_raster_vjp<double>(const MeshRasterVjpArgs<double>&);
template void mesh_outlines<float>(const MeshOutlinesArgs<float>&);
template void mesh_outlines<double>(const MeshOutlinesArgs<double>&);

}  // namespace n3d::cuda
