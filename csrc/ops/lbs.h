// Linear blend skinning (Magnenat-Thalmann et al. 1988) of bodies with blend shapes (SMPL, Loper et al. 2015), and the
// forward kinematics in front of it. Body b has coefficients c_bm (shape and pose correctives together) and joint
// transforms G_bj, 3 × 4; vertex v has K joints j_vk with weights w_vk:
//   p_bv = t_v + Σ_m c_bm D_mv,   x_bv = (Σ_k w_vk G_{b j_vk}) (p_bv, 1)
// where the sum may be of dual quaternions instead (core/transforms.h).
// Kinematics: R_j turns joint j, which rests at q_j, below its parent p; rest frames are parallel to the world's:
//   A_j = A_p (R_j | q_j − q_p),   G_j = A_j (I | −q_j),   roots: A_j = (R_j | q_j)
// Rotations: with θ = |v|, exp v = cos θ I + s [v]× + c v vᵀ, s = sin θ / θ, c = (1 − cos θ) / θ² (Rodrigues).
#pragma once

#include "core/transforms.h"

namespace n3d {

template <class T>
struct SkinInputs {
  const T* rest;                                         // (V, 3), or (B, V, 3) with rest_per_body: t
  const T* directions;                                   // (M, V, 3)
  const T* coefficients;                                 // (B, M)
  const int32_t* vertex_joints;                          // (V, K)
  const T* weights;                                      // (V, K)
  const T* transforms;                                   // (B, J, C) matrices, C = 12, or dual quaternions, C = 8
  int64_t bodies, vertices, shapes, influences, joints;  // B, V, M, K, J
  bool rest_per_body, dual_quaternions;
};

template <class T>
struct BlendSkinArgs {
  SkinInputs<T> in;
  T* vertices;   // (B, V, 3)
  T* shaped;     // p in an order of the driver's own, 3 V padded, or null: no backward pass to come
  T* workspace;  // CPU: (M + C J, padded)
  void* stream;
};

template <class T>
struct BlendSkinVjpArgs {
  SkinInputs<T> in;
  const T* shaped;
  const T* v_vertices;      // (B, V, 3)
  T* v_shaped;              // (B, V, 3); this and the next three may be null on the CPU: not wanted
  T* v_coefficients;        // (B, M)
  T* v_transforms;          // (B, J, C)
  T* v_weights;             // (V, K)
  T* workspace;             // CPU: (C J, padded)
  T* partials;              // CPU: (chunks, M + C J, padded), where chunks cut the vertices and are summed in order
  int64_t chunks, padded;   // padded: B rounded up to a multiple of 32, two packs of the widest
  const int64_t* by_joint;  // CUDA: (V K,) the entries of vertex_joints, sorted by what they name
  const int64_t* offsets;   // CUDA: (J + 1,) where in it those of each joint begin
  void* stream;
};

template <class T>
struct KinematicsArgs {
  const T* rotations;      // (B, J, 3, 3)
  const T* rest;           // (B, J, 3) q
  const int32_t* parents;  // (J,) each before its children, −1 for roots
  T* transforms;           // (B, J, 3, 4) G
  T* posed;                // (B, J, 3) A's translation
  int64_t bodies, joints;
  void* stream;
};

template <class T>
struct KinematicsVjpArgs {
  const T* rotations;
  const T* rest;
  const int32_t* parents;
  const T* transforms;    // from the forward pass
  const T* v_transforms;  // this or the next may be null: no gradient arrives there
  const T* v_posed;
  T* v_rotations;
  T* v_rest;
  T* workspace;  // (B, J, 3, 4) the gradient to A
  int64_t bodies, joints;
  void* stream;
};

template <class T>
struct RotationExpArgs {
  const T* vectors;  // (N, 3)
  T* rotations;      // (N, 3, 3)
  int64_t n;
  void* stream;
};

template <class T>
struct RotationExpVjpArgs {
  const T* vectors;
  const T* v_rotations;
  T* v_vectors;
  int64_t n;
  void* stream;
};

namespace N3D_ISA {

// f(how transforms blend)
template <class T, class F>
void with_blend(const SkinInputs<T>& in, const F& f) {
  in.dual_quaternions ? f(DualQuaternionBlend{}) : f(LinearBlend{});
}

// f(k, scalars of its transform, those of the first's) for a vertex's joints. load(joint, scalar)
template <class Blend, class S, class T, class Load, class F>
N3D_HD void each_joint(const SkinInputs<T>& in, int64_t vertex, const Load& load, const F& f) {
  S g[Blend::kScalars], first[Blend::kScalars];
  for (int64_t k = vertex * in.influences; k < (vertex + 1) * in.influences; ++k) {
    const int64_t joint = in.vertex_joints[k];
#pragma unroll
    for (int i = 0; i < Blend::kScalars; ++i) {
      g[i] = load(joint, i);
      if (k == vertex * in.influences) first[i] = g[i];
    }
    f(k, g, first);
  }
}

// The sum of a vertex's transforms.
template <class Blend, class S, class T, class Load>
N3D_HD void blended(const SkinInputs<T>& in, int64_t vertex, const Load& load, S (&sum)[Blend::kScalars]) {
#pragma unroll
  for (int i = 0; i < Blend::kScalars; ++i) sum[i] = S{};
  if constexpr (Blend::kAlone) {  // one at a time: registers hold the sum
    for (int64_t k = vertex * in.influences; k < (vertex + 1) * in.influences; ++k) {
#pragma unroll
      for (int i = 0; i < Blend::kScalars; ++i) sum[i] += load(in.vertex_joints[k], i) * in.weights[k];
    }
  } else {
    each_joint<Blend, S>(in, vertex, load, [&](int64_t k, const auto& g, const auto& first) {
      const auto share = Blend::share(in.weights[k], g, first);
#pragma unroll
      for (int i = 0; i < Blend::kScalars; ++i) sum[i] += g[i] * share;
    });
  }
}

template <class T>
N3D_HD Vec3<T> read3(const T* p) {
  return {p[0], p[1], p[2]};
}
template <class T>
N3D_HD void add3(T* p, const Vec3<T>& v) {
  p[0] += v.x, p[1] += v.y, p[2] += v.z;
}

// The columns of the left 3 × 3 of rows `pitch` long.
template <class T>
N3D_HD Columns<T> read_columns(const T* p, int pitch) {
  return {
      {p[0], p[pitch], p[2 * pitch]}, {p[1], p[pitch + 1], p[2 * pitch + 1]}, {p[2], p[pitch + 2], p[2 * pitch + 2]}};
}

// One body, from the roots to the leaves. A's rotation is also G's.
template <class T>
N3D_HD void pose_body(const KinematicsArgs<T>& a, int64_t body) {
  const T *rotations = a.rotations + 9 * a.joints * body, *rest = a.rest + 3 * a.joints * body;
  T *transforms = a.transforms + 12 * a.joints * body, *posed = a.posed + 3 * a.joints * body;
  for (int64_t j = 0; j < a.joints; ++j) {
    const int64_t parent = a.parents[j];
    Columns<T> turn = read_columns(rotations + 9 * j, 3);
    const Vec3<T> q = read3(rest + 3 * j);
    Vec3<T> at = q;
    if (parent >= 0) {
      const Columns<T> above = read_columns(transforms + 12 * parent, 4);
      turn = {times(above, turn.c0), times(above, turn.c1), times(above, turn.c2)};
      at = times(above, q - read3(rest + 3 * parent)) + read3(posed + 3 * parent);
    }
    const Vec3<T> moved = at - times(turn, q);
    T* g = transforms + 12 * j;
    g[0] = turn.c0.x, g[1] = turn.c1.x, g[2] = turn.c2.x, g[3] = moved.x;
    g[4] = turn.c0.y, g[5] = turn.c1.y, g[6] = turn.c2.y, g[7] = moved.y;
    g[8] = turn.c0.z, g[9] = turn.c1.z, g[10] = turn.c2.z, g[11] = moved.z;
    posed[3 * j] = at.x, posed[3 * j + 1] = at.y, posed[3 * j + 2] = at.z;
  }
}

// Adds x yᵀ to the left 3 × 3 of rows of four.
template <class T>
N3D_HD void add_outer(T* p, const Vec3<T>& x, const Vec3<T>& y) {
  add3(p, y * x.x), add3(p + 4, y * x.y), add3(p + 8, y * x.z);
}

// From the leaves back to the roots:
//   G_j = (W_j | s_j − W_j q_j),   W_j = W_p R_j,   s_j = W_p (q_j − q_p) + s_p
// `v_a` holds (v_W | v_s), which is whole when a joint's turn comes: its children had theirs.
template <class T>
N3D_HD void pose_body_vjp(const KinematicsVjpArgs<T>& a, int64_t body) {
  const T *rotations = a.rotations + 9 * a.joints * body, *rest = a.rest + 3 * a.joints * body;
  const T* transforms = a.transforms + 12 * a.joints * body;
  T *v_rotations = a.v_rotations + 9 * a.joints * body, *v_rest = a.v_rest + 3 * a.joints * body;
  T* v_a = a.workspace + 12 * a.joints * body;
  for (int64_t j = 0; j < a.joints; ++j) {
    T* v = v_a + 12 * j;
    for (int i = 0; i < 12; ++i) v[i] = a.v_transforms ? a.v_transforms[12 * (a.joints * body + j) + i] : T(0);
    const Vec3<T> moved{v[3], v[7], v[11]};
    add_outer(v, moved * T(-1), read3(rest + 3 * j));
    const Vec3<T> v_q = row_times(moved, read_columns(transforms + 12 * j, 4));
    for (int i = 0; i < 3; ++i) v[4 * i + 3] += a.v_posed ? a.v_posed[3 * (a.joints * body + j) + i] : T(0);
    v_rest[3 * j] = -v_q.x, v_rest[3 * j + 1] = -v_q.y, v_rest[3 * j + 2] = -v_q.z;
  }
  for (int64_t j = a.joints - 1; j >= 0; --j) {
    const int64_t parent = a.parents[j];
    const T* v = v_a + 12 * j;
    Columns<T> v_turn = read_columns(v, 4);
    Vec3<T> v_q{v[3], v[7], v[11]};
    if (parent >= 0) {
      T* v_above = v_a + 12 * parent;
      const Columns<T> turn = read_columns(rotations + 9 * j, 3), above = read_columns(transforms + 12 * parent, 4);
      add_outer(v_above, v_turn.c0, turn.c0), add_outer(v_above, v_turn.c1, turn.c1);
      add_outer(v_above, v_turn.c2, turn.c2);
      add_outer(v_above, v_q, read3(rest + 3 * j) - read3(rest + 3 * parent));
      v_above[3] += v_q.x, v_above[7] += v_q.y, v_above[11] += v_q.z;
      v_turn = {row_times(v_turn.c0, above), row_times(v_turn.c1, above), row_times(v_turn.c2, above)};
      v_q = row_times(v_q, above);
      add3(v_rest + 3 * parent, v_q * T(-1));
    }
    add3(v_rest + 3 * j, v_q);
    T* out = v_rotations + 9 * j;
    out[0] = v_turn.c0.x, out[1] = v_turn.c1.x, out[2] = v_turn.c2.x;
    out[3] = v_turn.c0.y, out[4] = v_turn.c1.y, out[5] = v_turn.c2.y;
    out[6] = v_turn.c0.z, out[7] = v_turn.c1.z, out[8] = v_turn.c2.z;
  }
}

// s, c and their derivatives along v divided by v, of t = θ². With e = (1 − s) / t and d = (½ − c) / t they are
//   ds = (e − c) v·dv,   dc = (2 d − e) v·dv,   and d cos θ = −s v·dv
// Nothing is divided by a small t: there e and d are power series, Σ (−t)ᵏ / (2k + 3)! and Σ (−t)ᵏ / (2k + 4)!.
template <class T>
struct Rodrigues {
  T s, c, v_s, v_c;

