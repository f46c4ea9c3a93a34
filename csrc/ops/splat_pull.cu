#include "core/cuda.h"
#include "ops/splat_pull.h"

namespace n3d::cuda {

namespace {

template <class T>
__global__ void splat_pulls(SplatPullArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= a.count) return;
  splat_pull(a.v_xy[2 * i], a.v_xy[2 * i + 1], a.radius[i], T(a.half_width), T(a.half_height), a.pull[i], a.views[i]);
}

}  // namespace

template <class T>
void splat_pull(const SplatPullArgs<T>& a) {
  if (a.count == 0) return;
  splat_pulls<<<blocks(a.count), kThreads, 0, stream(a.stream)>>>(a);
  check("splat_pull");
}

template void splat_pull<float>(const SplatPullArgs<float>&);
template void splat_pull<double>(const SplatPullArgs<double>&);

}  // namespace n3d::cuda
