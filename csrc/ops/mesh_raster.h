// Triangles drawn into pictures of face index, barycentric coordinates and depth, by edge functions (Pineda 1988).
//
// Corner k of a triangle is seen at pixel c_k = (x_k, y_k) with depth z_k. For a pixel's centre p
//   e_k(p) = (c_i − p) × (c_j − p),  i, j = k + 1, k + 2 mod 3:  twice the area of the triangle p c_i c_j, signed
//   w_k = e_k / z_k,   W = Σ w_k,   b_k = w_k / W,   depth = E / W,   E = Σ e_k = (c_1 − c_0) × (c_2 − c_0)
// b are the barycentric coordinates, on the triangle in space, of the point that a pinhole camera sees at p.
// The point lies within the triangle and in front of the camera where all w_k have the sign of E. That needs no
// clipping: with K X / z for the corners behind the camera too (z < 0, Olano & Greer 1997), it holds as it stands.
//
// Edges are shared: where e_k = 0, p is moved by (ε, ε²), which the two triangles of an edge see alike. Signs are
// exact: those that float32 leaves in doubt are found in float64. So a pixel is covered by one triangle of a surface
// that lies flat in the picture, never by none or two. Nothing is fused (CMakeLists.txt): e_k of an edge's two
// triangles differ in the sign only, and every instruction set and device draws the same.
#pragma once

#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

template <class T>
struct MeshRasterArgs {
  const T* pixels;       // (B, V, 3) x, y, z
  const int32_t* faces;  // (F, 3)
  int32_t* rows;         // (B, F) CPU: the first row that a face may cover, and the last << 16
  int32_t* face;         // (B, H, W); −1: none
  T* barycentrics;       // (B, H, W, 3)
  T* depth;              // (B, H, W); the nearest 1 / depth while faces are drawn
  int64_t batch, vertices, count, width, height;
  void* stream;
};

template <class T>
struct MeshRasterVjpArgs {
  const T* pixels;
  const int32_t* faces;
  const int32_t* face;
  const T* v_barycentrics;  // (B, H, W, 3); each of these may be null: no gradient arrives there
  const T* v_depth;         // (B, H, W)
  T* v_corners;             // (B, F, 3, 3) the gradient to each corner of each face
  int64_t batch, vertices, count, width, height;
  void* stream;
};

template <class T>
struct MeshOutlinesArgs {
  const T* pixels;
  const int32_t* faces;
  const int32_t* opposite;  // (F, 3) across the edge opposite each corner, the third corner of the other face; −1: none
  const int32_t* face;
  const T* depth;
  int32_t* edge;  // (B, H, W, 2) between a pixel and the next to the right, and below: an outline, opposite corner
                  // 3 face + k; −1: none
  int64_t batch, vertices, count, width, height;
  void* stream;
};

