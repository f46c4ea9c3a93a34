#include "core/cuda.h"
#include "ops/nade.h"

namespace n3d::cuda {

namespace {

constexpr int kWarps = kThreads / 32;

// A block takes an example. Between two ones h stays, and each warp takes every kWarps-th logit.
template <class T>
__global__ void __launch_bounds__(kThreads) nade_examples(NadeArgs<T> args) {
  const int64_t units = args.panels * kPanel, example = blockIdx.x;
  const bool* x = args.x + example * args.length;
  T *a = args.a + example * units, *h = args.h + example * units, *logits = args.logits + example * args.length;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  for (int64_t u = threadIdx.x; u < units; u += kThreads) a[u] = args.c[u], h[u] = nade_sigmoid(args.c[u]);
  for (int64_t first = 0, next; first < args.length; first = next) {
    __syncthreads();
    for (next = first; next < args.length;)
      if (x[next++]) break;
    for (int64_t d = first + warp; d < next; d += kWarps) {
      T sum = 0;
      for (int64_t u = lane; u < units; u += 32)
        sum += args.v[(u / kPanel * args.length + d) * kPanel + u % kPanel] * h[u];
      for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
      if (lane == 0) logits[d] = sum;
    }
    __syncthreads();
    if (!x[next - 1]) continue;  // the end
    for (int64_t u = threadIdx.x; u < units; u += kThreads) {
      a[u] += args.w[(u / kPanel * args.length + next - 1) * kPanel + u % kPanel];
      h[u] = nade_sigmoid(a[u]);
    }
  }
}

// A thread takes a unit back through one part of the examples.
template <class T>
__global__ void __launch_bounds__(kThreads) nade_units_vjp(NadeVjpArgs<T> args) {
  const int64_t units = args.panels * kPanel, u = blockIdx.x * int64_t(kThreads) + threadIdx.x, part = blockIdx.y;
  if (u >= units) return;
  const int64_t panel = u / kPanel, weight = panel * args.length * kPanel + u % kPanel;
  const T *w = args.w + weight, *v = args.v + weight;
  T *v_w = args.v_w + part * units * args.length + weight, *v_v = args.v_v + part * units * args.length + weight;
  T v_c = 0;
  NadeUnit<T> unit;
  const int64_t begin = args.examples * part / args.parts, end = args.examples * (part + 1) / args.parts;
  for (int64_t e = begin; e < end; ++e) {
    unit.start(args.a[e * units + u]);
    for (int64_t d = args.length - 1; d >= 0; --d) {
      if (args.x[e * args.length + d]) unit.one(w[d * kPanel], v_w[d * kPanel]);
      unit.logit(args.v_logits[e * args.length + d], v[d * kPanel], v_v[d * kPanel]);
    }
    unit.gather();
    v_c += unit.v_a;
  }
  args.v_c[part * units + u] = v_c;
}

}  // namespace

template <class T>
void nade(const NadeArgs<T>& args) {
  if (args.examples == 0) return;
  nade_examples<<<static_cast<unsigned>(args.examples), kThreads, 0, stream(args.stream)>>>(args);
  check("nade");
}

template <class T>
void nade_vjp(const NadeVjpArgs<T>& args) {
  const dim3 grid{blocks(args.panels * kPanel), static_cast<unsigned>(args.parts)};
  nade_units_vjp<<<grid, kThreads, 0, stream(args.stream)>>>(args);
  check("nade_vjp");
}

template void nade<float>(const NadeArgs<float>&);
template void nade<double>(const NadeArgs<double>&);
template void nade_vjp<float>(const NadeVjpArgs<float>&);
template void nade_vjp<double>(const NadeVjpArgs<double>&);

}  // namespace n3d::cuda
