// keep_memory(): asks glibc's malloc to keep freed memory (see neural3d/ops/memory.py for why).
#include <nanobind/nanobind.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace nb = nanobind;

void bind_memory(nb::module_& m) {
  m.def("keep_memory", [] {
#if defined(__GLIBC__)
    // No mmap for large blocks: those are returned to the system by every free. And no trimming of the heap.
    return mallopt(M_MMAP_MAX, 0) == 1 && mallopt(M_TRIM_THRESHOLD, -1) == 1;
#else
    return false;
#endif
  });
}