  N3D_HD explicit Rodrigues(T t) {
    T e = 1, d = 1;
    if (t < 1) {
#pragma unroll
      for (int k = 9; k > 0; --k) {  // the next term is below rounding in double
        e = 1 - e * t * T(1.0 / ((2 * k + 2) * (2 * k + 3)));
        d = 1 - d * t * T(1.0 / ((2 * k + 3) * (2 * k + 4)));
      }
      e /= 6, d /= 24;
      s = 1 - t * e, c = T(0.5) - t * d;
    } else {
      const T theta = square_root(t), half = sine(theta / 2);
      s = sine(theta) / theta, c = 2 * half * half / t;
      e = (1 - s) / t, d = (T(0.5) - c) / t;
    }
    v_s = e - c, v_c = 2 * d - e;
  }
};

template <class T>
N3D_HD void rotation_exp_one(const RotationExpArgs<T>& a, int64_t i) {
  const Vec3<T> v = read3(a.vectors + 3 * i);
  const T t = dot(v, v);
  const Rodrigues<T> f(t);
  const Vec3<T> sv = v * f.s, cv = v * f.c;
  const T cosine = 1 - t * f.c;
  T* r = a.rotations + 9 * i;
  r[0] = cosine + cv.x * v.x, r[1] = cv.x * v.y - sv.z, r[2] = cv.x * v.z + sv.y;
  r[3] = cv.y * v.x + sv.z, r[4] = cosine + cv.y * v.y, r[5] = cv.y * v.z - sv.x;
  r[6] = cv.z * v.x - sv.y, r[7] = cv.z * v.y + sv.x, r[8] = cosine + cv.z * v.z;
}

template <class T>
N3D_HD void rotation_exp_vjp_one(const RotationExpVjpArgs<T>& a, int64_t i) {
  const Vec3<T> v = read3(a.vectors + 3 * i);
  const T* g = a.v_rotations + 9 * i;
  const Rodrigues<T> f(dot(v, v));
  const Vec3<T> axial{g[7] - g[5], g[2] - g[6], g[3] - g[1]};  // ⟨g, [v]×⟩ = axial · v
  const Vec3<T> both = Vec3<T>{g[0] + g[0], g[1] + g[3], g[2] + g[6]} * v.x +
                       Vec3<T>{g[3] + g[1], g[4] + g[4], g[5] + g[7]} * v.y +
                       Vec3<T>{g[6] + g[2], g[7] + g[5], g[8] + g[8]} * v.z;  // (g + gᵀ) v
  const T along = f.v_s * dot(axial, v) + f.v_c * dot(both, v) / 2 - f.s * (g[0] + g[4] + g[8]);
  const Vec3<T> out = axial * f.s + both * f.c + v * along;
  T* to = a.v_vectors + 3 * i;
  to[0] = out.x, to[1] = out.y, to[2] = out.z;
}

}  // namespace N3D_ISA
}  // namespace n3d
