#include "ops/splat_pull.h"

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/rows.h"

namespace n3d::N3D_ISA {

template <class T>
void splat_pull(const SplatPullArgs<T>& a) {
  using S = typename Lanes<T>::S;
  constexpr int64_t kGrain = 1 << 13;  // 200 KB: below, a thread does it sooner than another wakes
  parallel_chunks(a.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += Lanes<T>::kCount) {
      const int n = end - i < Lanes<T>::kCount ? int(end - i) : Lanes<T>::kCount;
      S v[2], radius, pull, views;
      load_rows<2>(a.v_xy + 2 * i, n, v), load_rows<1>(a.radius + i, n, &radius);
      load_rows<1>(a.pull + i, n, &pull), load_rows<1>(a.views + i, n, &views);
      splat_pull(v[0], v[1], radius, T(a.half_width), T(a.half_height), pull, views);
      store_rows<1>(a.pull + i, n, &pull), store_rows<1>(a.views + i, n, &views);
    }
  });
}

N3D_INSTANTIATE(splat_pull, SplatPullArgs)

}  // namespace n3d::N3D_ISA
