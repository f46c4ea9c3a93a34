// Volume rendering of packed rays, front to back (Max 1995; NeRF, Mildenhall et al. 2020, eq. 3). Sample i of a ray has
// density σ_i, colour c_i, distance t_i and length δ_i:
//   τ_i = σ_i δ_i,   T_i = exp(−Σ_{j<i} τ_j),   α_i = 1 − exp(−τ_i),   w_i = T_i α_i
//   colour Σ w_i c_i,   opacity Σ w_i = 1 − T_end,   depth Σ w_i t_i
// and the distortion loss of mip-NeRF 360 (Barron et al. 2022, eq. 15), Σ_ij w_i w_j |t_i − t_j| + ⅓ Σ w_i² δ_i.
// Samples with T_i < early_stop are left out: no weight, no gradient.
#pragma once

#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

template <class T>
struct CompositeArgs {
  const T* sigma;          // (S,)
  const T* color;          // (S, C)
  const T* t;              // (S,)
  const T* dt;             // (S,)
  const int64_t* offsets;  // (R + 1,)
  T* out_color;            // (R, C)
  T* opacity;              // (R,)
  T* depth;                // (R,)
  T* distortion;           // (R,)
  T* weights;              // (S,)
  int32_t* used;           // (R,) samples before the early stop
  int64_t rays, channels;
  double early_stop;
  void* stream;
};

template <class T>
struct CompositeVjpArgs {
  const T* color;          // (S, C)
  const T* t;              // (S,)
  const T* dt;             // (S,)
  const T* weights;        // (S,), from the forward pass, as the next two
  const T* opacity;        // (R,)
  const int32_t* used;     // (R,)
  const int64_t* offsets;  // (R + 1,)
  const T* v_out_color;    // (R, C); each of these may be null: no gradient arrives there
  const T* v_opacity;      // (R,)
  const T* v_depth;        // (R,)
  const T* v_distortion;   // (R,)
  const T* v_weights;      // (S,)
  T* v_sigma;              // (S,)
  T* v_color;              // (S, C)
  int64_t rays, channels;
  void* stream;
};

template <class T>
struct UsedArgs {
  const T* sigma;          // (S,)
  const T* dt;             // (S,)
  const int64_t* offsets;  // (R + 1,)
  int64_t* used;           // (R,) samples before the early stop
  int64_t rays;
  double early_stop;
  void* stream;
};

namespace N3D_ISA {

// w_i's part of the distortion; `lag` = Σ_{j<i} w_j (t_i − t_j). Here and below S is the scalar T or a pack of it.
template <class T, class S>
N3D_HD S distortion_term(S w, S lag, S dt) {
  return w * (2 * lag + w * dt * T(1.0 / 3.0));
}

// What has been gathered in front of the current sample.
template <class T>
struct Front {
  T transmittance = 1;  // T_i
  T weight = 0;         // W_i = Σ_{j<i} w_j
  T depth = 0;
  T lag = 0;  // Σ_{j<i} w_j (t_i − t_j): sums of what lies between, never a difference of large moments
  T distortion = 0;
  T previous = 0;  // t_{i−1}

  // Returns w_i. `alpha` = 1 − exp(−τ_i), `through` = exp(−τ_i).
  N3D_HD T add(T alpha, T through, T t, T dt) {
    const T w = transmittance * alpha;
    lag += weight * (t - previous);
    distortion += distortion_term<T>(w, lag, dt);
    weight += w;
    depth += w * t;
    transmittance *= through;
    previous = t;
    return w;
  }

