// Operands of mma (core/mma.h) from row-major matrices in shared memory, for the lanes of a warp. Included by .cu files
// only.
#pragma once

#include "core/mma.h"

namespace n3d::cuda {

constexpr int kWarp = 32;

inline __device__ int lane() { return threadIdx.x % kWarp; }
inline __device__ int warp() { return threadIdx.x / kWarp; }

// Where a lane's part of C begins: g and 2t.
inline __device__ int own_row() { return lane() / 4; }
inline __device__ int own_column() { return lane() % 4 * 2; }

// 16 × 16 of a matrix as mma's left operand, or as the right ones of two, {0, 1} and {2, 3}. The squares come in two
// orders, ↓ (0, 0) (8, 0) (0, 8) (8, 8) and → (0, 0) (0, 8) (8, 0) (8, 8):
//
//     A (m, k)    stored as it is: ↓               stored as Aᵀ (k, m): → transposed
//     B (k, n)    stored as it is: ↓ transposed    stored as Bᵀ (n, k): →
struct Operand {
  uint32_t square[4];
};
inline __device__ int down(int pitch) { return lane() % 16 * pitch + lane() / 16 * 8; }
inline __device__ int across(int pitch) { return (lane() % 8 + lane() / 16 * 8) * pitch + lane() / 8 % 2 * 8; }

inline __device__ Operand left(const bfloat16* a, int pitch) {
  Operand o;
  ldmatrix(o.square, a + down(pitch));
  return o;
}
inline __device__ Operand left_of_transposed(const bfloat16* a, int pitch) {
  Operand o;
  ldmatrix_transposed(o.square, a + across(pitch));
  return o;
}
inline __device__ Operand right(const bfloat16* b, int pitch) {
  Operand o;
  ldmatrix_transposed(o.square, b + down(pitch));
  return o;
}
inline __device__ Operand right_of_transposed(const bfloat16* b, int pitch) {
  Operand o;
  ldmatrix(o.square, b + across(pitch));
  return o;
}

}  // namespace n3d::cuda
