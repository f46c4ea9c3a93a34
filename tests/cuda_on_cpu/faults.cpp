#include <nanobind/nanobind.h>

#include <cstdint>

namespace faults {
void run(int which, int64_t count, float* out, int shared);
}

NB_MODULE(_faults, m) {
  m.def("run", [](int which, int64_t count, uintptr_t out, int shared) {
    faults::run(which, count, reinterpret_cast<float*>(out), shared);
  });
}
