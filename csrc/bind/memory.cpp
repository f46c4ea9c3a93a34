// keep_memory(): asks glibc's malloc to keep freed memory, in huge pages (neural3d/ops/memory.py says why).
#include <nanobind/nanobind.h>

#if defined(__GLIBC__)
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace nb = nanobind;

namespace {

bool keep_memory() {
#if defined(__GLIBC__)
  // No mmap for large blocks (every free returns those to the system), and no trimming of the heap.
  if (mallopt(M_MMAP_MAX, 0) != 1 || mallopt(M_TRIM_THRESHOLD, -1) != 1) return false;
  // The heap inherits its pages' size from a block that spans much of the machine's memory and is freed untouched: only
  // addresses are reserved. Where the system refuses that many, fewer must do.
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t size = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) / 2 * page; size > page; size /= 2) {
    void* block = nullptr;
    if (posix_memalign(&block, page, size) != 0) continue;
    madvise(block, size / page * page, MADV_HUGEPAGE);
    free(block);
    break;
  }
  return true;
#else
  return false;
#endif
}

}  // namespace

void bind_memory(nb::module_& m) { m.def("keep_memory", &keep_memory); }
