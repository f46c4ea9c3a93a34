#include "core/cuda.h"
#include "ops/ray_march.h"

namespace n3d::cuda {

namespace {

// One thread per item throughout: a ray, or a byte of the bit field.
template <class Args, class F>
__global__ void each(int64_t n, Args a, F f) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i < n) f(a, i);
}

template <class Args, class F>
void launch(const char* name, int64_t n, const Args& a, F f) {
  if (n == 0) return;
  each<<<blocks(n, 128), 128, 0, stream(a.stream)>>>(n, a, f);
  check(name);
}

}  // namespace

template <class T>
void ray_march_count(const MarchArgs<T>& a) {
  launch("ray_march_count", a.rays, a,
         [] __device__(const MarchArgs<T>& a, int64_t ray) { march_count_ray(Walk(a), ray); });
}

template <class T>
void ray_march_fill(const MarchArgs<T>& a) {
  launch("ray_march_fill", a.rays, a,
         [] __device__(const MarchArgs<T>& a, int64_t ray) { march_fill_ray(Walk(a), ray); });
}

template <class T>
void ray_aabb(const RayAabbArgs<T>& a) {
  launch("ray_aabb", a.rays, a, [] __device__(const RayAabbArgs<T>& a, int64_t ray) { ray_aabb_ray(a, ray); });
}

template <class T>
void ray_points(const RayPointsArgs<T>& a) {
  launch("ray_points", a.rays, a, [] __device__(const RayPointsArgs<T>& a, int64_t ray) { ray_points_ray(a, ray); });
}

template <class T>
void ray_points_vjp(const RayPointsVjpArgs<T>& a) {
  launch("ray_points_vjp", a.rays, a,
         [] __device__(const RayPointsVjpArgs<T>& a, int64_t ray) { ray_points_vjp_ray(a, ray); });
}

template <class T>
void compact(const CompactArgs<T>& a) {
  launch("compact", a.rays, a, [] __device__(const CompactArgs<T>& a, int64_t ray) { compact_ray(a, ray); });
}

template <class T>
void pack_bits(const PackBitsArgs<T>& a) {
  launch("pack_bits", a.levels * a.resolution * a.resolution * a.resolution / 8, a,
         [] __device__(const PackBitsArgs<T>& a, int64_t i) { pack_byte(a, i); });
}

template void ray_march_count<float>(const MarchArgs<float>&);
template void ray_march_fill<float>(const MarchArgs<float>&);
template void compact<float>(const CompactArgs<float>&);
template void pack_bits<float>(const PackBitsArgs<float>&);
template void ray_aabb<float>(const RayAabbArgs<float>&);
template void ray_aabb<double>(const RayAabbArgs<double>&);
template void ray_points<float>(const RayPointsArgs<float>&);
template void ray_points<double>(const RayPointsArgs<double>&);
template void ray_points_vjp<float>(const RayPointsVjpArgs<float>&);
template void ray_points_vjp<double>(const RayPointsVjpArgs<double>&);

}  // namespace n3d::cuda
