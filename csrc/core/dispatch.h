// One call for the bindings, whichever variant runs it.
//
// N3D_OP(adam_step, AdamArgs) declares n3d::base::adam_step<T>, n3d::avx2::…, n3d::avx512::…, n3d::cuda::… and defines
// n3d::run::adam_step<T>, which picks one: in the CPU module by asking the processor, in the CUDA module always cuda.
// double always takes the baseline: it is there for gradient checks, not for speed.
#pragma once

#include <cstdlib>
#include <cstring>
#include <type_traits>

namespace n3d {

enum class Isa { base, avx2, avx512 };

// The widest variant the processor runs; NEURAL3D_ISA=base|avx2|avx512 asks for a narrower one (tests, bug reports).
inline Isa isa() {
  static const Isa chosen = [] {
    Isa best = Isa::base;
#ifdef N3D_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = Isa::avx2;
    if (best == Isa::avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      best = Isa::avx512;
#endif
    if (const char* wish = std::getenv("NEURAL3D_ISA")) {
      if (!std::strcmp(wish, "base")) return Isa::base;
      if (!std::strcmp(wish, "avx2") && best == Isa::avx512) return Isa::avx2;
    }
    return best;
  }();
  return chosen;
}

inline const char* isa_name() { return isa() == Isa::avx512 ? "avx512" : isa() == Isa::avx2 ? "avx2" : "base"; }

}  // namespace n3d

#define N3D_DECLARE(variant, op, Args) \
  namespace n3d::variant {             \
  template <class T>                   \
  void op(const Args<T>&);             \
  }

#if defined(N3D_CUDA_MODULE)
#define N3D_OP(op, Args)         \
  N3D_DECLARE(cuda, op, Args)    \
  namespace n3d::run {           \
  template <class T>             \
  void op(const Args<T>& args) { \
    cuda::op<T>(args);           \
  }                              \
  }
#elif defined(N3D_X86)
#define N3D_OP(op, Args)                                             \
  N3D_DECLARE(base, op, Args)                                        \
  N3D_DECLARE(avx2, op, Args)                                        \
  N3D_DECLARE(avx512, op, Args)                                      \
  namespace n3d::run {                                               \
  template <class T>                                                 \
  void op(const Args<T>& args) {                                     \
    if constexpr (std::is_same_v<T, float>) {                        \
      if (n3d::isa() == Isa::avx512) return avx512::op<float>(args); \
      if (n3d::isa() == Isa::avx2) return avx2::op<float>(args);     \
    }                                                                \
    base::op<T>(args);                                               \
  }                                                                  \
  }
#else
#define N3D_OP(op, Args)         \
  N3D_DECLARE(base, op, Args)    \
  namespace n3d::run {           \
  template <class T>             \
  void op(const Args<T>& args) { \
    base::op<T>(args);           \
  }                              \
  }
#endif

// At the end of NAME.cpp: float for every variant, double only in the baseline.
#define N3D_INSTANTIATE_FLOAT(op, Args) template void op<float>(const Args<float>&);
#define N3D_INSTANTIATE_DOUBLE(op, Args) template void op<double>(const Args<double>&);
#if defined(N3D_VARIANT_BASE)
#define N3D_INSTANTIATE(op, Args) \
  N3D_INSTANTIATE_FLOAT(op, Args) \
  N3D_INSTANTIATE_DOUBLE(op, Args)
#else
#define N3D_INSTANTIATE(op, Args) N3D_INSTANTIATE_FLOAT(op, Args)
#endif
