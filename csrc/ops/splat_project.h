// Projection of 3D Gaussians (Zwicker et al. 2001, "EWA volume splatting"; Kerbl et al. 2023, "3D Gaussian splatting").
// A splat has mean m, rotation R of its quaternion, scales s, opacity o and harmonic coefficients c_k. With p = W m + t
// in the camera's frame and slopes u = p_x/p_z, v = p_y/p_z,
//   xy = (f_x u + c_x, f_y v + c_y),   Σ′ = A Aᵀ,   A = J W R diag(s),   J = [f_x 0 −f_x u; 0 f_y −f_y v] / p_z
//   conic = (Σ′ + b I)⁻¹,   colour = max(0, ½ + Σ_k c_k Y_k(d)),   d = (m − centre) / |m − centre|,   centre = −Wᵀt
// u and v are clamped in J only. Orthographic: xy = f p_xy + c. Fisheye, equidistant: xy = f θ/r p_xy + c with
// r = |p_xy|, θ = atan(r / p_z). J is the derivative of xy by p each time. Anti-aliased (Yu et al. 2024,
// "Mip-Splatting"): o · √(det Σ′ / det(Σ′ + b I)).
//
// det Σ′ is the squared length of the cross product of A's rows (Lagrange's identity) and det(Σ′ + b I) = det Σ′ +
// b tr Σ′ + b²: sums of positive terms, exact for needles too, where Σ′_xx Σ′_yy − Σ′_xy² would lose every digit.
#pragma once

#include <type_traits>

#include "core/hd.h"
#include "core/splat.h"
#include "core/vec.h"

namespace n3d {

constexpr int kSplatBlock = 128;  // splats that one task, or block of threads, projects; the camera's gradient is
                                  // summed in them first
constexpr int kCameraSums = 19;   // scalars that such a sum has

enum class SplatLens { pinhole, orthographic, fisheye };

template <class T>
struct SplatInputs {
  const T* means;       // (N, 3)
  const T* quats;       // (N, 4) wxyz, any length
  const T* scales;      // (N, 3)
  const T* opacities;   // (N,)
  const T* sh_dc;       // (N, 3), or null: no colours
  const T* sh_rest;     // (N, bands, 3)
  const T* camera;      // (4, 4) camera_from_world
  const T* intrinsics;  // (4,) f_x f_y c_x c_y, pixels
  int64_t n, bands;     // bands: 0, 3, 8 or 15
  int degree, width, height;
  double near, far, blur;
  bool antialiased;
  bool raw;  // scales are logarithms and opacities logits
  SplatLens lens;
};

template <class T>
struct SplatProjectArgs {
  SplatInputs<T> in;
  T* xy;       // (N, 2); culled splats are zero in every output
  T* conic;    // (N, 3) xx, xy, yy
  T* depth;    // (N,)
  T* opacity;  // (N,)
  T* color;    // (N, 3), or null with sh_dc
  T* radius;   // (N,)
  T* slopes;   // (9, N rounded up to 16) ∂colour/∂m in an order of the driver's own, or null: no backward pass to come
  void* stream;
};

template <class T>
struct SplatProjectVjpArgs {
  SplatInputs<T> in;
  const T* color;   // from the forward pass, as the next two
  const T* radius;  //
  const T* slopes;  //
  const T* v_xy;    // each of these may be null: no gradient arrives there
  const T* v_conic;
  const T* v_depth;
  const T* v_opacity;
  const T* v_color;
  T* v_means;  // each of these may be null: it is not wanted
  T* v_quats;
  T* v_scales;
  T* v_opacities;
  T* v_sh_dc;
  T* v_sh_rest;
  T* v_camera;      // (4, 4)
  T* v_intrinsics;  // (4,)
  T* partial;       // (⌈N / kSplatBlock⌉, kCameraSums) workspace, with v_camera or v_intrinsics
  void* stream;
};

namespace N3D_ISA {

template <class S>
using Mask = decltype(S{} < S{});

// What all splats share.
template <class T>
struct SplatView {
  Vec3<T> w0, w1, w2, t;  // the rows of W, and t
  Vec3<T> back;           // Wᵀt = −centre
  T fx, fy, cx, cy, u_min, u_max, v_min, v_max, right, bottom, near, far, blur;
  bool antialiased, raw;
  SplatLens lens;

