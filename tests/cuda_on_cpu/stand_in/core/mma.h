// Stands in for csrc/core/mma.h, whose instructions g++ does not know: the same functions, as collectives of a warp.
// Which element a lane holds is written down anew from the PTX ISA, one element at a time, so that a wrong layout
// shows.
#pragma once

#include <cuda_runtime.h>

namespace n3d::cuda {

using bfloat16 = uint16_t;

inline float widened(uint32_t bits) { return __uint_as_float(bits << 16); }

inline uint32_t rounded(float value) {
  if (std::isnan(value)) return 0x7fff;
  const uint32_t bits = __float_as_uint(value);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // ties to even
}

inline uint32_t pack(float low, float high) { return rounded(low) | rounded(high) << 16; }

// What a lane brings: where its registers are. Lanes wait inside the collective, so their stacks can be read.
struct MmaLane {
  float* c;
  const uint32_t* a;
  uint32_t b[2];
};

inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMULATED_PLACE) {
  const auto product = [](const uint64_t* lanes, int lane, int) -> uint64_t {
    const auto half = [](uint32_t bits, int which) { return widened(which ? bits >> 16 : bits & 0xffff); };
    const auto of = [&](int l) { return reinterpret_cast<const MmaLane*>(lanes[l]); };
    for (int i = 0; i < 4; ++i) {  // PTX: row = groupID (+ 8 for i ≥ 2), column = 2 threadID_in_group + (i & 1)
      const int row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
      double sum = of(lane)->c[i];  // at the end rounded once: tensor cores keep more bits than a float's within an mma
      for (int k = 0; k < 16; ++k) {
        const int pair = k % 8 / 2, a_register = row / 8 + k / 8 * 2;
        const MmaLane *left = of(row % 8 * 4 + pair), *right = of(column * 4 + pair);
        sum += left && right ? double(half(left->a[a_register], k % 2)) * half(right->b[k / 8], k % 2) : NAN;
      }
      of(lane)->c[i] = float(sum);
    }
    return 0;
  };
  MmaLane mine{c, a, {b0, b1}};
  emulated::collective(~0u, reinterpret_cast<uint64_t>(&mine), 0, product, EMULATED_HERE);
}

namespace squares {

// Two registers of the four, those of squares `first` and `first` + 1.
template <bool transposed>
uint64_t two(const uint64_t* rows, int lane, int first) {
  uint64_t both = 0;
  for (int i = 0; i < 2; ++i)
    for (int which = 0; which < 2; ++which) {
      const int outer = lane / 4, inner = lane % 4 * 2 + which;
      const int row = transposed ? inner : outer, column = transposed ? outer : inner;
      const auto* at = reinterpret_cast<const bfloat16*>(rows[(first + i) * 8 + row]);
      both |= uint64_t(at ? at[column] : 0x7fff) << (32 * i + 16 * which);
    }
  return both;
}

template <bool transposed>
void load(uint32_t (&square)[4], const bfloat16* row, emulated::Place place) {
  emulated::require_shared(row, 16, place);
  for (int first = 0; first < 4; first += 2) {
    const uint64_t both = emulated::collective(~0u, reinterpret_cast<uint64_t>(row), first, two<transposed>, place);
    square[first] = uint32_t(both), square[first + 1] = uint32_t(both >> 32);
  }
}

}  // namespace squares

inline void ldmatrix(uint32_t (&square)[4], const bfloat16* row, EMULATED_PLACE) {
  squares::load<false>(square, row, EMULATED_HERE);
}
inline void ldmatrix_transposed(uint32_t (&square)[4], const bfloat16* row, EMULATED_PLACE) {
  squares::load<true>(square, row, EMULATED_HERE);
}

}  // namespace n3d::cuda
