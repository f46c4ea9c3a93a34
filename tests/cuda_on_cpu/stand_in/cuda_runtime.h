// Stands in for CUDA's header of this name: csrc/**/*.cu, compiled by g++, run on one thread of the CPU (emulator.h).
// Only what our kernels use; anything else does not compile, and is to be added here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "emulator.h"

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
using dim3 = emulated::Dim;

#define threadIdx (::emulated::thread_index())
#define blockIdx (::emulated::block_index())
#define blockDim (::emulated::block_size())
#define gridDim (::emulated::grid_size())

// --- barriers and collectives: every function takes the place of its call, by which lanes are found to disagree ---

#define EMULATED_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define EMULATED_HERE (::emulated::Place{file, line})

inline void __syncthreads(EMULATED_PLACE) { emulated::barrier(0, EMULATED_HERE); }
inline int __syncthreads_count(int yes, EMULATED_PLACE) { return emulated::barrier(yes != 0, EMULATED_HERE); }

inline void __syncwarp(unsigned mask = ~0u, EMULATED_PLACE) {
  emulated::collective(mask, 0, 0, [](const uint64_t*, int, int) -> uint64_t { return 0; }, EMULATED_HERE);
}
inline unsigned __ballot_sync(unsigned mask, int yes, EMULATED_PLACE) {
  const auto ballot = [](const uint64_t* value, int, int) {
    uint64_t bits = 0;
    for (int lane = 0; lane < 32; ++lane) bits |= value[lane] << lane;
    return bits;
  };
  return unsigned(emulated::collective(mask, yes != 0, 0, ballot, EMULATED_HERE));
}
inline int __any_sync(unsigned mask, int yes, EMULATED_PLACE) { return __ballot_sync(mask, yes, file, line) != 0; }
inline int __all_sync(unsigned mask, int yes, EMULATED_PLACE) { return __ballot_sync(mask, !yes, file, line) == 0; }

namespace emulated {

template <class T>
T shuffled(unsigned mask, T value, int argument, Collective which, Place place) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = collective(mask, bits, argument, which, place);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulated

template <class T>
T __shfl_sync(unsigned mask, T value, int from, EMULATED_PLACE) {
  const auto other = [](const uint64_t* v, int, int source) { return v[source & 31]; };
  return emulated::shuffled(mask, value, from, other, EMULATED_HERE);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, EMULATED_PLACE) {
  const auto other = [](const uint64_t* v, int lane, int flip) { return v[(lane ^ flip) & 31]; };
  return emulated::shuffled(mask, value, bits, other, EMULATED_HERE);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, EMULATED_PLACE) {
  const auto other = [](const uint64_t* v, int lane, int step) { return v[lane + step < 32 ? lane + step : lane]; };
  return emulated::shuffled(mask, value, by, other, EMULATED_HERE);
}

// --- one thread at a time: an atomic operation is a plain one ---

template <class T>
T atomicAdd(T* at, std::common_type_t<T> value, EMULATED_PLACE) {
  emulated::count_atomic(at, EMULATED_HERE);
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T>
T atomicMax(T* at, std::common_type_t<T> value, EMULATED_PLACE) {
  emulated::count_atomic(at, EMULATED_HERE);
  const T before = *at;
  if (value > before) *at = value;
  return before;
}
template <class T>
T atomicMin(T* at, std::common_type_t<T> value) {
  const T before = *at;
  if (value < before) *at = value;
  return before;
}

// --- arithmetic ---

using std::isfinite;

inline int __ffs(unsigned x) { return __builtin_ffs(int(x)); }
inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __float_as_uint(float f) {
  unsigned bits;
  std::memcpy(&bits, &f, sizeof(bits));
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float f;
  std::memcpy(&f, &bits, sizeof(f));
  return f;
}

// --- the host's side: everything is done at once ---

using cudaError_t = int;
using cudaStream_t = struct CUstream_st*;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1;
enum cudaMemcpyKind { cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
struct cudaFuncAttributes {
  int ptxVersion;
};

inline cudaError_t cudaGetLastError() { return emulated::take_error(); }
inline const char* cudaGetErrorString(cudaError_t) { return "invalid argument or configuration"; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  return attributes->ptxVersion = __CUDA_ARCH__ / 10, cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = emulated::most_shared(), cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int bytes) {
  return emulated::allow_shared(bytes) ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return std::memset(to, value, bytes), cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
