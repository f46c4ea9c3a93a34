#include "ops/nade.h"

#include "core/dispatch.h"
#include "core/gemm.h"
#include "core/lanes.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int kTogether = 8;  // examples for which V is read once; their units fit L1

// Of `kCount` examples from one on. The order of every sum is the same whichever examples go together.
template <int kCount, class T>
N3D_HD void nade_examples(const NadeArgs<T>& args, int64_t first) {
  using S = typename Lanes<T>::S;
  constexpr int lanes = Lanes<T>::kCount;
  const int64_t units = args.panels * kPanel, length = args.length;
  T *a = args.a + first * units, *h = args.h + first * units, *logits = args.logits + first * length;
  const bool* x = args.x + first * length;

  for (int e = 0; e < kCount; ++e)
    for (int64_t u = 0; u < units; u += lanes) {
      const S start = load(args.c + u);
      store(a + e * units + u, start);
      store(h + e * units + u, nade_sigmoid(start));
    }

  for (int64_t d = 0; d < length; ++d) {
    S sums[kCount] = {};
    for (int64_t p = 0; p < args.panels; ++p)
#pragma GCC unroll 4
      for (int i = 0; i < kPanel; i += lanes) {
        const S v = load(args.v + (p * length + d) * kPanel + i);
#pragma GCC unroll 8
        for (int e = 0; e < kCount; ++e) sums[e] += v * load(h + e * units + p * kPanel + i);
      }
#pragma GCC unroll 8
    for (int e = 0; e < kCount; ++e) logits[e * length + d] = sum(sums[e]);

    for (int e = 0; e < kCount; ++e) {
      if (!x[e * length + d]) continue;
      for (int64_t p = 0; p < args.panels; ++p)
        for (int i = 0; i < kPanel; i += lanes) {
          const int64_t u = e * units + p * kPanel + i;
          const S next = load(a + u) + load(args.w + (p * length + d) * kPanel + i);
          store(a + u, next);
          store(h + u, nade_sigmoid(next));
        }
    }
  }
}

// The units of one panel back through all examples. Its weights and their gradients stay in L2.
template <class T>
N3D_HD void nade_panel_vjp(const NadeVjpArgs<T>& args, int64_t panel) {
  using S = typename Lanes<T>::S;
  constexpr int lanes = Lanes<T>::kCount, packs = kPanel / lanes;
  const int64_t at = panel * args.length * kPanel;
  const T *w = args.w + at, *v = args.v + at;
  T *v_w = args.v_w + at, *v_v = args.v_v + at, *v_c = args.v_c + panel * kPanel;

  NadeUnit<S> units[packs];
  for (int64_t e = 0; e < args.examples; ++e) {
    const bool* x = args.x + e * args.length;
    const T* g = args.v_logits + e * args.length;
#pragma GCC unroll 4
    for (int i = 0; i < packs; ++i) units[i].start(load(args.a + (e * args.panels + panel) * kPanel + i * lanes));
    for (int64_t d = args.length - 1; d >= 0; --d) {
      if (x[d])
#pragma GCC unroll 4
        for (int i = 0; i < packs; ++i) {
          const int64_t to = d * kPanel + i * lanes;
          S sum = load(v_w + to);
          units[i].one(load(w + to), sum);
          store(v_w + to, sum);
        }
      const S slope = broadcast(g[d]);
#pragma GCC unroll 4
      for (int i = 0; i < packs; ++i) {
        const int64_t to = d * kPanel + i * lanes;
        S sum = load(v_v + to);
        units[i].logit(slope, load(v + to), sum);
        store(v_v + to, sum);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < packs; ++i) {
      units[i].gather();
      store(v_c + i * lanes, load(v_c + i * lanes) + units[i].v_a);
    }
  }
}

}  // namespace

template <class T>
void nade(const NadeArgs<T>& args) {
  parallel_chunks(args.examples, kTogether, [&](int64_t begin, int64_t end) {
    if (end - begin == kTogether) return nade_examples<kTogether>(args, begin);
    for (int64_t e = begin; e < end; ++e) nade_examples<1>(args, e);
  });
}

template <class T>
void nade_vjp(const NadeVjpArgs<T>& args) {
  parallel_for(args.panels, [&](int64_t panel) { nade_panel_vjp(args, panel); });
}

N3D_INSTANTIATE(nade, NadeArgs)
N3D_INSTANTIATE(nade_vjp, NadeVjpArgs)

}  // namespace n3d::N3D_ISA
