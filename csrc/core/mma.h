// Products of bfloat16 matrices on tensor cores, summed in float32: PTX's mma.m16n8k16 and ldmatrix. Included by .cu
// files only; for sm_80 and later. tests/cuda_on_cpu puts a header of its own in this one's place.
//
// The 32 lanes of a warp multiply together: C (16 × 8) += A (16 × 16) · B (16 × 8). Lane 4g + t holds, two neighbours
// of 16 bits in a register, the first of them in its low half:
//
//     A  row     k: 2t 2t+1   2t+8 2t+9       B  k              column: g       C  row    column: 2t   2t+1
//        g            a[0]       a[2]            2t   2t+1              b0         g              c[0] c[1]
//        g + 8        a[1]       a[3]            2t+8 2t+9              b1         g + 8          c[2] c[3]
//
// ldmatrix reads four squares of 8 × 8 from shared memory: lane 8i + r names where row r of square i begins (16 bytes),
// and lane 4g + t gets, in register i, columns 2t and 2t + 1 of row g; transposed, rows 2t and 2t + 1 of column g.
#pragma once

#include <cstdint>

namespace n3d::cuda {

using bfloat16 = uint16_t;  // its bits, which are the upper half of a float's

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define N3D_SM_80(instruction) __trap()  // mlp_tensor_cores() keeps callers away
#else
#define N3D_SM_80(instruction) instruction
#endif

// Both rounded to the nearest, ties to even; NaN stays NaN.
inline __device__ uint32_t pack(float low, float high) {
  uint32_t both = 0;
  N3D_SM_80(asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low)));
  return both;
}

inline __device__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  N3D_SM_80(
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                   "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" : "+f"(c[0]),
                   "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)));
}

inline __device__ void ldmatrix(uint32_t (&square)[4], const bfloat16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(square[0]), "=r"(square[1]), "=r"(square[2]), "=r"(square[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

inline __device__ void ldmatrix_transposed(uint32_t (&square)[4], const bfloat16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(square[0]), "=r"(square[1]), "=r"(square[2]), "=r"(square[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

#undef N3D_SM_80

}  // namespace n3d::cuda
