#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace cub {

template <class T>
struct DoubleBuffer {
  T* buffers[2];
  int selector = 0;
  DoubleBuffer(T* current, T* alternate) : buffers{current, alternate} {}
  T* Current() { return buffers[selector]; }
  T* Alternate() { return buffers[1 - selector]; }
};

struct DeviceRadixSort {
  // By bits begin to end of the keys, stable. The result is in the other buffers, and what was in these is gone.
  template <class Key, class Value>
  static cudaError_t SortPairs(void* memory, size_t& bytes, DoubleBuffer<Key>& keys, DoubleBuffer<Value>& values,
                               int64_t n, int begin = 0, int end = 8 * sizeof(Key), cudaStream_t = nullptr) {
    if (!memory) return bytes = 1024, cudaSuccess;
    std::memset(memory, 0xff, bytes);
    const auto digits = [&](int64_t i) { return uint64_t(keys.Current()[i]) << (64 - end) >> (64 - end) >> begin; };
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), int64_t(0));
    if (end > begin)
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return digits(a) < digits(b); });
    for (int64_t i = 0; i < n; ++i) {
      keys.Alternate()[i] = keys.Current()[order[i]];
      values.Alternate()[i] = values.Current()[order[i]];
    }
    keys.selector ^= 1, values.selector ^= 1;
    std::memset(keys.Alternate(), 0xff, n * sizeof(Key));
    std::memset(values.Alternate(), 0xff, n * sizeof(Value));
    return cudaSuccess;
  }
};

}  // namespace cub
