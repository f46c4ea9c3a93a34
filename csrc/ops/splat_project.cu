// CUDA driver: a thread per splat. A warp's 32 rows of harmonics, up to 180 bytes each, pass through shared memory, so
// that they are read and written in whole lines; rows of culled splats are not read. Rows of an odd length meet no bank
// conflicts, which leaves those of 8 bands.
#include <cuda_pipeline.h>

#include "core/cuda.h"
#include "ops/splat_project.h"

namespace n3d::cuda {

namespace {

constexpr int kWarp = 32, kWarps = kSplatBlock / kWarp;
constexpr unsigned kAll = 0xffffffff;

template <class T>
__device__ Vec3<T> load3(const T* p, int64_t i) {
  return p ? Vec3<T>{p[3 * i], p[3 * i + 1], p[3 * i + 2]} : Vec3<T>{0, 0, 0};
}
template <class T>
__device__ T load1(const T* p, int64_t i) {
  return p ? p[i] : T(0);
}
template <class T>
__device__ void store3(T* p, int64_t i, T x, T y, T z) {
  if (p) p[3 * i] = x, p[3 * i + 1] = y, p[3 * i + 2] = z;
}

template <class T>
__device__ Splat<T> load_splat(const SplatInputs<T>& in, int64_t i) {
  const T* q = in.quats + 4 * i;
  return {load3(in.means, i), {q[0], q[1], q[2], q[3]}, load3(in.scales, i), in.opacities[i]};
}

// This warp's part of the block's shared memory.
template <class T>
__device__ T* warp_rows(int width) {
  extern __shared__ __align__(16) unsigned char shared[];
  return reinterpret_cast<T*>(shared) + threadIdx.x / kWarp * kWarp * width;
}

template <int kDegree, bool kPinhole, class T>
__global__ void __launch_bounds__(kSplatBlock) project_splats(const __grid_constant__ SplatProjectArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(kSplatBlock) + threadIdx.x, first = i / kWarp * kWarp;
  const int lane = threadIdx.x % kWarp;
  const SplatView<T> view(a.in);
  Splat<T> splat;
  bool visible = false;
  if (i < a.in.n) {
    splat = load_splat(a.in, i);
    Projection<T> out = project<kPinhole>(view, splat);
    visible = out.visible;
    if (!visible) out = Projection<T>{};
    a.xy[2 * i] = out.x, a.xy[2 * i + 1] = out.y;
    store3(a.conic, i, out.conic_xx, out.conic_xy, out.conic_yy);
    a.depth[i] = out.depth, a.opacity[i] = out.opacity, a.radius[i] = out.radius;
  }
  if constexpr (kDegree >= 0) {
    const int width = 3 * static_cast<int>(a.in.bands);
    T* rows = warp_rows<T>(width);
    const unsigned wanted = __ballot_sync(kAll, visible);
    if constexpr (kDegree > 0) {
      for (int r = 0; r < kWarp; ++r) {
        if (!(wanted >> r & 1)) continue;
        for (int c = lane; c < 3 * sh_bands(kDegree); c += kWarp)
          __pipeline_memcpy_async(rows + r * width + c, a.in.sh_rest + (first + r) * width + c, sizeof(T));
      }
      __pipeline_commit();
      __pipeline_wait_prior(0);
      __syncwarp();
    }
    if (i >= a.in.n) return;
    T color[3] = {0, 0, 0};
    if (visible) {
      const T dc[3] = {a.in.sh_dc[3 * i], a.in.sh_dc[3 * i + 1], a.in.sh_dc[3 * i + 2]};
      Vec3<T> slopes[3];
      shade<kDegree, T>(Direction<T>(view, splat.mean), dc, rows + lane * width, color, slopes);
      if (a.slopes)
        for (int c = 0; c < 3; ++c) {
          T* plane = a.slopes + 3 * c * a.in.n + i;
          plane[0] = slopes[c].x, plane[a.in.n] = slopes[c].y, plane[2 * a.in.n] = slopes[c].z;
        }
    }
    store3(a.color, i, color[0], color[1], color[2]);
  }
}

// The sums over a block, to its row of `partial`.
template <class T>
__device__ void sum_block(CameraGradient<T>& camera, T* partial) {
  __shared__ T sums[kWarps][kCameraSums];
  camera.each([&](int k, T& value) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_down_sync(kAll, value, offset);
    if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp][k] = value;
  });
  __syncthreads();
  if (threadIdx.x >= kCameraSums) return;
  T total = 0;
  for (int w = 0; w < kWarps; ++w) total += sums[w][threadIdx.x];
  partial[int64_t(blockIdx.x) * kCameraSums + threadIdx.x] = total;
}

