// Vectors of three and quaternions of any scalar, packs included, for host and device.
#pragma once

#include "core/simd.h"

namespace n3d::N3D_ISA {

template <class S>
struct Vec3 {
  S x, y, z;
};

template <class A, class B>
N3D_HD auto operator+(const Vec3<A>& a, const Vec3<B>& b) {
  return Vec3<decltype(a.x + b.x)>{a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class A, class B>
N3D_HD auto operator-(const Vec3<A>& a, const Vec3<B>& b) {
  return Vec3<decltype(a.x - b.x)>{a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class A, class B>
N3D_HD auto operator*(const Vec3<A>& a, const B& b) {
  return Vec3<decltype(a.x * b)>{a.x * b, a.y * b, a.z * b};
}
template <class S>
N3D_HD void operator+=(Vec3<S>& a, const Vec3<S>& b) {
  a.x += b.x, a.y += b.y, a.z += b.z;
}

// v where the condition holds, 0 elsewhere.
template <class M, class S>
N3D_HD Vec3<S> kept(const M& condition, const Vec3<S>& v) {
  return {select(condition, v.x, S{}), select(condition, v.y, S{}), select(condition, v.z, S{})};
}

// Componentwise: diag(a) b.
template <class A, class B>
N3D_HD auto scaled(const Vec3<A>& a, const Vec3<B>& b) {
  return Vec3<decltype(a.x * b.x)>{a.x * b.x, a.y * b.y, a.z * b.z};
}
template <class A, class B>
N3D_HD auto dot(const Vec3<A>& a, const Vec3<B>& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
// Its vjp, for c = a × b: v_a = b × v_c, v_b = v_c × a.
template <class A, class B>
N3D_HD auto cross(const Vec3<A>& a, const Vec3<B>& b) {
  return Vec3<decltype(a.x * b.x)>{a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

// A rotation or any other linear map, by its columns.
template <class S>
struct Columns {
  Vec3<S> c0, c1, c2;
};

// m A, for a row m.
template <class A, class B>
N3D_HD auto row_times(const Vec3<A>& m, const Columns<B>& a) {
  return Vec3<decltype(m.x * a.c0.x)>{dot(m, a.c0), dot(m, a.c1), dot(m, a.c2)};
}
// A x.
template <class A, class B>
N3D_HD auto times(const Columns<A>& a, const Vec3<B>& x) {
  return a.c0 * x.x + a.c1 * x.y + a.c2 * x.z;
}

template <class S>
struct Quat {
  S w, x, y, z;
};

template <class S>
N3D_HD S dot(const Quat<S>& a, const Quat<S>& b) {
  return a.w * b.w + a.x * b.x + a.y * b.y + a.z * b.z;
}
template <class S>
N3D_HD Quat<S> operator*(const Quat<S>& q, const S& b) {
  return {q.w * b, q.x * b, q.y * b, q.z * b};
}

// The rotation of a quaternion of unit length.
template <class S>
N3D_HD Columns<S> rotation(const Quat<S>& q) {
  const S x2 = 2 * q.x, y2 = 2 * q.y, z2 = 2 * q.z;
  const S xx = x2 * q.x, yy = y2 * q.y, zz = z2 * q.z, xy = x2 * q.y, xz = x2 * q.z, yz = y2 * q.z;
  const S wx = x2 * q.w, wy = y2 * q.w, wz = z2 * q.w;
  return {{1 - (yy + zz), xy + wz, xz - wy}, {xy - wz, 1 - (xx + zz), yz + wx}, {xz + wy, yz - wx, 1 - (xx + yy)}};
}
// 2 q (0, v): the gradient to q, along the unit sphere, of what changes by v·δ where the rotation R turns by δ about
// its own axes, R (I + [δ]×): q then changes by ½ q (0, δ).
template <class S>
N3D_HD Quat<S> rotation_vjp(const Quat<S>& q, const Vec3<S>& v) {
  return {-2 * (q.x * v.x + q.y * v.y + q.z * v.z), 2 * (q.w * v.x + q.y * v.z - q.z * v.y),
          2 * (q.w * v.y + q.z * v.x - q.x * v.z), 2 * (q.w * v.z + q.x * v.y - q.y * v.x)};
}

}  // namespace n3d::N3D_ISA
