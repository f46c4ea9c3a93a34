#include "ops/composite.h"

#include "core/dispatch.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int64_t kRays = 128;  // a task: some thousand samples

// Absorption of the next samples of a ray, a pack at a time where there are packs.
template <class T>
struct Absorption {
  static constexpr int kMost = 8;
  T alpha[kMost], through[kMost];
  N3D_HD Absorption(const T* sigma, const T* dt, int n) {
    for (int i = 0; i < n; ++i) {
      const Exp<T> e = exponentials(-sigma[i] * dt[i]);
      alpha[i] = -e.expm1, through[i] = e.exp;
    }
  }
};
template <>
struct Absorption<float> {
  static constexpr int kMost = kLanes;
  float alpha[kLanes], through[kLanes];
  N3D_HD Absorption(const float* sigma, const float* dt, int n) {
    const bool whole = n == kLanes;
    const f32x s = whole ? load(sigma) : load_first(sigma, n), d = whole ? load(dt) : load_first(dt, n);
    const Exp<f32x> e = exponentials(-s * d);
    store(alpha, -e.expm1), store(through, e.exp);
  }
};

template <int kChannels, class T>
N3D_HD void composite_ray(const CompositeArgs<T>& a, int64_t ray) {
  const int64_t channels = kChannels ? kChannels : a.channels;
  const int64_t begin = a.offsets[ray], count = a.offsets[ray + 1] - begin;
  const T stop = static_cast<T>(a.early_stop);
  T* out = a.out_color + ray * channels;
  T sum[kChannels ? kChannels : 1] = {};
  if (!kChannels)
    for (int64_t c = 0; c < channels; ++c) out[c] = 0;

  Front<T> front;
  int64_t used = 0;
  while (used < count && !(front.transmittance < stop)) {
    const int64_t at = begin + used;
    const int n = count - used < Absorption<T>::kMost ? static_cast<int>(count - used) : Absorption<T>::kMost;
    const Absorption<T> absorbed(a.sigma + at, a.dt + at, n);
    int i = 0;
    for (; i < n && !(front.transmittance < stop); ++i) {
      const T w = front.add(absorbed.alpha[i], absorbed.through[i], a.t[at + i], a.dt[at + i]);
      a.weights[at + i] = w;
      const T* color = a.color + (at + i) * channels;
      for (int64_t c = 0; c < channels; ++c) (kChannels ? sum : out)[c] += w * color[c];
    }
    used += i;
  }
  for (int64_t i = used; i < count; ++i) a.weights[begin + i] = 0;
  for (int c = 0; c < kChannels; ++c) out[c] = sum[c];
  a.opacity[ray] = 1 - front.transmittance;
  a.depth[ray] = front.depth;
  a.distortion[ray] = front.distortion;
  a.used[ray] = static_cast<int32_t>(used);
}

}  // namespace

template <class T>
void composite(const CompositeArgs<T>& a) {
  parallel_chunks(a.rays, kRays, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) a.channels == 3 ? composite_ray<3>(a, ray) : composite_ray<0>(a, ray);
  });
}

template <class T>
void composite_vjp(const CompositeVjpArgs<T>& a) {
  parallel_chunks(a.rays, kRays, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray)
      a.channels == 3 ? composite_ray_vjp<3>(a, ray) : composite_ray_vjp<0>(a, ray);
  });
}

template <class T>
void composite_used(const UsedArgs<T>& a) {
  const T stop = static_cast<T>(a.early_stop);
  parallel_chunks(a.rays, kRays, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
      const int64_t first = a.offsets[ray], count = a.offsets[ray + 1] - first;
      T transmittance = 1;
      int64_t used = 0;
      while (used < count && !(transmittance < stop)) {
        const int64_t at = first + used;
        const int n = count - used < Absorption<T>::kMost ? static_cast<int>(count - used) : Absorption<T>::kMost;
        const Absorption<T> absorbed(a.sigma + at, a.dt + at, n);
        for (int i = 0; i < n && !(transmittance < stop); ++i, ++used) transmittance *= absorbed.through[i];
      }
      a.used[ray] = used;
    }
  });
}

N3D_INSTANTIATE(composite, CompositeArgs)
N3D_INSTANTIATE(composite_vjp, CompositeVjpArgs)
N3D_INSTANTIATE(composite_used, UsedArgs)

}  // namespace n3d::N3D_ISA
