// Work sharing between threads on the CPU.
//
// Rule of the house: results never depend on the number of threads. So work is cut into tasks whose number follows
// from the problem alone, each task writes memory of its own, and reductions add the tasks' partial results in order.
//
// The extension does not link an OpenMP runtime: the symbols resolve to the one torch has already loaded, so both share
// one thread pool and obey torch.set_num_threads. Without it (macOS, Clang) the loops run serially.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/hd.h"

namespace n3d::N3D_ISA {

// For how finely to cut work whose result does not depend on the cut.
inline int max_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

// f(i) for i in [0, tasks); tasks are handed out one at a time as threads become free.
template <class F>
inline void parallel_for(int64_t tasks, const F& f) {
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) if (tasks > 1)
#endif
  for (int64_t i = 0; i < tasks; ++i) f(i);
}

// f(begin, end) over [0, n) in chunks of `grain` items.
template <class F>
inline void parallel_chunks(int64_t n, int64_t grain, const F& f) {
  parallel_for((n + grain - 1) / grain, [&](int64_t c) {
    const int64_t begin = c * grain;
    f(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace n3d::N3D_ISA
