#include "core/cuda.h"
#include "ops/composite.h"

namespace n3d::cuda {

namespace {

// One thread per ray throughout: neighbouring rays are of similar length, and each walks its samples in order.

template <int kChannels, class T>
__global__ void composite_rays(CompositeArgs<T> a) {
  const int64_t ray = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (ray >= a.rays) return;
  const int64_t channels = kChannels ? kChannels : a.channels;
  const int64_t end = a.offsets[ray + 1], begin = a.offsets[ray];
  const T stop = static_cast<T>(a.early_stop);
  T* out = a.out_color + ray * channels;
  T sum[kChannels ? kChannels : 1] = {};
  if (!kChannels)
    for (int64_t c = 0; c < channels; ++c) out[c] = 0;

  Front<T> front;
  int64_t i = begin;
  for (; i < end && !(front.transmittance < stop); ++i) {
    const Exp<T> e = exponentials(-a.sigma[i] * a.dt[i]);
    const T w = front.add(-e.expm1, e.exp, a.t[i], a.dt[i]);
    a.weights[i] = w;
    for (int64_t c = 0; c < channels; ++c) (kChannels ? sum : out)[c] += w * a.color[i * channels + c];
  }
  front.finish(a, ray, i - begin);
  for (; i < end; ++i) a.weights[i] = 0;
  for (int c = 0; c < kChannels; ++c) out[c] = sum[c];
}

template <int kChannels, class T>
__global__ void composite_rays_vjp(CompositeVjpArgs<T> a) {
  const int64_t ray = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (ray < a.rays) composite_ray_vjp<kChannels>(a, ray);
}

template <class T>
__global__ void used_rays(UsedArgs<T> a) {
  const int64_t ray = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (ray >= a.rays) return;
  const int64_t end = a.offsets[ray + 1], begin = a.offsets[ray];
  const T stop = static_cast<T>(a.early_stop);
  T transmittance = 1;
  int64_t i = begin;
  for (; i < end && !(transmittance < stop); ++i) transmittance *= exponentials(-a.sigma[i] * a.dt[i]).exp;
  a.used[ray] = i - begin;
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
