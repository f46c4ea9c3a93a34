#include "ops/composite.h"

#include "core/dispatch.h"
#include "core/lanes.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int64_t kRays = 128;  // a task: some thousand samples

// One ray's three ways; for packs, below, there are overloads.
template <class T>
N3D_HD void forward(const CompositeArgs<T>& a, int64_t ray) {
  a.channels == 3 ? composite_ray<3>(a, ray) : composite_ray<0>(a, ray);
}
template <class T>
N3D_HD void backward(const CompositeVjpArgs<T>& a, int64_t ray) {
  a.channels == 3 ? composite_ray_vjp<3>(a, ray) : composite_ray_vjp<0>(a, ray);
}
template <class T>
N3D_HD int64_t used(const UsedArgs<T>& a, int64_t ray) {
  return used_by_ray(a, ray);
}

#if defined(__AVX2__) || defined(__AVX512F__)

// A pack of one ray's samples at a time: the running products and sums of `Front` and `Back` across lanes.

// Transmittance in front of the lanes, what they absorb, and how many come before the early stop.
struct Absorption {
  f32x transmittance, alpha;
  float after;  // the transmittance behind the last of them
  int used;

  N3D_HD Absorption(const float* sigma, const float* dt, int n, float before, float stop) {
    const Exp<f32x> e = exponentials(-load_first(sigma, n) * load_first(dt, n));  // beyond n nothing is absorbed
    const f32x behind = before * running_product(e.exp);
    transmittance = shift_up<1>(behind, before);
    const uint32_t stopped = lane_bits(transmittance < stop);
    used = stopped ? __builtin_ctz(stopped) : kLanes;
    alpha = select(lane_numbers() < used, -e.expm1, f32x{});
    after = used < kLanes ? transmittance[used] : behind[kLanes - 1];
    if (used > n) used = n;
  }
};

N3D_HD int remaining(int64_t from, int64_t to) { return to - from < kLanes ? static_cast<int>(to - from) : kLanes; }

// Colours lie (r, g, b, r, g, b, …): three packs hold those of kLanes samples. Lane i of pack v belongs to sample
// (v kLanes + i) / 3, channel (v kLanes + i) mod 3.
struct Interleaved {
  i32x sample[3], channel[3];
  i32x lane[3];  // in lanes_of(c), where each sample is

  N3D_HD Interleaved() {
    for (int v = 0; v < 3; ++v)
      for (int i = 0; i < kLanes; ++i) {
        sample[v][i] = (v * kLanes + i) / 3, channel[v][i] = (v * kLanes + i) % 3;
        lane[v][i] = (3 * i + v) % kLanes;
      }
  }
  // The lanes that belong to a channel; no two share their place, as 3 and kLanes have no common divisor.
  N3D_HD f32x lanes_of(int c, const f32x* packs) const {
    return select(channel[0] == c, packs[0], select(channel[1] == c, packs[1], packs[2]));
  }
};

N3D_HD void forward(const CompositeArgs<float>& a, int64_t ray) {
  const Interleaved rgb;
  const int64_t begin = a.offsets[ray], end = a.offsets[ray + 1];
  const float stop = static_cast<float>(a.early_stop);
  float* out = a.out_color + ray * a.channels;
  for (int64_t c = 0; c < a.channels; ++c) out[c] = 0;

  Front<float> front;
  f32x colors[3] = {}, depth{}, distortion{};
  int64_t i = begin;
  while (i < end && !(front.transmittance < stop)) {
    const int n = remaining(i, end);
    const Absorption absorbed(a.sigma + i, a.dt + i, n, front.transmittance, stop);
    const f32x t = load_first(a.t + i, n), dt = load_first(a.dt + i, n);
    const f32x w = absorbed.transmittance * absorbed.alpha;
    store_first(a.weights + i, w, n);
    depth += w * t;
    // The sum of weights in front of a lane is 1 − T.
    const f32x lag = front.lag + running_sum((1 - absorbed.transmittance) * (t - shift_up<1>(t, front.previous)));
    distortion += distortion_term<float>(w, lag, dt);
    if (a.channels == 3) {
      for (int v = 0; v < 3; ++v)
        colors[v] +=
            permute(w, rgb.sample[v]) * load_first(a.color + 3 * i + v * kLanes, 3 * absorbed.used - v * kLanes);
    } else {
      for (int64_t s = 0; s < absorbed.used; ++s)
        for (int64_t c = 0; c < a.channels; ++c) out[c] += a.weights[i + s] * a.color[(i + s) * a.channels + c];
    }
    front.transmittance = absorbed.after;
    front.lag = lag[kLanes - 1];
    front.previous = t[kLanes - 1];
    i += absorbed.used;
    if (absorbed.used < n) break;
  }
  if (a.channels == 3)
    for (int c = 0; c < 3; ++c) out[c] = sum(rgb.lanes_of(c, colors));
  front.depth = sum(depth), front.distortion = sum(distortion);
  front.finish(a, ray, i - begin);
  for (; i < end; i += kLanes) store_first(a.weights + i, f32x{}, remaining(i, end));
}

