#include "core/cuda.h"
#include "ops/adam.h"

namespace n3d::cuda {

namespace {

// One thread per row: rows are short (a hash-table entry, a splat's parameter), or width is 1 for dense parameters.
template <class T>
__global__ void adam_rows(AdamArgs<T> a) {
  const int64_t row = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (row >= a.rows) return;
  const int64_t first = row * a.width;
  if (a.skip_untouched) {
    bool touched = false;
    for (int64_t k = 0; k < a.width; ++k) touched |= a.grad[first + k] != T(0);
    if (!touched) return;
  }
  const AdamStep<T> step(a);
  for (int64_t k = first; k < first + a.width; ++k) {
    T param = a.param[k], m = a.m[k], v = a.v[k];
    step.update(param, a.grad[k], m, v);
    a.param[k] = param, a.m[k] = m, a.v[k] = v, a.grad[k] = 0;
  }
}

}  // namespace

template <class T>
void adam_step(const AdamArgs<T>& args) {
  AdamArgs<T> a = args;
  if (!a.skip_untouched) a.rows *= a.width, a.width = 1;  // dense: one scalar a thread, coalesced
  if (a.rows == 0) return;
  adam_rows<<<blocks(a.rows), kThreads, 0, stream(a.stream)>>>(a);
  check("adam_step");
}

template void adam_step<float>(const AdamArgs<float>&);
template void adam_step<double>(const AdamArgs<double>&);

}  // namespace n3d::cuda
