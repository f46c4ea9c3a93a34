// Whether the CUDA kernels can run at all, asked once before the first of them is needed.
#pragma once

#include <string>

namespace n3d::cuda {

// Empty, or the CUDA runtime's words for why not: a driver older than the nvcc that built this module, no GPU, or a GPU
// for which the module holds no code.
std::string runtime_error();

}  // namespace n3d::cuda