namespace N3D_ISA {

// The three corners, as columns. S is a scalar or a pack here and below.
template <class S>
struct Corners {
  S x[3], y[3], z[3];
};

template <class T>
N3D_HD Corners<T> corners_of(const T* pixels, const int32_t* faces, int64_t face) {
  Corners<T> c;
  for (int k = 0; k < 3; ++k) {
    const T* p = pixels + 3 * int64_t(faces[3 * face + k]);
    c.x[k] = p[0], c.y[k] = p[1], c.z[k] = p[2];
  }
  return c;
}

// e_k.
template <class C, class S>
N3D_HD void edges(const Corners<C>& c, S px, S py, S (&e)[3]) {
  S x[3], y[3];
  for (int k = 0; k < 3; ++k) x[k] = c.x[k] - px, y[k] = c.y[k] - py;
  e[0] = x[1] * y[2] - y[1] * x[2];
  e[1] = x[2] * y[0] - y[2] * x[0];
  e[2] = x[0] * y[1] - y[0] * x[1];
}

// b_k. Of a triangle so thin that rounding gives its e_k any sign, b stay within [0, 1].
template <class S>
N3D_HD void barycentrics_at(const Corners<S>& c, S px, S py, S (&b)[3]) {
  S e[3];
  edges(c, px, py, e);
  for (int k = 0; k < 3; ++k) e[k] = e[k] / c.z[k];
  const S all = e[0] + e[1] + e[2];
  for (int k = 0; k < 3; ++k) b[k] = maximum(e[k] / all, S{});  // 0 / 0 gives 0
  const S sum = b[0] + b[1] + b[2];
  for (int k = 0; k < 3; ++k) b[k] = select(sum > 0, b[k] / sum, S{} + 1) / select(sum > 0, S{} + 1, S{} + 3);
}

// What (v_b, v_depth) of one pixel give to the corners, added to v:
//   v_w_k = (v_b_k − Σ_j v_b_j b_j − v_depth depth) / W,   v_e_k = v_w_k / z_k + v_depth / W,   v_z_k = −v_w_k w_k /
//   z_k
template <class S, class M>
N3D_HD void corners_vjp(const Corners<S>& c, S px, S py, const S (&v_b)[3], S v_depth, const M& counts, Corners<S>& v) {
  S x[3], y[3], e[3], inverse[3], w[3], v_e[3];
  for (int k = 0; k < 3; ++k) x[k] = c.x[k] - px, y[k] = c.y[k] - py, inverse[k] = 1 / c.z[k];
  edges(c, px, py, e);
  for (int k = 0; k < 3; ++k) w[k] = e[k] * inverse[k];
  const S all = w[0] + w[1] + w[2], per = select(counts & (all != 0), 1 / all, S{});
  const S through = (v_b[0] * w[0] + v_b[1] * w[1] + v_b[2] * w[2] + v_depth * (e[0] + e[1] + e[2])) * per;
  for (int k = 0; k < 3; ++k) {
    const S v_w = (v_b[k] - through) * per;
    v_e[k] = v_w * inverse[k] + v_depth * per;
    v.z[k] += -v_w * w[k] * inverse[k];
  }
  for (int k = 0; k < 3; ++k) {
    const int i = (k + 1) % 3, j = (k + 2) % 3;  // corner k has its part in e_i = c_j × c_k and e_j = c_k × c_i
    v.x[k] += v_e[j] * y[i] - v_e[i] * y[j];
    v.y[k] += v_e[i] * x[j] - v_e[j] * x[i];
  }
}

// The pixels first … last, of `size`, whose centres lie between two coordinates.
template <class T>
N3D_HD bool centres_between(T low, T high, int64_t size, int32_t& first, int32_t& last) {
  low -= T(0.5), high -= T(0.5);  // exact wherever it decides
  if (!(low <= T(size - 1)) || !(high >= 0)) return false;
  first = low > 0 ? int32_t(low) : 0;
  first += T(first) < low;
  last = high < T(size - 1) ? int32_t(high) : int32_t(size - 1);
  return first <= last;
}

// Those whose centres a triangle may cover along an axis. From a corner in front towards one behind the camera, the
// edge leaves the picture at the side away from that one.
template <class T>
N3D_HD bool centres_along(const T (&u)[3], const T (&z)[3], int64_t size, int32_t& first, int32_t& last) {
  constexpr T kFar = T(1e30);
  T low = kFar, high = -kFar;
  for (int k = 0; k < 3; ++k) {
    if (!(z[k] > 0)) continue;
    low = minimum(low, u[k]), high = maximum(high, u[k]);
    for (int j = 0; j < 3; ++j) {
      if (!(z[j] < 0)) continue;
      if (u[j] >= u[k]) low = -kFar;
      if (u[j] <= u[k]) high = kFar;
    }
  }
  return centres_between(low, high, size, first, last);
}

struct Box {
  int32_t x0, x1, y0, y1;  // first and last pixels

  template <class T>
  N3D_HD bool around(const Corners<T>& c, int64_t width, int64_t height) {
    return centres_along(c.x, c.z, width, x0, x1) && centres_along(c.y, c.z, height, y0, y1);
  }
};

// How far the corners are from pixels first … last, at most.
template <class T>
N3D_HD T reach(const T (&u)[3], int32_t first, int32_t last) {
  const T low = minimum(u[0], minimum(u[1], u[2])), high = maximum(u[0], maximum(u[1], u[2]));
  return maximum(T(last + 1) - low, high - T(first));
}

// A triangle ready to be drawn.
template <class T>
struct Triangle {
  Corners<T> c;
  Box box;
  T inverse[3];  // 1 / z
  T sign[3];     // of e_k where the triangle is
  bool tie[3];   // whether it is there where e_k = 0
  T doubt;       // up to this |e_k|, rounding may have changed its sign
  T area;        // E where a corner is behind the camera, and Σ e_k the difference of large numbers; else 0

  // False where nothing can be seen of it: degenerate, behind the camera, out of the picture, not finite.
  N3D_HD bool read(const T* pixels, const int32_t* faces, int64_t face, int64_t width, int64_t height) {
    c = corners_of(pixels, faces, face);
    if (!box.around(c, width, height)) return false;
    const double ux = double(c.x[1]) - c.x[0], uy = double(c.y[1]) - c.y[0];
    const double vx = double(c.x[2]) - c.x[0], vy = double(c.y[2]) - c.y[0];
    const double e = ux * vy - uy * vx;
    if (!(absolute(e) > 0 && absolute(e) < 1e60)) return false;
    bool crosses = false;
    for (int k = 0; k < 3; ++k) {
      const int i = (k + 1) % 3, j = (k + 2) % 3;
      if (!(absolute(c.z[k]) > T(1e-30) && absolute(c.z[k]) < T(1e30))) return false;
      inverse[k] = 1 / c.z[k];
      crosses |= c.z[k] < 0;
      const bool positive = (e > 0) == (c.z[k] > 0);
      sign[k] = positive ? T(1) : T(-1);
      const T moved = c.y[i] != c.y[j] ? c.y[i] - c.y[j] : c.x[j] - c.x[i];
      tie[k] = (moved > 0) == positive;
    }
    area = crosses ? T(e) : T(0);
    // Each product in e_k is of three rounded numbers: 8 roundings of 2⁻²⁴ in all, and as much again. A pack's lanes
    // may be 15 pixels beyond the box.
    constexpr T rounding = sizeof(T) == 4 ? T(1.0 / (1 << 20)) : T(0);
    doubt = rounding * reach(c.x, box.x0, box.x1 + 15) * reach(c.y, box.y0, box.y1);
    return true;
  }

