// Multiresolution hash encoding (Müller, Evans, Schied & Keller, "Instant Neural Graphics Primitives", 2022), 3D.
//
// Level l lays a grid of `scale` cells over the unit cube, half a cell off: p = scale · x + ½, corner c ∈ {0,1}³ of the
// cell ⌊p⌋ has the trilinear weight w_c(p − ⌊p⌋), and a feature of the level is
//   E(x) = Σ_c w_c T[index(⌊p⌋ + c)].
// Everything else is linear in the same terms. With a direction g,  D_g E = Σ_c (scale · ∇w_c·g) T[…]; so the three
// operations below, each with E or with D_g E in its place, give every first and second derivative:
//   encode     y   = E(x; T)                 or  D_g E(x; T)
//   scatter    v_T = ∂⟨v_y, E⟩/∂T            or  ∂⟨v_y, D_g E⟩/∂T
//   position   v_x = ∂⟨v_y, E⟩/∂x            or  ∂⟨v_y, D_g E⟩/∂x
// Scales, table sizes, indices and the order of parameters are tiny-cuda-nn's, so that its tables can be read.
#pragma once

#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

constexpr int kMaxGridLevels = 32;

struct HashGridLevel {
  double scale;         // cells along an edge of the unit cube; not an integer
  double weight;        // multiplies the level's features (coarse-to-fine); levels of weight 0 are skipped
  int64_t offset;       // of the level's first entry in the table
  uint32_t size;        // entries; a power of two where hashed
  uint32_t resolution;  // grid points along an edge
  bool hashed;          // else dense, x fastest
};

template <class T>
struct HashGridArgs {
  const T* positions;      // (n, 3), clamped to the unit cube; derivatives vanish outside. NaN gives NaN
  const T* direction;      // (n, 3) g, or null
  const T* table;          // (entries, features); unused by scatter
  const T* v_features;     // (n, levels · features); unused by encode
  T* out;                  // encode: (n, levels · features). scatter: (entries, features), added to. position: (n, 3)
  T* workspace;            // CPU: scratch; its size decides how many points are taken at a time
                           // CUDA, deterministic scatter: (entries, features) int64, zero
  int64_t workspace_size;  // CPU: scalars; at least kLanes times 6 + levels · features + max(levels · features, 3)
  const T* bound;          // CUDA, deterministic scatter: one number, on the device, no term of the sums is larger
  int64_t n;
  int32_t levels, features;  // features per level: 1, 2, 4 or 8
  HashGridLevel level[kMaxGridLevels];
  bool deterministic;  // CUDA scatter: the same bytes every time
  void* stream;
};

namespace N3D_ISA {

// Corner c has offset (c & 1, c >> 1 & 1, c >> 2): x fastest.

// The cell of a point and where in it the point is. S is a scalar or a pack, I the unsigned integers beside it.
template <class S, class I>
struct GridCell {
  I cell[3];
  S frac[3];