template <int kDegree, bool kPinhole, class T>
__global__ void __launch_bounds__(kSplatBlock) project_splats_vjp(const __grid_constant__ SplatProjectVjpArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(kSplatBlock) + threadIdx.x, first = i / kWarp * kWarp;
  const int lane = threadIdx.x % kWarp;
  const SplatView<T> view(a.in);
  Splat<T> splat, out{};
  CameraGradient<T> camera{};
  T v_color[3] = {0, 0, 0};
  const bool visible = i < a.in.n && a.radius[i] > 0;
  if (visible) {
    splat = load_splat(a.in, i);
    ProjectionGradient<T> v{};
    if (a.v_xy) v.x = a.v_xy[2 * i], v.y = a.v_xy[2 * i + 1];
    const Vec3<T> conic = load3(a.v_conic, i);
    v.conic_xx = conic.x, v.conic_xy = conic.y, v.conic_yy = conic.z;
    v.depth = load1(a.v_depth, i), v.opacity = load1(a.v_opacity, i);
    out = project_vjp<kPinhole>(view, splat, v, &camera);
    if constexpr (kDegree >= 0) {
      camera.back = {0, 0, 0};
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        if (a.v_color && a.color[3 * i + c] > 0) v_color[c] = a.v_color[3 * i + c];
        const T* plane = a.slopes + 3 * c * a.in.n + i;
        camera.back += Vec3<T>{plane[0], plane[a.in.n], plane[2 * a.in.n]} * v_color[c];
      }
      out.mean += camera.back;
    }
  }
  if (i < a.in.n) {
    store3(a.v_means, i, out.mean.x, out.mean.y, out.mean.z);
    store3(a.v_scales, i, out.scale.x, out.scale.y, out.scale.z);
    store3(a.v_sh_dc, i, T(kY0) * v_color[0], T(kY0) * v_color[1], T(kY0) * v_color[2]);
    if (a.v_opacities) a.v_opacities[i] = out.opacity;
    if (a.v_quats) {
      T* q = a.v_quats + 4 * i;
      q[0] = out.quat.w, q[1] = out.quat.x, q[2] = out.quat.y, q[3] = out.quat.z;
    }
  }
  if constexpr (kDegree >= 0) {
    if (a.v_sh_rest && first < a.in.n) {
      const int width = 3 * static_cast<int>(a.in.bands);
      T* rows = warp_rows<T>(width);
      T* own = rows + lane * width;
      T y[kDegree > 0 ? sh_bands(kDegree) : 1];
      if (visible) harmonics<kDegree, T>(Direction<T>(view, splat.mean).d, y);
#pragma unroll
      for (int k = 0; k < sh_bands(kDegree); ++k)
        for (int c = 0; c < 3; ++c) own[3 * k + c] = visible ? y[k] * v_color[c] : T(0);
      for (int c = 3 * sh_bands(kDegree); c < width; ++c) own[c] = 0;
      __syncwarp();
      const int64_t left = a.in.n - first;
      const int count = static_cast<int>(left < kWarp ? left : kWarp) * width;
      for (int k = lane; k < count; k += kWarp) a.v_sh_rest[first * width + k] = rows[k];
    }
  }
  if (a.partial) sum_block(camera, a.partial);
}

// One warp per sum, always in the same order; then the camera's gradient.
template <class T>
__global__ void sum_cameras(const __grid_constant__ SplatProjectVjpArgs<T> a, int64_t blocks) {
  __shared__ T sums[kCameraSums];
  const int k = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  double total = 0;
  for (int64_t block = lane; block < blocks; block += kWarp) total += a.partial[block * kCameraSums + k];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) total += __shfl_down_sync(kAll, total, offset);
  if (lane == 0) sums[k] = static_cast<T>(total);
  __syncthreads();
  if (threadIdx.x > 0) return;
  CameraGradient<T> camera;
  camera.each([&](int k, T& value) { value = sums[k]; });
  camera_vjp(SplatView<T>(a.in), camera, a.v_camera, a.v_intrinsics);
}

template <class T>
size_t shared_bytes(const SplatInputs<T>& in) {
  return in.sh_dc ? sizeof(T) * kSplatBlock * 3 * in.bands : 0;
}

}  // namespace

template <class T>
void splat_project(const SplatProjectArgs<T>& a) {
  if (a.in.n == 0) return;
  with_kind(a.in, [&](auto degree, auto pinhole) {
    project_splats<degree.value, pinhole.value, T>
        <<<blocks(a.in.n, kSplatBlock), kSplatBlock, shared_bytes(a.in), stream(a.stream)>>>(a);
  });
  check("splat_project");
}

template <class T>
void splat_project_vjp(const SplatProjectVjpArgs<T>& a) {
  const unsigned grid = blocks(a.in.n, kSplatBlock);
  if (grid > 0)
    with_kind(a.in, [&](auto degree, auto pinhole) {
      project_splats_vjp<degree.value, pinhole.value, T>
          <<<grid, kSplatBlock, shared_bytes(a.in), stream(a.stream)>>>(a);
    });
  if (a.partial) sum_cameras<T><<<1, kWarp * kCameraSums, 0, stream(a.stream)>>>(a, grid);
  check("splat_project_vjp");
}

template void splat_project<float>(const SplatProjectArgs<float>&);
template void splat_project<double>(const SplatProjectArgs<double>&);
template void splat_project_vjp<float>(const SplatProjectVjpArgs<float>&);
template void splat_project_vjp<double>(const SplatProjectVjpArgs<double>&);

}  // namespace n3d::cuda