  // The least e_k, its sign turned so that a triangle is where all are positive.
  template <class S>
  N3D_HD S least(const S (&e)[3]) const {
    return minimum(e[0] * sign[0], minimum(e[1] * sign[1], e[2] * sign[2]));
  }

  // Whether the triangle is at p; e_k to more digits.
  N3D_HD bool covers_exactly(T px, T py, T (&e)[3]) const {
    Corners<double> exact;
    for (int k = 0; k < 3; ++k) exact.x[k] = c.x[k], exact.y[k] = c.y[k];
    double d[3];
    edges(exact, double(px), double(py), d);
    bool inside = true;
    for (int k = 0; k < 3; ++k) {
      e[k] = T(d[k]);
      inside &= d[k] * sign[k] > 0 || (d[k] == 0 && tie[k]);
    }
    return inside;
  }

  // The same, at the cost of float32 where that is certain.
  N3D_HD bool covers(T px, T py, T (&e)[3]) const {
    edges(c, px, py, e);
    const T low = least(e);
    return low > doubt || (!(low < -doubt) && covers_exactly(px, py, e));
  }

  // 1 / depth = W / E.
  template <class S>
  N3D_HD S nearness(const S (&e)[3]) const {
    const S all = e[0] * inverse[0] + e[1] * inverse[1] + e[2] * inverse[2];
    return all / (area != 0 ? S{} + area : e[0] + e[1] + e[2]);
  }
};

// The outline on the line from a pixel's centre to that of the next, to the right or below; −1 where there is none.
// From the nearer pixel's face the line is followed over the surface, as at outlines faces turn away and get narrow,
// until the surface ends or turns back. Only edges that are steep, seen along the line, count.
template <class T>
N3D_HD int32_t outline_after(const MeshOutlinesArgs<T>& a, int64_t image, int64_t x, int64_t y, bool below) {
  constexpr int kMostFaces = 32;
  if (below ? y + 1 == a.height : x + 1 == a.width) return -1;
  const int64_t first = (image * a.height + y) * a.width + x, second = first + (below ? a.width : 1);
  if (a.face[first] == a.face[second]) return -1;
  const bool forth = a.face[second] < 0 || (a.face[first] >= 0 && a.depth[first] <= a.depth[second]);
  const T px = T(x + (!forth && !below)) + T(0.5), py = T(y + (!forth && below)) + T(0.5), way = forth ? T(1) : T(-1);
  const T* pixels = a.pixels + 3 * image * a.vertices;
  int64_t f = a.face[forth ? first : second];
  for (int step = 0; step < kMostFaces; ++step) {
    const Corners<T> c = corners_of(pixels, a.faces, f);
    if (!(c.z[0] > 0 && c.z[1] > 0 && c.z[2] > 0)) return -1;
    // The line comes in over one edge and leaves over another.
    int k = -1;
    T leaves = -1;
    bool steep = false;
    for (int edge = 0; edge < 3; ++edge) {
      const int i = (edge + 1) % 3, j = (edge + 2) % 3;
      const T along_i = below ? c.y[i] - py : c.x[i] - px, along_j = below ? c.y[j] - py : c.x[j] - px;
      const T aside_i = below ? c.x[i] - px : c.y[i] - py, aside_j = below ? c.x[j] - px : c.y[j] - py;
      if ((aside_i > 0) == (aside_j > 0)) continue;
      const T s = way * (along_i + aside_i / (aside_i - aside_j) * (along_j - along_i));
      if (!(s > leaves)) continue;
      const T rise = absolute(aside_i - aside_j), run = absolute(along_i - along_j);
      k = edge, leaves = s, steep = below ? rise > run : rise >= run;
    }
    if (!(leaves >= 0 && leaves <= 1)) return -1;
    const int32_t other = a.opposite[3 * f + k];
    bool ends = other < 0;
    if (!ends) {
      const T* p = pixels + 3 * int64_t(a.faces[other]);
      if (!(p[2] > 0)) return -1;
      const int i = (k + 1) % 3, j = (k + 2) % 3;
      const T ux = c.x[j] - c.x[i], uy = c.y[j] - c.y[i];
      const T mine = ux * (c.y[k] - c.y[i]) - uy * (c.x[k] - c.x[i]),
              others = ux * (p[1] - c.y[i]) - uy * (p[0] - c.x[i]);
      ends = (mine > 0 && others > 0) || (mine < 0 && others < 0);
    }
    if (ends) return steep ? int32_t(3 * f + k) : -1;
    f = other / 3;
  }
  return -1;
}

}  // namespace N3D_ISA
}  // namespace n3d
