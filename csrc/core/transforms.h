// Blends of rigid transforms G_k with weights w_k, as affine maps p ↦ A p + t.
//
// Linear: Σ w_k G_k of matrices. What lies about a joint that twists shrinks towards its axis.
// By unit dual quaternions G = q + ε d (Kavan et al., "Skinning with Dual Quaternions", I3D 2007): the rotation of b /
// |b| and the move 2 e b* / |b|², its vector part, of b + ε e = Σ ±w_k G_k. Of G and −G, which are one transform, that
// with q_k · q_1 ≥ 0 is taken. All maps are rigid, so that nothing shrinks.
#pragma once

#include "core/hd.h"
#include "core/vec.h"

namespace n3d::N3D_ISA {

// An affine map p ↦ A p + t, or its gradient, by rows (a | t).
template <class S>
struct Affine {
  Vec3<S> a[3];
  S t[3];

  // f(its scalar in row r and column c, r, c)
  template <class F>
  N3D_HD void each(const F& f) {
#pragma unroll
    for (int r = 0; r < 3; ++r) f(a[r].x, r, 0), f(a[r].y, r, 1), f(a[r].z, r, 2), f(t[r], r, 3);
  }
};
template <class S>
N3D_HD Vec3<S> times(const Affine<S>& g, const Vec3<S>& p) {
  return {dot(g.a[0], p) + g.t[0], dot(g.a[1], p) + g.t[1], dot(g.a[2], p) + g.t[2]};
}
// Given v of A p + t: to p, and to (A | t).
template <class S>
N3D_HD Vec3<S> point_vjp(const Affine<S>& g, const Vec3<S>& v) {
  return g.a[0] * v.x + g.a[1] * v.y + g.a[2] * v.z;
}
template <class S>
N3D_HD Affine<S> affine_vjp(const Vec3<S>& p, const Vec3<S>& v) {
  return {{p * v.x, p * v.y, p * v.z}, {v.x, v.y, v.z}};
}

// Σ a_i b_i.
template <class S, int kCount>
N3D_HD S inner(const S (&a)[kCount], const S (&b)[kCount]) {
  S sum = a[0] * b[0];
#pragma unroll
  for (int i = 1; i < kCount; ++i) sum += a[i] * b[i];
  return sum;
}

// How the transforms of a vertex's joints blend: the scalars of each times its share, added up, then an affine map of
// the sum; and from the gradient to the map that to the sum.
struct LinearBlend {
  static constexpr int kScalars = 12;   // 3 × 4, by rows
  static constexpr bool kAlone = true;  // a scalar's share depends on no other scalar

  template <class S, class T>
  static N3D_HD T share(T weight, const S (&)[kScalars], const S (&)[kScalars]) {
    return weight;
  }
  template <class S>
  static N3D_HD Affine<S> map(const S (&sum)[kScalars]) {
    Affine<S> g;
    g.each([&](S& value, int r, int c) { value = sum[4 * r + c]; });
    return g;
  }
  template <class S>
  static N3D_HD void map_vjp(const S (&)[kScalars], Affine<S> v, S (&v_sum)[kScalars]) {
    v.each([&](S& value, int r, int c) { v_sum[4 * r + c] = value; });
  }
};

struct DualQuaternionBlend {
  static constexpr int kScalars = 8;  // q, d
  static constexpr bool kAlone = false;

  // Of the shorter way round, as seen from the first joint.
  template <class S, class T>
  static N3D_HD S share(T weight, const S (&g)[kScalars], const S (&first)[kScalars]) {
    const S along = g[0] * first[0] + g[1] * first[1] + g[2] * first[2] + g[3] * first[3];
    return select(along < 0, S{} - weight, S{} + weight);
  }

  // With q = (w, v), d = (d_w, u) and s = 2 / |q|²:
  //   A = I + s (v vᵀ − |v|² I + w [v]×),   t = s (w u − d_w v + v × u)
  template <class S>
  static N3D_HD Affine<S> map(const S (&sum)[kScalars]) {
    const auto [w, v, d_w, u, s] = parts(sum);
    const Vec3<S> sv = v * s, turn = sv * w, move = (u * w - v * d_w + cross(v, u)) * s;
    const S still = 1 - dot(sv, v);
    return {{{still + sv.x * v.x, sv.x * v.y - turn.z, sv.x * v.z + turn.y},
             {sv.y * v.x + turn.z, still + sv.y * v.y, sv.y * v.z - turn.x},
             {sv.z * v.x - turn.y, sv.z * v.y + turn.x, still + sv.z * v.z}},
            {move.x, move.y, move.z}};
  }
  template <class S>
  static N3D_HD void map_vjp(const S (&sum)[kScalars], const Affine<S>& g, S (&v_sum)[kScalars]) {
    const auto [w, v, d_w, u, s] = parts(sum);
    const Vec3<S> axial{g.a[2].y - g.a[1].z, g.a[0].z - g.a[2].x, g.a[1].x - g.a[0].y};  // ⟨g, [v]×⟩ = axial · v
    const Vec3<S> both = Vec3<S>{2 * g.a[0].x, g.a[0].y + g.a[1].x, g.a[0].z + g.a[2].x} * v.x +
                         Vec3<S>{g.a[1].x + g.a[0].y, 2 * g.a[1].y, g.a[1].z + g.a[2].y} * v.y +
                         Vec3<S>{g.a[2].x + g.a[0].z, g.a[2].y + g.a[1].z, 2 * g.a[2].z} * v.z;  // (g + gᵀ) v
    const S trace = g.a[0].x + g.a[1].y + g.a[2].z, turn = dot(axial, v);
    const Vec3<S> t{g.t[0], g.t[1], g.t[2]};
    const S v_s = dot(both, v) / 2 - trace * dot(v, v) + w * turn + dot(t, u * w - v * d_w + cross(v, u));
    const S scaled = S{} - s * v_s;  // s falls by s² q · dq
    const Vec3<S> v_v = both - v * (2 * trace) + axial * w - t * d_w + cross(u, t) + v * scaled;
    const Vec3<S> v_u = t * w + cross(t, v);
    v_sum[0] = s * (turn + dot(t, u) + w * scaled);
    v_sum[1] = s * v_v.x, v_sum[2] = s * v_v.y, v_sum[3] = s * v_v.z;
    v_sum[4] = S{} - s * dot(t, v);
    v_sum[5] = s * v_u.x, v_sum[6] = s * v_u.y, v_sum[7] = s * v_u.z;
  }

 private:
  template <class S>
  struct Parts {
    S w;
    Vec3<S> v;
    S d_w;
    Vec3<S> u;
    S s;
  };
  template <class S>
  static N3D_HD Parts<S> parts(const S (&sum)[kScalars]) {
    const Vec3<S> v{sum[1], sum[2], sum[3]};
    const S square = sum[0] * sum[0] + dot(v, v);
    // Where quaternions cancel each other, and of weights that are 0, no turn is left, nor a move.
    const S s = select(square > 0, 2 / select(square > 0, square, S{} + 1), S{});
    return {sum[0], v, sum[4], {sum[5], sum[6], sum[7]}, s};
  }
};

}  // namespace n3d::N3D_ISA