  // The slopes' limits lie beyond the image's borders by the margin's share of half the field of view.
  N3D_HD explicit SplatView(const SplatInputs<T>& in)
      : fx(in.intrinsics[0]), fy(in.intrinsics[1]), cx(in.intrinsics[2]), cy(in.intrinsics[3]) {
    const T* c = in.camera;
    w0 = {c[0], c[1], c[2]}, w1 = {c[4], c[5], c[6]}, w2 = {c[8], c[9], c[10]}, t = {c[3], c[7], c[11]};
    back = w0 * t.x + w1 * t.y + w2 * t.z;
    const T x_margin = T((kSlopeMargin - 1) / 2 * in.width), y_margin = T((kSlopeMargin - 1) / 2 * in.height);
    u_min = -(cx + x_margin) / fx, u_max = (in.width - cx + x_margin) / fx;
    v_min = -(cy + y_margin) / fy, v_max = (in.height - cy + y_margin) / fy;
    right = T(in.width - 0.5), bottom = T(in.height - 0.5);  // the last pixels' centres
    near = T(in.near), far = T(in.far), blur = T(in.blur);
    antialiased = in.antialiased, raw = in.raw, lens = in.lens;
  }
};

template <class S>
struct Splat {
  Vec3<S> mean;
  Quat<S> quat;
  Vec3<S> scale;
  S opacity;
};

// θ/r of the fisheye, by derivatives: s, q = s_r / r, e = q_r / r. With t = (r/z)² they are, times z, z³ and z⁵, power
// series in t, which stand where s and its slopes would be differences of nearly equal numbers.
template <class T, class S>
struct Fisheye {
  S per_d, s, q, e;  // per_d: 1 / (r² + z²)

  N3D_HD explicit Fisheye(const Vec3<S>& p) {
    constexpr int terms = sizeof(T) == 4 ? 14 : 28;  // 4⁻¹⁴ and 4⁻²⁸ are below rounding
    const S rr = p.x * p.x + p.y * p.y, zz = p.z * p.z, per_z = 1 / p.z, per_zz = per_z * per_z, t = rr * per_zz;
    per_d = 1 / (rr + zz);
    S s0{}, q0{}, e0{};
    for (int k = terms - 1; k >= 0; --k) {
      s0 = T(1.0 / (2 * k + 1)) - t * s0;
      q0 = T((2.0 * k + 2) / (2 * k + 3)) - t * q0;
      e0 = T((k + 1) * (2.0 * k + 4) / (2 * k + 5)) - t * e0;
    }
    const auto narrow = t < T(0.25);
    const S far = select(narrow, S{} + T(1), rr), r = square_root(far), per_rr = 1 / far;
    const S s1 = arctangent(r * per_z) / r, q1 = (p.z * per_d - s1) * per_rr;
    const S e1 = -(2 * p.z * per_d * per_d + 3 * q1) * per_rr;
    s = select(narrow, s0 * per_z, s1);
    q = select(narrow, -q0 * per_z * per_zz, q1);
    e = select(narrow, 2 * e0 * per_z * per_zz * per_zz, e1);
  }
};

// The splat's shape, from its parameters to its ellipse: what both directions need.
template <class T, class S>
struct Footprint {
  Vec3<S> scale;     // activated, as the opacity
  S opacity, slope;  // ∂opacity/∂logit
  Vec3<S> p;
  S x, y;                  // xy − c
  S per_z, u, v;           // of the pinhole alone: 1/p_z; u and v as clamped,
  Mask<S> u_free, v_free;  // where they are not
  Vec3<S> j0, j1;          // rows of J
  S per_length;            // 1/|q|
  Quat<S> quat;            // unit length
  Columns<S> turn;         // R
  Vec3<S> m0, m1;          // rows of J W,
  Vec3<S> g0, g1;          // of J W R
  Vec3<S> a0, a1;          // and of A
  S xx, xy, yy;            // Σ′
  S det_flat, det;         // of Σ′ and of Σ′ + b I
  S compensation;

