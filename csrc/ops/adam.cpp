#include "ops/adam.h"

#include "core/dispatch.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

template <class T>
N3D_HD void update_range(const AdamArgs<T>& a, int64_t begin, int64_t end) {
  const AdamStep<T> step(a);
  for (int64_t i = begin; i < end; ++i) {
    step.update(a.param[i], a.grad[i], a.m[i], a.v[i]);
    a.grad[i] = 0;
  }
}

#if defined(__AVX2__) || defined(__AVX512F__)
N3D_HD void update_range(const AdamArgs<float>& a, int64_t begin, int64_t end) {
  const AdamStep<f32x> step(a);
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    f32x param = load(a.param + i), m = load(a.m + i), v = load(a.v + i);
    step.update(param, load(a.grad + i), m, v);
    store(a.param + i, param), store(a.m + i, m), store(a.v + i, v), store(a.grad + i, f32x{});
  }
  const AdamStep<float> tail(a);
  for (; i < end; ++i) tail.update(a.param[i], a.grad[i], a.m[i], a.v[i]), a.grad[i] = 0;
}
#endif

template <class T>
N3D_HD bool any_nonzero(const T* g, int64_t count) {
  bool any = false;
  for (int64_t i = 0; i < count; ++i) any |= g[i] != T(0);
  return any;
}

#if defined(__AVX2__) || defined(__AVX512F__)
N3D_HD bool any_nonzero(const float* g, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    if (any(load(g + i) != f32x{})) return true;
  }
  return any_nonzero<float>(g + i, count - i);
}
#endif

// Rows with any non-zero gradient, as long runs of them: most splats are touched in a step, and then nearly all of the
// work is done in packs.
template <class T>
N3D_HD void update_touched(const AdamArgs<T>& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t first = row;
    while (row < end && any_nonzero(a.grad + row * a.width, a.width)) ++row;
    if (row > first) update_range(a, first * a.width, row * a.width);
  }
}

#if defined(__AVX2__) || defined(__AVX512F__)
// Rows of two (hash grids): the lanes of a pack whose row is touched are updated, the others keep their values. Most of
// a hash table is untouched in a step, and a pack of zeros costs one load.
N3D_HD void update_touched_pairs(const AdamArgs<float>& a, int64_t begin, int64_t end) {
  const AdamStep<f32x> step(a);
  const f32x zero{};
  int64_t i = 2 * begin;
  for (; i + kLanes <= 2 * end; i += kLanes) {
    const f32x g = load(a.grad + i);
    const i32x nonzero = g != zero;
    if (!any(nonzero)) continue;
    const i32x touched = reinterpret_cast<i32x>(reinterpret_cast<i64x>(nonzero) != 0);  // either of a row's two
    f32x param = load(a.param + i), m = load(a.m + i), v = load(a.v + i);
    f32x new_param = param, new_m = m, new_v = v;
    step.update(new_param, g, new_m, new_v);
    store(a.param + i, select(touched, new_param, param));
    store(a.m + i, select(touched, new_m, m));
    store(a.v + i, select(touched, new_v, v));
    store(a.grad + i, zero);
  }
  update_touched<float>(a, i / 2, end);
}
#endif

}  // namespace

template <class T>
void adam_step(const AdamArgs<T>& a) {
  constexpr int64_t kGrain = 1 << 15;  // scalars: four arrays of 128 KiB stay in a core's L2
  if (!a.skip_untouched) {
    parallel_chunks(a.rows * a.width, kGrain, [&](int64_t b, int64_t e) { update_range(a, b, e); });
    return;
  }
  parallel_chunks(a.rows, kGrain / a.width + 1, [&](int64_t b, int64_t e) {
#if defined(__AVX2__) || defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
      if (a.width == 2) return update_touched_pairs(a, b, e);
    }
#endif
    update_touched(a, b, e);
  });
}

N3D_INSTANTIATE(adam_step, AdamArgs)

}  // namespace n3d::N3D_ISA
