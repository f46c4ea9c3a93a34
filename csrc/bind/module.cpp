// The extension module: a list of kernels and nothing else. Compiled twice, as _native (CPU) and _native_cuda.
#include <nanobind/nanobind.h>

#ifdef N3D_CUDA_MODULE
#include <nanobind/stl/string.h>

#include "core/probe.h"
#else
#include "core/dispatch.h"
#endif

namespace nb = nanobind;

#define N3D_KERNELS(X) \
  X(adam)              \
  X(composite)         \
  X(hash_grid)         \
  X(lbs)               \
  X(memory)            \
  X(mesh_raster)       \
  X(mlp) X(nade) X(ray_march) X(soft_silhouette) X(splat_bin) X(splat_project) X(splat_pull) X(splat_raster) X(ssim)

#define DECLARE(name) void bind_##name(nb::module_& m);
N3D_KERNELS(DECLARE)

NB_MODULE(N3D_MODULE, m) {
#ifdef N3D_CUDA_MODULE
  m.def("runtime_error", &n3d::cuda::runtime_error, "Why the kernels cannot run on this machine, or an empty string.");
#else
  m.def("isa", &n3d::isa_name, "The instruction set in use: avx512, avx2 or base.");
#endif
#define BIND(name) bind_##name(m);
  N3D_KERNELS(BIND)
}
