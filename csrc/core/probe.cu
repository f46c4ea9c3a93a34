#include <cuda_runtime.h>

#include "core/probe.h"

namespace n3d::cuda {

namespace {

__global__ void nothing() {}

}  // namespace

std::string runtime_error() {
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);  // the first call: an old driver shows here
  cudaFuncAttributes attributes;
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, nothing);  // fails where no code fits the GPU
  cudaGetLastError();  // the answer is given here; leave no error behind for the next launch to find
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace n3d::cuda
