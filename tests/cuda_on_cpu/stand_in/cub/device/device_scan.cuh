#pragma once

#include <cuda_runtime.h>

namespace cub {

struct DeviceScan {
  // Without memory it only says how much it takes, as CUB does.
  template <class In, class Out>
  static cudaError_t ExclusiveSum(void* memory, size_t& bytes, In in, Out out, int64_t n, cudaStream_t = nullptr) {
    if (!memory) return bytes = 1024, cudaSuccess;
    std::memset(memory, 0xff, bytes);
    auto sum = *out - *out;
    for (int64_t i = 0; i < n; ++i) {
      const auto value = in[i];  // in and out may be one array
      out[i] = sum, sum += value;
    }
    return cudaSuccess;
  }
};

}  // namespace cub
