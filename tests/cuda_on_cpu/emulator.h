// Runs CUDA kernels on one thread of the CPU. A block's threads are fibers, which change places at barriers and at the
// collectives of a warp; blocks run one after the other. Who runs first is random (NEURAL3D_EMULATED_SEED), so that a
// result that hangs on the order differs from run to run.
//
// Found, and thrown as std::runtime_error: a collective or a barrier that not all threads reach, or that they reach at
// different places; shared memory beyond what a block may have, or not aligned; launches that a GPU would refuse.
// Shared memory is all NaN, or -1, when a block begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace emulated {

struct Dim {
  unsigned x, y, z;
  Dim(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct Place {
  const char* file;
  int line;
};

const Dim& thread_index();
const Dim& block_index();
const Dim& block_size();
const Dim& grid_size();

// Waits for all threads of the block that have not ended. Returns for how many `yes` was 1.
int barrier(int yes, Place place);

// What a lane gets, of the values that all lanes brought (0 from those that have ended), given its own argument.
using Collective = uint64_t (*)(const uint64_t* value, int lane, int argument);
// Waits for all lanes of the warp that have not ended; mask must be all.
uint64_t collective(unsigned mask, uint64_t value, int argument, Collective which, Place place);

// The block's memory for a __shared__ variable; `variable` tells one from another.
void* shared(const void* variable, size_t bytes, size_t alignment);
void* dynamic_shared();
bool allow_shared(int bytes);  // of the next launch; false where no GPU has so much
int most_shared();             // bytes that a block can be allowed: sm_90's, or NEURAL3D_EMULATED_SHARED in kilobytes
// For instructions that take shared addresses only, so many bytes of it from a multiple of as many.
void require_shared(const void* address, size_t bytes, Place place);

void copy_later(void* to, const void* from, size_t bytes);
void commit_copies();
void wait_for_copies(int groups);  // until so many groups of the thread's own are left

// While someone counts (emulated_count, for Python): what threads did since.
struct Counts {
  uint64_t atomics;  // on global memory, a thread each
  uint64_t turns;    // that these take: one a sector of 32 bytes and instruction of a warp, if no lanes share a place
  uint64_t shared_atomics;  // on shared memory
  uint64_t collectives;     // a warp each
};
void count_atomic(const void* address, Place place);

int take_error();  // of a launch refused since it was last asked for; 0: none
void launch(Dim grid, Dim block, size_t shared_bytes, const std::function<void()>& thread);

// kernel<<<grid, block, bytes, stream>>>(arguments) is spelt start(kernel, grid, block, bytes, stream)(arguments).
template <class Kernel>
auto start(Kernel kernel, Dim grid, Dim block, size_t bytes = 0, void* = nullptr) {
  return [=](auto... arguments) { launch(grid, block, bytes, [&] { kernel(arguments...); }); };
}

}  // namespace emulated