  template <bool kPinhole>
  N3D_HD Footprint(std::bool_constant<kPinhole>, const SplatView<T>& view, const Splat<S>& splat)
      : scale(splat.scale), opacity(splat.opacity) {
    if (view.raw) {
      scale = {exponentials(scale.x).exp, exponentials(scale.y).exp, exponentials(scale.z).exp};
      const S e = exponentials(-opacity).exp;
      opacity = 1 / (1 + e);
      slope = opacity * opacity * e;
    } else {
      slope = S{} + T(1);
    }
    const Vec3<S>& m = splat.mean;
    p = {dot(view.w0, m) + view.t.x, dot(view.w1, m) + view.t.y, dot(view.w2, m) + view.t.z};
    const S zero{};
    if constexpr (kPinhole) {
      per_z = 1 / p.z;
      u = p.x * per_z, v = p.y * per_z;
      x = view.fx * u, y = view.fy * v;
      u_free = (u > view.u_min) & (u < view.u_max), v_free = (v > view.v_min) & (v < view.v_max);
      u = minimum(maximum(u, zero + view.u_min), zero + view.u_max);
      v = minimum(maximum(v, zero + view.v_min), zero + view.v_max);
      j0 = {view.fx * per_z, zero, -view.fx * per_z * u}, j1 = {zero, view.fy * per_z, -view.fy * per_z * v};
      m0 = (view.w0 - view.w2 * u) * j0.x;
      m1 = (view.w1 - view.w2 * v) * j1.y;
    } else {
      if (view.lens == SplatLens::orthographic) {
        x = view.fx * p.x, y = view.fy * p.y;
        j0 = {zero + view.fx, zero, zero}, j1 = {zero, zero + view.fy, zero};
      } else {
        const Fisheye<T, S> f(p);
        x = view.fx * f.s * p.x, y = view.fy * f.s * p.y;
        j0 = Vec3<S>{f.s + f.q * p.x * p.x, f.q * p.x * p.y, -p.x * f.per_d} * view.fx;
        j1 = Vec3<S>{f.q * p.x * p.y, f.s + f.q * p.y * p.y, -p.y * f.per_d} * view.fy;
      }
      m0 = view.w0 * j0.x + view.w1 * j0.y + view.w2 * j0.z;
      m1 = view.w0 * j1.x + view.w1 * j1.y + view.w2 * j1.z;
    }

    per_length = 1 / square_root(maximum(dot(splat.quat, splat.quat), zero + T(1e-30)));  // 0 is no rotation, not NaN
    quat = splat.quat * per_length;
    turn = rotation(quat);
    g0 = row_times(m0, turn), g1 = row_times(m1, turn);
    a0 = scaled(g0, scale), a1 = scaled(g1, scale);
    xx = dot(a0, a0), xy = dot(a0, a1), yy = dot(a1, a1);
    const Vec3<S> area = cross(a0, a1);
    det_flat = dot(area, area);
    det = det_flat + view.blur * (xx + yy) + view.blur * view.blur;
    if (view.antialiased)
      compensation = square_root(maximum(det_flat / det, zero + T(kCompensationMin * kCompensationMin)));
  }
};

template <class S>
struct Projection {
  S x, y, conic_xx, conic_xy, conic_yy, depth, opacity, radius;
  Mask<S> visible;  // NaN is not visible
};

template <bool kPinhole, class T, class S>
N3D_HD Projection<S> project(const SplatView<T>& view, const Splat<S>& splat) {
  const Footprint<T, S> f(std::bool_constant<kPinhole>{}, view, splat);
  const S xx = f.xx + view.blur, yy = f.yy + view.blur, per_det = 1 / f.det;
  Projection<S> out;
  out.x = f.x + view.cx, out.y = f.y + view.cy;
  out.conic_xx = yy * per_det, out.conic_xy = -f.xy * per_det, out.conic_yy = xx * per_det;
  out.depth = f.p.z;
  out.opacity = view.antialiased ? f.opacity * f.compensation : f.opacity;

  // alpha falls to its minimum where dᵀ conic d = reach. The ellipse's half axes squared are reach · eigenvalues, the
  // half sides squared of the box around it reach · xx and reach · yy.
  const S reach = 2 * logarithm(out.opacity * T(1 / kAlphaMin)), half = T(0.5) * (xx - yy);
  out.radius = square_root(reach * (T(0.5) * (xx + yy) + square_root(half * half + f.xy * f.xy)));
  const S beyond_x = rectify(maximum(out.x - view.right, T(0.5) - out.x));  // from the nearest pixel's centre
  const S beyond_y = rectify(maximum(out.y - view.bottom, T(0.5) - out.y));
  out.visible = (f.p.z >= view.near) & (f.p.z <= view.far) & (out.opacity > T(kAlphaMin)) &
                (beyond_x * beyond_x <= reach * xx) & (beyond_y * beyond_y <= reach * yy) & (out.radius > 0) &
                (f.det > T(kDeterminantMin)) & (f.det < T(1e37));  // far from overflow: as large as 1e9 pixels
  return out;
}

template <class S>
struct ProjectionGradient {
  S x, y, conic_xx, conic_xy, conic_yy, depth, opacity;
};

template <class S>
struct CameraGradient {
  Vec3<S> w0, w1, w2, t, back;
  S fx, fy, cx, cy;

