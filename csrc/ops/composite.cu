#include "core/cuda.h"
#include "ops/composite.h"

namespace n3d::cuda {

namespace {

// One thread per ray throughout: neighbouring rays are of similar length, and each walks its samples in order.

template <int kChannels, class T>
__global__ void composite_rays(CompositeArgs<T> a) {
  const int64_t ray = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (ray < a.rays) composite_ray<kChannels>(a, ray);
}

template <int kChannels, class T>
__global__ void composite_rays_vjp(CompositeVjpArgs<T> a) {
  const int64_t ray = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (ray < a.rays) composite_ray_vjp<kChannels>(a, ray);
}

template <class T>
__global__ void used_rays(UsedArgs<T> a) {
  const int64_t ray = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (ray < a.rays) a.used[ray] = used_by_ray(a, ray);
}

}  // namespace

template <class T>
void composite(const CompositeArgs<T>& a) {
  if (a.rays == 0) return;
  const auto kernel = a.channels == 3 ? composite_rays<3, T> : composite_rays<0, T>;
  kernel<<<blocks(a.rays), kThreads, 0, stream(a.stream)>>>(a);
  check("composite");
}

template <class T>
void composite_vjp(const CompositeVjpArgs<T>& a) {
  if (a.rays == 0) return;
  const auto kernel = a.channels == 3 ? composite_rays_vjp<3, T> : composite_rays_vjp<0, T>;
  kernel<<<blocks(a.rays), kThreads, 0, stream(a.stream)>>>(a);
  check("composite_vjp");
}

template <class T>
void composite_used(const UsedArgs<T>& a) {
  if (a.rays == 0) return;
  used_rays<<<blocks(a.rays), kThreads, 0, stream(a.stream)>>>(a);
  check("composite_used");
}

template void composite<float>(const CompositeArgs<float>&);
template void composite<double>(const CompositeArgs<double>&);
template void composite_vjp<float>(const CompositeVjpArgs<float>&);
template void composite_vjp<double>(const CompositeVjpArgs<double>&);
template void composite_used<float>(const UsedArgs<float>&);
template void composite_used<double>(const UsedArgs<double>&);

}  // namespace n3d::cuda
