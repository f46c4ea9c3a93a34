// The hidden units of a neural autoregressive distribution estimator (Larochelle & Murray 2011, algorithm 1), D binary
// values in order:
//   a₁ = c,   h_d = σ(a_d),   logit_d = V_d · h_d,   a_{d+1} = a_d + x_d W_d
// h changes only behind a value that is 1: of a digit's 784 that is every eighth.
//
// Back, from the last value to the first, with g_d the gradient to logit_d. All values between two ones share an h, so
//   v_V_d = g_d h,   v_h = Σ g_d V_d over them,   v_a ← v_a + v_h h (1 − h),   v_W_d = v_a where x_d = 1,   v_c = v_a
// a is taken back by subtracting W_d from where it ended, so nothing of the way there is kept. Units do not see each
// other on the way back: whoever takes some of them through all examples needs no sums with others.
//
// Units lie in panels of kPanel: w and v are (panels, D, kPanel). Those that fill up the last have W = V = 0.
#pragma once

#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

constexpr int kPanel = 16;      // a cache line of float, and a multiple of every pack
constexpr int kNadeParts = 16;  // into which CUDA divides examples on the way back

template <class T>
struct NadeArgs {
  const bool* x;  // (B, D)
  const T* w;     // (panels, D, kPanel)
  const T* v;     // (panels, D, kPanel)
  const T* c;     // (panels, kPanel)
  T* a;           // (B, panels, kPanel) where the units end, for the way back
  T* h;           // (B, panels, kPanel) scratch
  T* logits;      // (B, D)
  int64_t examples, length, panels;
  void* stream;
};

template <class T>
struct NadeVjpArgs {
  const bool* x;
  const T* w;
  const T* v;
  const T* a;
  const T* v_logits;  // (B, D)
  T* v_w;             // (parts, panels, D, kPanel), zero before; to be added, in order
  T* v_v;             // (parts, panels, D, kPanel), zero before
  T* v_c;             // (parts, panels, kPanel), zero before
  int64_t examples, length, panels, parts;
  void* stream;
};

namespace N3D_ISA {

template <class S>
N3D_HD S nade_sigmoid(S a) {
  return 1 / (1 + exponentials(-a).exp);
}

// One unit (or a pack of them) on the way back through one example.
template <class S>
struct NadeUnit {
  S a, h, v_a, v_h;

  N3D_HD void start(S end) { a = end, h = nade_sigmoid(end), v_a = v_h = S{}; }

  // Past a logit with gradient g and weight v, whose gradient is added to v_v.
  N3D_HD void logit(S g, S v, S& v_v) {
    v_v += g * h;
    v_h += g * v;
  }

  // What came since the last one reaches a.
  N3D_HD void gather() {
    v_a += v_h * h * (1 - h);
    v_h = S{};
  }

  // Past a value that is 1 and the weight w that it had added.
  N3D_HD void one(S w, S& v_w) {
    gather();
    v_w += v_a;
    a -= w;
    h = nade_sigmoid(a);
  }
};

}  // namespace N3D_ISA
}  // namespace n3d
