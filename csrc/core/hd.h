// What every kernel header needs: decorators and the name of the variant being compiled.
//
// A maths header is compiled several times: once per CPU instruction set and once by nvcc. Each variant lives in its
// own namespace, n3d::N3D_ISA. Were they to share one, the linker would keep a single copy of every inline function,
// perhaps the AVX-512 one, and older processors would die of it.
#pragma once

#include <cstdint>

#ifndef N3D_ISA
#ifdef __CUDACC__
#define N3D_ISA cuda
#else
#define N3D_ISA base
#endif
#endif

#ifdef __CUDACC__
#define N3D_HD __host__ __device__ __forceinline__
#else
#define N3D_HD inline __attribute__((always_inline))
#endif