  N3D_HD GridCell(S scale, const S (&x)[3]) {
    for (int d = 0; d < 3; ++d) {
      const S p = scale * x[d] + S(S{} + 0.5f);
      cell[d] = to_unsigned(select(p > S{}, p, S{}));  // NaN: cell 0, so that every index is in range
      S floor;
      to_floating(cell[d], floor);
      frac[d] = p - floor;
    }
  }
};

// Entries of the eight corners. Coordinates are at most `resolution` (a point at x = 1 is half a cell beyond the last
// grid point), so a dense index passes the end of the level by less than its size, and wraps.
template <bool kHashed, class I>
N3D_HD void corner_indices(const HashGridLevel& level, const I (&cell)[3], I (&index)[8]) {
  if constexpr (kHashed) {
    const I mask = I{} + (level.size - 1);
    const I x[2] = {cell[0], cell[0] + 1u};
    const I y0 = cell[1] * 2654435761u, z0 = cell[2] * 805459861u;
    const I y[2] = {y0, y0 + 2654435761u}, z[2] = {z0, z0 + 805459861u};
    for (int c = 0; c < 8; ++c) index[c] = (x[c & 1] ^ (y[c >> 1 & 1] ^ z[c >> 2])) & mask;
  } else {
    const uint32_t r = level.resolution;
    const I size = I{} + level.size;
    const I base = cell[0] + r * (cell[1] + r * cell[2]);
    for (int c = 0; c < 8; ++c) {
      const I i = base + ((c & 1) + r * ((c >> 1 & 1) + r * uint32_t(c >> 2)));
      index[c] = smaller(i, i - size);  // i − size is huge where i < size
    }
  }
}

// w_c, the product of the distances to the opposite faces.
template <class S>
N3D_HD void corner_weights(const S (&f)[3], S (&w)[8]) {
  const S x[2] = {1 - f[0], f[0]}, y[2] = {1 - f[1], f[1]}, z[2] = {1 - f[2], f[2]};
  for (int k = 0; k < 4; ++k) {
    const S yz = y[k & 1] * z[k >> 1];
    w[2 * k] = x[0] * yz, w[2 * k + 1] = x[1] * yz;
  }
}

// ∇w_c·g, by the product rule.
template <class S>
N3D_HD void corner_weights_along(const S (&f)[3], const S (&g)[3], S (&w)[8]) {
  const S x[2] = {1 - f[0], f[0]}, y[2] = {1 - f[1], f[1]}, z[2] = {1 - f[2], f[2]};
  for (int k = 0; k < 4; ++k) {
    const S& yk = y[k & 1];
    const S& zk = z[k >> 1];
    const S dyz = (k & 1 ? g[1] : -g[1]) * zk + (k >> 1 ? g[2] : -g[2]) * yk;
    const S dx = g[0] * (yk * zk);
    w[2 * k] = x[0] * dyz - dx, w[2 * k + 1] = x[1] * dyz + dx;
  }
}

// ∇ Σ_c w_c s_c by nested differences.
template <class S>
N3D_HD void trilinear_gradient(const S (&f)[3], const S (&s)[8], S (&grad)[3]) {
  S dx[4], lx[4];  // over (y, z): difference along x, value on the edge
  for (int k = 0; k < 4; ++k) dx[k] = s[2 * k + 1] - s[2 * k], lx[k] = s[2 * k] + f[0] * dx[k];
  const S dx0 = dx[0] + f[1] * (dx[1] - dx[0]), dx1 = dx[2] + f[1] * (dx[3] - dx[2]);
  const S dy0 = lx[1] - lx[0], dy1 = lx[3] - lx[2];
  grad[0] = dx0 + f[2] * (dx1 - dx0);
  grad[1] = dy0 + f[2] * (dy1 - dy0);
  grad[2] = (lx[2] + f[1] * dy1) - (lx[0] + f[1] * dy0);
}

// (∇² Σ_c w_c s_c) g: trilinear functions have mixed second derivatives only.
template <class S>
N3D_HD void trilinear_hessian(const S (&f)[3], const S (&s)[8], const S (&g)[3], S (&out)[3]) {
  S dx[4];
  for (int k = 0; k < 4; ++k) dx[k] = s[2 * k + 1] - s[2 * k];
  const S xy0 = dx[1] - dx[0], xy1 = dx[3] - dx[2];
  const S xy = xy0 + f[2] * (xy1 - xy0);
  const S xz0 = dx[2] - dx[0], xz1 = dx[3] - dx[1];
  const S xz = xz0 + f[1] * (xz1 - xz0);
  const S yz0 = (s[6] - s[4]) - (s[2] - s[0]), yz1 = (s[7] - s[5]) - (s[3] - s[1]);
  const S yz = yz0 + f[0] * (yz1 - yz0);
  out[0] = g[1] * xy + g[2] * xz;
  out[1] = g[0] * xy + g[2] * yz;
  out[2] = g[0] * xz + g[1] * yz;
}

}  // namespace N3D_ISA
}  // namespace n3d