N3D_HD int64_t used(const UsedArgs<float>& a, int64_t ray) {
  const int64_t begin = a.offsets[ray], end = a.offsets[ray + 1];
  const float stop = static_cast<float>(a.early_stop);
  float transmittance = 1;
  int64_t i = begin;
  while (i < end && !(transmittance < stop)) {
    const int n = remaining(i, end);
    const Absorption absorbed(a.sigma + i, a.dt + i, n, transmittance, stop);
    transmittance = absorbed.after;
    i += absorbed.used;
    if (absorbed.used < n) break;
  }
  return i - begin;
}

N3D_HD void backward(const CompositeVjpArgs<float>& a, int64_t ray) {
  if (a.channels != 3) return composite_ray_vjp<0>(a, ray);
  const Interleaved rgb;
  const int64_t begin = a.offsets[ray], end = a.offsets[ray + 1], stop = begin + a.used[ray];
  for (int64_t i = stop; i < end; i += kLanes) store_first(a.v_sigma + i, f32x{}, remaining(i, end));
  for (int64_t i = 3 * stop; i < 3 * end; i += kLanes) store_first(a.v_color + i, f32x{}, remaining(i, 3 * end));
  if (stop == begin) return;

  const float v_opacity = a.v_opacity ? a.v_opacity[ray] : 0, v_depth = a.v_depth ? a.v_depth[ray] : 0;
  const float v_distortion = a.v_distortion ? a.v_distortion[ray] : 0;
  const f32x v_out = a.v_out_color ? load_first(a.v_out_color + 3 * ray, 3) : f32x{};
  f32x v_out_lanes[3];
  for (int v = 0; v < 3; ++v) v_out_lanes[v] = permute(v_out, rgb.channel[v]);
  f32x lag{};
  if (v_distortion != 0)
    for (int64_t i = begin; i < stop; i += kLanes)
      lag += load_first(a.weights + i, remaining(i, stop)) * (a.t[stop - 1] - load_first(a.t + i, remaining(i, stop)));

  Back<float> back(a.opacity[ray], sum(lag));
  for (int64_t i = begin + (stop - begin - 1) / kLanes * kLanes; i >= begin; i -= kLanes) {
    const int n = remaining(i, stop);
    const f32x w = load_first(a.weights + i, n), t = load_first(a.t + i, n), dt = load_first(a.dt + i, n);
    const f32x before = back.behind + remaining_sum(w), behind = shift_down<1>(before, back.behind);
    f32x g = v_opacity + v_depth * t;
    if (v_distortion != 0) {
      const f32x gap = t - shift_up<1>(t, i > begin ? a.t[i - 1] : t[0]);
      const f32x change = select(lane_numbers() < n, apart_step(back.end, before, gap), f32x{});
      const f32x changes = remaining_sum(change), apart = back.apart - shift_down<1>(changes, 0.f);
      g += v_distortion * distortion_slope<float>(w, apart, dt);
      back.apart -= changes[0];
    }
    if (a.v_weights) g += load_first(a.v_weights + i, n);
    f32x colors[3];
    for (int v = 0; v < 3; ++v) {
      const int64_t at = 3 * i + v * kLanes;
      const int m = 3 * n - v * kLanes;
      colors[v] = load_first(a.color + at, m);
      store_first(a.v_color + at, permute(w, rgb.sample[v]) * v_out_lanes[v], m);
    }
    for (int c = 0; c < 3; ++c) g += v_out[c] * permute(rgb.lanes_of(c, colors), rgb.lane[c]);
    const f32x pulls = back.pull + remaining_sum(g * w);
    store_first(a.v_sigma + i, dt * tau_slope(g, behind, shift_down<1>(pulls, back.pull)), n);
    back.pull = pulls[0];
    back.behind = before[0];
  }
}

#endif

template <class F>
void each_ray(int64_t rays, const F& f) {
  parallel_chunks(rays, kRays, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) f(ray);
  });
}

}  // namespace

template <class T>
void composite(const CompositeArgs<T>& a) {
  each_ray(a.rays, [&](int64_t ray) { forward(a, ray); });
}

template <class T>
void composite_vjp(const CompositeVjpArgs<T>& a) {
  each_ray(a.rays, [&](int64_t ray) { backward(a, ray); });
}

template <class T>
void composite_used(const UsedArgs<T>& a) {
  each_ray(a.rays, [&](int64_t ray) { a.used[ray] = used(a, ray); });
}

N3D_INSTANTIATE(composite, CompositeArgs)
N3D_INSTANTIATE(composite_vjp, CompositeVjpArgs)
N3D_INSTANTIATE(composite_used, UsedArgs)

}  // namespace n3d::N3D_ISA
