// Adam (Kingma & Ba, 2015, algorithm 1), one parameter:
//   m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,   θ ← θ − lr · m̂ / (√v̂ + ε)
// with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ).
#pragma once

#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

template <class T>
struct AdamArgs {
  T* param;             // (rows, width)
  T* grad;              // (rows, width); left zero, ready for the next step
  T* m;                 // (rows, width) first moment
  T* v;                 // (rows, width) second moment
  int64_t rows;         // what is skipped or updated as one: a hash-table entry, a splat
  int64_t width;        // scalars in a row
  bool skip_untouched;  // leave rows whose gradient is all zero as they are: no decay, no memory traffic
  double lr, beta1, beta2, eps;
  double correction1, correction2;  // 1 − β₁ᵗ, 1 − β₂ᵗ
  void* stream;
};

namespace N3D_ISA {

// The constants of one step, in the scalar (or pack) of the loop.
template <class S>
struct AdamStep {
  S beta1, beta2, eps, rate, scale2;

  template <class Args>
  N3D_HD explicit AdamStep(const Args& a)
      : beta1(S{} + decltype (*a.m + 0)(a.beta1)),
        beta2(S{} + decltype (*a.m + 0)(a.beta2)),
        eps(S{} + decltype (*a.m + 0)(a.eps)),
        rate(S{} + decltype (*a.m + 0)(a.lr / a.correction1)),
        scale2(S{} + decltype (*a.m + 0)(1.0 / a.correction2)) {}

  N3D_HD void update(S& param, S g, S& m, S& v) const {
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    param = param - rate * m / (square_root(v * scale2) + eps);
  }
};

}  // namespace N3D_ISA
}  // namespace n3d
