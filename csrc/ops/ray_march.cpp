#include "ops/ray_march.h"

#include "core/dispatch.h"
#include "core/lanes.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int64_t kRays = 64;  // a task: tens of microseconds

#if defined(__AVX2__) || defined(__AVX512F__)

// Tests a pack of consecutive intervals of one ray at once, which costs about as much as skipping one empty cell.
struct Walker : Walk {
  using Walk::Walk;

  struct Writer {
    const MarchArgs<float>& a;
    int64_t ray, at;
    N3D_HD void operator()(int32_t, const Interval<f32x>& i, f32x x, f32x y, f32x z, uint32_t kept) {
      float packed[5][kLanes];
      store_packed(packed[0], x, kept), store_packed(packed[1], y, kept), store_packed(packed[2], z, kept);
      store_packed(packed[3], i.t, kept), store_packed(packed[4], i.dt, kept);
      const int n = __builtin_popcount(kept);
      for (int s = 0; s < n; ++s)
        for (int k = 0; k < 3; ++k) a.positions[3 * (at + s) + k] = packed[k][s];
      for (int s = 0; s < n; ++s) a.t[at + s] = packed[3][s];
      for (int s = 0; s < n; ++s) a.dt[at + s] = packed[4][s];
      for (int s = 0; s < n; ++s) a.ray[at + s] = static_cast<int32_t>(ray);
      at += n;
    }
  };

  // b_k and the next ones; mostly without a gather.
  static N3D_HD f32x boundaries(const March<f32x, i32x>& march, int32_t k) {
    const MarchArgs<float>& a = march.a;
    if (k >= a.last) return a.table[a.last] + to_float(lane_numbers() + (k - a.last)) * a.tail;
    return k + kLanes <= a.last + 1 ? load(a.table + k) : march.boundary(lane_numbers() + k);
  }

  template <class Emit>
  N3D_HD int64_t samples(int64_t ray, float exit, int32_t k, int64_t most, Emit emit) const {
    const March<f32x, i32x> march(a);
    const float *o = a.origins + 3 * ray, *d = a.directions + 3 * ray, j = jitter(ray);
    int64_t n = 0;
    while (n < most && k < kMostSteps) {
      const Interval<f32x> i = march.interval(boundaries(march, k), j);
      const f32x x = o[0] + i.t * d[0], y = o[1] + i.t * d[1], z = o[2] + i.t * d[2];
      const uint32_t inside = lane_bits(i.t < exit);
      uint32_t kept = lane_bits(march.occupied(x, y, z, i.dt) != 0) & inside;
      while (n + __builtin_popcount(kept) > most) kept &= ~(1u << (31 - __builtin_clz(kept)));
      if (kept) emit(k + __builtin_ctz(kept), i, x, y, z, kept);
      n += __builtin_popcount(kept);
      if (!(inside >> (kLanes - 1))) break;
      k += kLanes;
    }
    return n;
  }
};

#else

using Walker = Walk;

#endif

template <class F>
void each_ray(int64_t rays, const F& f) {
  parallel_chunks(rays, kRays, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) f(ray);
  });
}

}  // namespace

template <class T>
void ray_march_count(const MarchArgs<T>& a) {
  const Walker walk(a);
  each_ray(a.rays, [&](int64_t ray) { march_count_ray(walk, ray); });
}

template <class T>
void ray_march_fill(const MarchArgs<T>& a) {
  const Walker walk(a);
  each_ray(a.rays, [&](int64_t ray) { march_fill_ray(walk, ray); });
}

template <class T>
void ray_aabb(const RayAabbArgs<T>& a) {
  each_ray(a.rays, [&](int64_t ray) { ray_aabb_ray(a, ray); });
}

template <class T>
void ray_points(const RayPointsArgs<T>& a) {
  each_ray(a.rays, [&](int64_t ray) { ray_points_ray(a, ray); });
}

template <class T>
void ray_points_vjp(const RayPointsVjpArgs<T>& a) {
  each_ray(a.rays, [&](int64_t ray) { ray_points_vjp_ray(a, ray); });
}

template <class T>
void compact(const CompactArgs<T>& a) {
  each_ray(a.rays, [&](int64_t ray) { compact_ray(a, ray); });
}

template <class T>
void pack_bits(const PackBitsArgs<T>& a) {
  parallel_chunks(a.levels * a.resolution * a.resolution * a.resolution / 8, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) pack_byte(a, i);
  });
}

N3D_INSTANTIATE_FLOAT(ray_march_count, MarchArgs)
N3D_INSTANTIATE_FLOAT(ray_march_fill, MarchArgs)
N3D_INSTANTIATE_FLOAT(compact, CompactArgs)
N3D_INSTANTIATE_FLOAT(pack_bits, PackBitsArgs)
N3D_INSTANTIATE(ray_aabb, RayAabbArgs)
N3D_INSTANTIATE(ray_points, RayPointsArgs)
N3D_INSTANTIATE(ray_points_vjp, RayPointsVjpArgs)

}  // namespace n3d::N3D_ISA