  // f(k, its k-th scalar)
  template <class F>
  N3D_HD void each(const F& f) {
    S* const all[kCameraSums] = {&w0.x, &w0.y, &w0.z,   &w1.x,   &w1.y,   &w1.z, &w2.x, &w2.y, &w2.z, &t.x,
                                 &t.y,  &t.z,  &back.x, &back.y, &back.z, &fx,   &fy,   &cx,   &cy};
#pragma unroll
    for (int k = 0; k < kCameraSums; ++k) f(k, *all[k]);
  }
};

// From xy and the rows of M = J W, whose gradients are m0 and m1, to p and, where `camera` is not null, the intrinsics.
template <bool kPinhole, class T, class S>
N3D_HD Vec3<S> lens_vjp(const SplatView<T>& view, const Footprint<T, S>& f, const S& v_x, const S& v_y,
                        const Vec3<S>& m0, const Vec3<S>& m1, CameraGradient<S>* camera) {
  const Vec3<S>& p = f.p;
  S along0 = dot(f.m0, m0), along1 = dot(f.m1, m1);  // f_x ∂L/∂f_x by J, and so on
  S v_cx = v_x, v_cy = v_y;
  Vec3<S> out;
  if constexpr (kPinhole) {
    // J = f/z [1 0 −u; 0 1 −v]. xy sees slopes as they are, J as they are clamped: b/f, where b falls as c grows.
    const S zero{}, fx = f.j0.x, fy = f.j1.y, tilt0 = dot(view.w2, m0) * f.per_z, tilt1 = dot(view.w2, m1) * f.per_z;
    out.x = fx * v_x + select(f.u_free, -fx * tilt0, zero);
    out.y = fy * v_y + select(f.v_free, -fy * tilt1, zero);
    out.z = -f.per_z * (p.x * out.x + p.y * out.y + along0 + along1);
    if (camera) {
      v_cx += select(f.u_free, zero, tilt0), v_cy += select(f.v_free, zero, tilt1);
      along0 = select(f.u_free, along0, fx * dot(view.w0, m0)),
      along1 = select(f.v_free, along1, fy * dot(view.w1, m1));
    }
  } else {
    out = f.j0 * v_x + f.j1 * v_y;
    if (view.lens == SplatLens::fisheye) {
      const Fisheye<T, S> k(p);
      const Vec3<S> a = Vec3<S>{dot(view.w0, m0), dot(view.w1, m0), dot(view.w2, m0)} * view.fx;  // of J's rows / f
      const Vec3<S> b = Vec3<S>{dot(view.w0, m1), dot(view.w1, m1), dot(view.w2, m1)} * view.fy;
      const S mixed = a.y + b.x, xx = p.x * p.x, yy = p.y * p.y, xy = p.x * p.y, dd = k.per_d * k.per_d;
      out.x += p.x * (a.x * (3 * k.q + k.e * xx) + b.y * (k.q + k.e * yy)) + mixed * p.y * (k.q + k.e * xx) +
               a.z * (2 * xx * dd - k.per_d) + b.z * 2 * xy * dd;
      out.y += p.y * (b.y * (3 * k.q + k.e * yy) + a.x * (k.q + k.e * xx)) + mixed * p.x * (k.q + k.e * yy) +
               b.z * (2 * yy * dd - k.per_d) + a.z * 2 * xy * dd;
      out.z += a.x * (2 * xx * dd - k.per_d) + b.y * (2 * yy * dd - k.per_d) + mixed * 2 * xy * dd +
               2 * p.z * dd * (a.z * p.x + b.z * p.y);
    }
  }
  if (camera) {
    camera->fx = (v_x * f.x + along0) / view.fx, camera->fy = (v_y * f.y + along1) / view.fy;
    camera->cx = v_cx, camera->cy = v_cy;
  }
  return out;
}

// Everything but the colour. `camera` may be null.
template <bool kPinhole, class T, class S>
N3D_HD Splat<S> project_vjp(const SplatView<T>& view, const Splat<S>& splat, const ProjectionGradient<S>& v,
                            CameraGradient<S>* camera) {
  const Footprint<T, S> f(std::bool_constant<kPinhole>{}, view, splat);
  const S zero{};

  // Q = C⁻¹ with C = Σ′ + b I: ∂L/∂C = −Q V Q, where V is symmetric and ∂L/∂Q_xy is shared by two entries.
  const S per_det = 1 / f.det;
  const S qx = (f.yy + view.blur) * per_det, q = -f.xy * per_det, qy = (f.xx + view.blur) * per_det;
  const S mixed = T(0.5) * v.conic_xy;
  const S qv_xx = qx * v.conic_xx + q * mixed, qv_xy = qx * mixed + q * v.conic_yy;
  const S qv_yx = q * v.conic_xx + qy * mixed, qv_yy = q * mixed + qy * v.conic_yy;
  S c_xx = -(qv_xx * qx + qv_xy * q), c_xy = -(qv_xx * q + qv_xy * qy), c_yy = -(qv_yx * q + qv_yy * qy);

  Splat<S> out;
  out.opacity = v.opacity * f.slope;
  if (view.antialiased) {
    // ∂ ln √(det Σ′ / det C) = ½ (Σ′⁻¹ − C⁻¹) = ½ b Σ′⁻¹ C⁻¹, sums of terms of one sign: for large splats the two
    // inverses are nearly equal.
    const Mask<S> free = f.det_flat > f.det * T(kCompensationMin * kCompensationMin);
    const S factor = T(0.5) * view.blur * v.opacity * f.opacity * f.compensation / f.det_flat;
    const S k = select(free, factor, zero);
    c_xx += k * (f.yy * qx - f.xy * q);
    c_xy += k * q * (f.xx + f.yy + view.blur);
    c_yy += k * (f.xx * qy - f.xy * q);
    out.opacity *= f.compensation;
  }

  // C = A Aᵀ + b I,  A = G diag(s),  G = M R,  M = J W. With V = ∂L/∂C and H = 2 Gᵀ V G,
  //   ∂L/∂s = s ∘ diag H,   ∂L/∂G = 2 V G diag(s²),   ∂L/∂δ_x = H_yz (s_y² − s_z²), and so on in turn,
  // where R turns by δ about its own axes, R (I + [δ]×). Through ∂L/∂R the last would come out as a difference of large
  // numbers wherever two scales are alike: of a ball, which no turn changes, as nothing but rounding errors.
  const Vec3<S> h0 = (f.g0 * c_xx + f.g1 * c_xy) * T(2), h1 = (f.g0 * c_xy + f.g1 * c_yy) * T(2);  // of 2 V G
  const Vec3<S> s = f.scale, squared = scaled(s, s);
  const Vec3<S> m0 = times(f.turn, scaled(h0, squared)), m1 = times(f.turn, scaled(h1, squared));
  out.scale = scaled(scaled(h0, f.g0) + scaled(h1, f.g1), view.raw ? squared : s);
  const Vec3<S> turn{(h0.y * f.g0.z + h1.y * f.g1.z) * ((s.y - s.z) * (s.y + s.z)),
                     (h0.z * f.g0.x + h1.z * f.g1.x) * ((s.z - s.x) * (s.z + s.x)),
                     (h0.x * f.g0.y + h1.x * f.g1.y) * ((s.x - s.y) * (s.x + s.y))};
  out.quat = rotation_vjp(f.quat, turn) * f.per_length;

  Vec3<S> p = lens_vjp<kPinhole>(view, f, v.x, v.y, m0, m1, camera);
  p.z += v.depth;
  out.mean = view.w0 * p.x + view.w1 * p.y + view.w2 * p.z;
  if (camera) {
    camera->w0 = m0 * f.j0.x + m1 * f.j1.x + splat.mean * p.x;
    camera->w1 = m0 * f.j0.y + m1 * f.j1.y + splat.mean * p.y;
    camera->w2 = m0 * f.j0.z + m1 * f.j1.z + splat.mean * p.z;
    camera->t = p;
  }
  return out;
}

// From sums over all splats to camera_from_world, where back = Wᵀt depends on both, and to the intrinsics.
template <class T>
N3D_HD void camera_vjp(const SplatView<T>& view, const CameraGradient<T>& sums, T* v_camera, T* v_intrinsics) {
  if (v_intrinsics)
    v_intrinsics[0] = sums.fx, v_intrinsics[1] = sums.fy, v_intrinsics[2] = sums.cx, v_intrinsics[3] = sums.cy;
  if (!v_camera) return;
  const Vec3<T> w0 = sums.w0 + sums.back * view.t.x, w1 = sums.w1 + sums.back * view.t.y,
                w2 = sums.w2 + sums.back * view.t.z;
  const T out[16] = {w0.x, w0.y, w0.z, sums.t.x + dot(view.w0, sums.back),  //
                     w1.x, w1.y, w1.z, sums.t.y + dot(view.w1, sums.back),  //
                     w2.x, w2.y, w2.z, sums.t.z + dot(view.w2, sums.back),  //
                     0,    0,    0,    0};
  for (int i = 0; i < 16; ++i) v_camera[i] = out[i];
}

// Real spherical harmonics, the signs and the order of neural3d/ops/spherical_harmonics.py. Y_0 is a constant; y[k] is
// Y_{k+1}.
constexpr double kY0 = 0.28209479177387814, kY1 = 0.4886025119029199, kY2 = 1.0925484305920792,
                 kY20 = 0.31539156525252005, kY30 = 0.3731763325901154, kY31 = 0.4570457994644658,
                 kY32 = 2.890611442640554, kY33 = 0.5900435899266435;
constexpr int sh_bands(int degree) { return (degree + 1) * (degree + 1) - 1; }

// f(compile-time degree, is it a pinhole?); degree −1 where there are no colours. Wide lenses would slow the pinhole.
template <class T, class F>
void with_kind(const SplatInputs<T>& in, const F& f) {
  const auto with_degree = [&](auto pinhole) {
    if (!in.sh_dc) return f(std::integral_constant<int, -1>{}, pinhole);
    if (in.degree == 0) return f(std::integral_constant<int, 0>{}, pinhole);
    if (in.degree == 1) return f(std::integral_constant<int, 1>{}, pinhole);
    if (in.degree == 2) return f(std::integral_constant<int, 2>{}, pinhole);
    f(std::integral_constant<int, 3>{}, pinhole);
  };
  in.lens == SplatLens::pinhole ? with_degree(std::true_type{}) : with_degree(std::false_type{});
}

template <int kDegree, class T, class S>
N3D_HD void harmonics(const Vec3<S>& d, S* y) {
  if constexpr (kDegree > 0) y[0] = T(-kY1) * d.y, y[1] = T(kY1) * d.z, y[2] = T(-kY1) * d.x;
  if constexpr (kDegree > 1) {
    y[3] = T(kY2) * d.x * d.y, y[4] = T(-kY2) * d.y * d.z, y[6] = T(-kY2) * d.x * d.z;
    y[5] = T(kY20) * (3 * d.z * d.z - 1);
    y[7] = T(kY2 / 2) * (d.x * d.x - d.y * d.y);
  }
  if constexpr (kDegree > 2) {
    const S xx = d.x * d.x, yy = d.y * d.y, zz = d.z * d.z, ring = T(kY31) * (1 - 5 * zz);
    y[8] = T(kY33) * d.y * (yy - 3 * xx);
    y[9] = T(kY32) * d.x * d.y * d.z;
    y[10] = d.y * ring;
    y[11] = T(kY30) * d.z * (5 * zz - 3);
    y[12] = d.x * ring;
    y[13] = T(kY32 / 2) * d.z * (xx - yy);
    y[14] = T(kY33) * d.x * (3 * yy - xx);
  }
}

// Σ_k w_k ∇Y_{k+1}; w_k = w[k · kStride].
template <int kDegree, int kStride, class T, class S>
N3D_HD Vec3<S> harmonics_vjp(const Vec3<S>& d, const S* w) {
  Vec3<S> g{};
  if constexpr (kDegree > 0) {
    g = {T(-kY1) * w[2 * kStride], T(-kY1) * w[0], T(kY1) * w[kStride]};
  }
  if constexpr (kDegree > 1) {
    const S xy = T(kY2) * w[3 * kStride], yz = T(-kY2) * w[4 * kStride], zz = T(6 * kY20) * w[5 * kStride];
    const S xz = T(-kY2) * w[6 * kStride], squares = T(kY2) * w[7 * kStride];
    g.x += d.y * xy + d.z * xz + d.x * squares;
    g.y += d.x * xy + d.z * yz - d.y * squares;
    g.z += d.y * yz + d.x * xz + d.z * zz;
  }
  if constexpr (kDegree > 2) {
    const S xx = d.x * d.x, yy = d.y * d.y, zz = d.z * d.z, xy = d.x * d.y, yz = d.y * d.z, xz = d.x * d.z;
    const S w8 = T(3 * kY33) * w[8 * kStride], w9 = T(kY32) * w[9 * kStride], w10 = T(kY31) * w[10 * kStride];
    const S w11 = T(3 * kY30) * w[11 * kStride], w12 = T(kY31) * w[12 * kStride], w13 = T(kY32) * w[13 * kStride];
    const S w14 = T(3 * kY33) * w[14 * kStride], ring = 1 - 5 * zz, squares = yy - xx;
    g.x += -2 * xy * w8 + yz * w9 + ring * w12 + xz * w13 + squares * w14;
    g.y += squares * w8 + xz * w9 + ring * w10 - yz * w13 + 2 * xy * w14;
    g.z += xy * w9 - 10 * yz * w10 + (5 * zz - 1) * w11 - 10 * xz * w12 - T(0.5) * squares * w13;
  }
  return g;
}

// d, and how gradients come back through the division by the length.
template <class S>
struct Direction {
  Vec3<S> d;
  S per_length;

  template <class T>
  N3D_HD Direction(const SplatView<T>& view, const Vec3<S>& mean) {
    const Vec3<S> offset = mean + view.back;
    per_length = 1 / square_root(dot(offset, offset));  // no eps: what is at the centre of the camera is culled
    d = offset * per_length;
  }
  N3D_HD Vec3<S> vjp(const Vec3<S>& v) const { return (v - d * dot(d, v)) * per_length; }
};

// The colour, and its slopes ∂colour_c/∂m where they are wanted. rest[3 k + c] multiplies y[k].
template <int kDegree, class T, class S>
N3D_HD void shade(const Direction<S>& direction, const S* dc, const S* rest, S* color, Vec3<S>* slopes) {
  S y[kDegree ? sh_bands(kDegree) : 1];
  harmonics<kDegree, T>(direction.d, y);
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    S sum = T(kY0) * dc[c] + T(0.5);
    for (int k = 0; k < sh_bands(kDegree); ++k) sum += y[k] * rest[3 * k + c];
    color[c] = rectify(sum);
    if (slopes) slopes[c] = kept(sum > 0, direction.vjp(harmonics_vjp<kDegree, 3, T>(direction.d, rest + c)));
  }
}

}  // namespace N3D_ISA
}  // namespace n3d
