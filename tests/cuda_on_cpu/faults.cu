// Kernels that are wrong, each in one way, and one that is right: what the emulation must find (test_emulation.py).
// All take `out`, of a float a thread.
#include <cuda_pipeline.h>

#include "core/cuda.h"
#include "core/mma.h"

namespace faults {

namespace {

constexpr unsigned kAll = ~0u;
constexpr int kSize = 64;  // threads of a block

// Each thread gets the sum of the block's numbers 0, 1, ... plus its block's.
__global__ void right(float* out) {
  __shared__ float warps[kSize / 32];
  float sum = threadIdx.x;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  out[blockIdx.x * kSize + threadIdx.x] = warps[0] + warps[1] + blockIdx.x;
}

__global__ void half_a_warp(float* out) {
  float value = 1;
  if (threadIdx.x % 32 < 16) value += __shfl_xor_sync(kAll, value, 1);
  __syncthreads();
  out[threadIdx.x] = value;
}

__global__ void two_collectives(float* out) {
  if (threadIdx.x % 2)
    out[threadIdx.x] = __ballot_sync(kAll, 1);
  else
    out[threadIdx.x] = __ballot_sync(kAll, 0);
}

__global__ void two_barriers(float* out) {
  if (threadIdx.x % 2)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 0;
}

__global__ void left_early(float* out) {
  if (threadIdx.x == 5) return;
  __syncthreads();
  out[threadIdx.x] = 0;
}

__global__ void unwritten(float* out) {
  __shared__ float values[kSize];
  if (threadIdx.x != 7) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[(threadIdx.x + 1) % kSize];
}

__global__ void of_another_block(float* out) {
  __shared__ float value;
  if (threadIdx.x == 0 && blockIdx.x == 0) value = 1;
  __syncthreads();
  out[blockIdx.x * kSize + threadIdx.x] = value;
}

__global__ void no_barrier(float* out) {
  __shared__ float values[kSize];
  values[threadIdx.x] = 1;
  out[threadIdx.x] = values[(threadIdx.x + 1) % kSize];
}

__global__ void no_wait(float* out) {
  __shared__ float values[kSize];
  const float one = 1;
  __pipeline_memcpy_async(values + threadIdx.x, &one, sizeof(float));
  __pipeline_commit();
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void too_much(float* out) {
  __shared__ float values[13 << 10];
  values[threadIdx.x] = 1;
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void not_aligned(float* out) {
  __shared__ n3d::cuda::bfloat16 values[8 * 32];
  uint32_t square[4];
  n3d::cuda::ldmatrix(square, values + 8 * (threadIdx.x % 32) + 4);
  out[threadIdx.x] = square[0];
}

__global__ void not_shared(float* out) {
  uint32_t square[4];
  n3d::cuda::ldmatrix(square, reinterpret_cast<n3d::cuda::bfloat16*>(out));
  out[threadIdx.x] = square[0];
}

__global__ void beyond(float* out) { out[threadIdx.x] = out[kSize + threadIdx.x]; }

}  // namespace

void run(int which, int64_t count, float* out, int shared) {
  const auto blocks = unsigned(count / kSize);
  if (which == 0) right<<<blocks, kSize, shared>>>(out);
  if (which == 1) half_a_warp<<<blocks, kSize>>>(out);
  if (which == 2) two_collectives<<<blocks, kSize>>>(out);
  if (which == 3) two_barriers<<<blocks, kSize>>>(out);
  if (which == 4) left_early<<<blocks, kSize>>>(out);
  if (which == 5) unwritten<<<blocks, kSize>>>(out);
  if (which == 6) of_another_block<<<blocks, kSize>>>(out);
  if (which == 7) no_barrier<<<blocks, kSize>>>(out);
  if (which == 8) no_wait<<<blocks, kSize>>>(out);
  if (which == 9) too_much<<<blocks, kSize>>>(out);
  if (which == 10) not_aligned<<<blocks, kSize>>>(out);
  if (which == 11) not_shared<<<blocks, kSize>>>(out);
  if (which == 12) beyond<<<blocks, kSize>>>(out);
  n3d::cuda::check("faults");
}

}  // namespace faults
