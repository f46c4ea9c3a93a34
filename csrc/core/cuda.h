// CUDA launch helpers; included by .cu files only.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace n3d::cuda {

constexpr int kThreads = 256;

inline unsigned blocks(int64_t n, int threads = kThreads) { return static_cast<unsigned>((n + threads - 1) / threads); }

inline cudaStream_t stream(void* s) { return static_cast<cudaStream_t>(s); }

// After a launch: a failed one becomes a Python RuntimeError that names the kernel.
inline void check(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(error));
}

}  // namespace n3d::cuda