  N3D_HD void finish(const CompositeArgs<T>& a, int64_t ray, int64_t used) const {
    a.opacity[ray] = 1 - transmittance;
    a.depth[ray] = depth;
    a.distortion[ray] = distortion;
    a.used[ray] = static_cast<int32_t>(used);
  }
};

// One ray. kChannels is the number of channels where the compiler should know it, or 0.
template <int kChannels, class T>
N3D_HD void composite_ray(const CompositeArgs<T>& a, int64_t ray) {
  const int64_t channels = kChannels ? kChannels : a.channels;
  const int64_t begin = a.offsets[ray], end = a.offsets[ray + 1];
  const T stop = static_cast<T>(a.early_stop);
  T* out = a.out_color + ray * channels;
  T sum[kChannels ? kChannels : 1] = {};
  if (!kChannels)
    for (int64_t c = 0; c < channels; ++c) out[c] = 0;

  Front<T> front;
  int64_t i = begin;
  for (; i < end && !(front.transmittance < stop); ++i) {
    const Exp<T> e = exponentials(-a.sigma[i] * a.dt[i]);
    const T w = front.add(-e.expm1, e.exp, a.t[i], a.dt[i]);
    a.weights[i] = w;
    for (int64_t c = 0; c < channels; ++c) (kChannels ? sum : out)[c] += w * a.color[i * channels + c];
  }
  front.finish(a, ray, i - begin);
  for (; i < end; ++i) a.weights[i] = 0;
  for (int c = 0; c < kChannels; ++c) out[c] = sum[c];
}

// How many samples of a ray come before the early stop.
template <class T>
N3D_HD int64_t used_by_ray(const UsedArgs<T>& a, int64_t ray) {
  const int64_t end = a.offsets[ray + 1], begin = a.offsets[ray];
  const T stop = static_cast<T>(a.early_stop);
  T transmittance = 1;
  int64_t i = begin;
  for (; i < end && !(transmittance < stop); ++i) transmittance *= exponentials(-a.sigma[i] * a.dt[i]).exp;
  return i - begin;
}

// The way back, from the last used sample to the first. With g_i = ∂L/∂w_i,
//   ∂L/∂τ_i = g_i T_{i+1} − Σ_{j>i} g_j w_j,   T_{i+1} = T_end + Σ_{j>i} w_j:
// sums of the weights alone, without exponentials and without dividing by a small T.
// The distortion's ∂/∂w_i = 2 a_i + ⅔ w_i δ_i with a_i = Σ_j w_j |t_i − t_j|, which changes from one sample to the next
// by
//   a_i − a_{i−1} = (Σ_{j<i} w_j − Σ_{j≥i} w_j) (t_i − t_{i−1}) = (1 + T_end − 2 T_i) (t_i − t_{i−1}).
template <class S>
N3D_HD S tau_slope(S g, S behind, S pull) {
  return g * behind - pull;
}
template <class T, class S>
N3D_HD S distortion_slope(S w, S apart, S dt) {
  return 2 * apart + w * dt * T(2.0 / 3.0);
}
template <class T, class S>
N3D_HD S apart_step(T end, S transmittance, S gap) {
  return (1 + end - 2 * transmittance) * gap;
}

template <class T>
struct Back {
  T end;       // T_end
  T behind;    // T_{i+1}
  T pull = 0;  // Σ_{j>i} g_j w_j
  T apart;     // a_i

  N3D_HD Back(T opacity, T last_lag) : end(1 - opacity), behind(1 - opacity), apart(last_lag) {}

  // Returns ∂L/∂τ_i and moves in front of sample i; `gap` = t_i − t_{i−1}.
  N3D_HD T add(T g, T w, T gap) {
    const T v_tau = tau_slope(g, behind, pull);
    pull += g * w;
    behind += w;
    apart -= apart_step(end, behind, gap);
    return v_tau;
  }
};

// Σ_j w_j (t_last − t_j), where the way back starts.
template <class T>
N3D_HD T last_lag(const T* weights, const T* t, int64_t n) {
  T lag = 0;
  for (int64_t i = 0; i < n; ++i) lag += weights[i] * (t[n - 1] - t[i]);
  return lag;
}

// One ray's way back. kChannels is the number of channels where the compiler should know it, or 0.
template <int kChannels, class T>
N3D_HD void composite_ray_vjp(const CompositeVjpArgs<T>& a, int64_t ray) {
  const int64_t channels = kChannels ? kChannels : a.channels;
  const int64_t begin = a.offsets[ray], used = a.used[ray], count = a.offsets[ray + 1] - begin;
  const T *t = a.t + begin, *dt = a.dt + begin, *weights = a.weights + begin, *color = a.color + begin * channels;
  T *v_sigma = a.v_sigma + begin, *v_color = a.v_color + begin * channels;
  for (int64_t i = used; i < count; ++i) v_sigma[i] = 0;
  for (int64_t i = used * channels; i < count * channels; ++i) v_color[i] = 0;

  const T v_opacity = a.v_opacity ? a.v_opacity[ray] : T(0), v_depth = a.v_depth ? a.v_depth[ray] : T(0);
  const T v_distortion = a.v_distortion ? a.v_distortion[ray] : T(0);
  const T* v_out = a.v_out_color ? a.v_out_color + ray * channels : nullptr;
  Back<T> back(a.opacity[ray], v_distortion != 0 ? last_lag(weights, t, used) : T(0));
  for (int64_t i = used - 1; i >= 0; --i) {
    const T w = weights[i];
    T g = v_opacity + v_depth * t[i] + v_distortion * distortion_slope<T>(w, back.apart, dt[i]);
    if (a.v_weights) g += a.v_weights[begin + i];
    for (int64_t c = 0; c < channels; ++c) {
      const T v = v_out ? v_out[c] : T(0);
      g += v * color[i * channels + c];
      v_color[i * channels + c] = v * w;
    }
    v_sigma[i] = dt[i] * back.add(g, w, i > 0 ? t[i] - t[i - 1] : T(0));
  }
}

}  // namespace N3D_ISA
}  // namespace n3d
