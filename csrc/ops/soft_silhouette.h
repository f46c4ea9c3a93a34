// Silhouettes that fade out around their outlines (Liu et al., "Soft Rasterizer", ICCV 2019; silhouettes alone).
//
// d is how far a pixel's centre p lies from a triangle's border, and x = d² / σ within the triangle, −d² / σ outside.
// Of the pixel the triangle covers D = 1 / (1 + e^−x), and all of them together S:
//   S = 1 − T,  T = Π (1 − D)  over the triangles that p lies in, or within `reach` of: of others D is next to nothing
// With r from p to the nearest point of the border, which is Σ w_k c_k of the corners (two of which have a share, or
// one):
//   ∂S/∂x = T D,   ∂d²/∂c_k = 2 w_k r    (w is where d is least, or held at a corner: it adds nothing)
#pragma once

#include "ops/mesh_raster.h"

namespace n3d {

template <class T>
struct SoftSilhouetteArgs {
  const T* pixels;       // (B, V, 3) x, y, z
  const int32_t* faces;  // (F, 3)
  T* transmittance;      // (B, H, W) T
  T sigma, reach;        // σ in pixels²; pixels
  int64_t batch, vertices, count, width, height;
  void* stream;
};

template <class T>
struct SoftSilhouetteVjpArgs {
  const T* pixels;
  const int32_t* faces;
  const T* transmittance;
  const T* v_silhouette;  // (B, H, W) the gradient to S
  T* v_corners;           // (B, F, 3, 2) the gradient to each corner of each face
  T sigma, reach;
  int64_t batch, vertices, count, width, height;
  void* stream;
};

namespace N3D_ISA {

template <class S>
N3D_HD S sigmoid(S x) {
  return 1 / (1 + exponentials(-x).exp);
}

// Where p is from a triangle: r, w, and d², which is negative outside.
template <class S>
struct FromBorder {
  S x, y, w[3], square;
};

// A triangle ready to be drawn.
template <class T>
struct SoftTriangle {
  T x[3], y[3];                // corners
  T ux[3], uy[3], inverse[3];  // the edge opposite each corner, and 1 / its length²; of an edge without length 0
  T limit;                     // reach²
  T doubt;                     // up to this, cross products of what leads to the corners may be rounding
  Box box;                     // of the pixels within reach

  // False where it cannot be seen: not in front of the camera in whole, not finite, out of reach of the picture.
  N3D_HD bool read(const T* pixels, const int32_t* faces, int64_t face, T reach, int64_t width, int64_t height) {
    constexpr T kFar = T(1e15);  // whose square is in float32's range
    const Corners<T> c = corners_of(pixels, faces, face);
    for (int k = 0; k < 3; ++k) {
      if (!(c.z[k] > 0 && absolute(c.x[k]) < kFar && absolute(c.y[k]) < kFar)) return false;
      x[k] = c.x[k], y[k] = c.y[k];
    }
    const T left = minimum(x[0], minimum(x[1], x[2])), right = maximum(x[0], maximum(x[1], x[2]));
    const T top = minimum(y[0], minimum(y[1], y[2])), bottom = maximum(y[0], maximum(y[1], y[2]));
    if (!centres_between(left - reach, right + reach, width, box.x0, box.x1)) return false;
    if (!centres_between(top - reach, bottom + reach, height, box.y0, box.y1)) return false;
    limit = reach * reach;
    // A triangle without area has no inside, whatever signs rounding gives. A pack's lanes may be 15 pixels beyond.
    constexpr T rounding = sizeof(T) == 4 ? T(1.0 / (1 << 20)) : T(1.0 / (int64_t(1) << 49));
    doubt = rounding * (right - left + reach + 16) * (bottom - top + reach + 1);
    for (int k = 0; k < 3; ++k) {
      const int i = (k + 1) % 3, j = (k + 2) % 3;
      ux[k] = x[j] - x[i], uy[k] = y[j] - y[i];
      const T square = ux[k] * ux[k] + uy[k] * uy[k];
      inverse[k] = square > 0 ? 1 / square : T(0);
    }
    return true;
  }

  template <class S>
  N3D_HD FromBorder<S> from(S px, S py) const {
    FromBorder<S> best{};
    best.square = S{} + T(1e38);
    S dx[3], dy[3], e[3];
    for (int k = 0; k < 3; ++k) dx[k] = x[k] - px, dy[k] = y[k] - py;
    for (int k = 0; k < 3; ++k) {
      const int i = (k + 1) % 3, j = (k + 2) % 3;
      e[k] = dx[i] * dy[j] - dy[i] * dx[j];
      const S along = -(dx[i] * ux[k] + dy[i] * uy[k]) * inverse[k];
      const S t = minimum(maximum(along, S{}), S{} + 1);
      const S rx = dx[i] + t * ux[k], ry = dy[i] + t * uy[k], square = rx * rx + ry * ry;
      const auto nearer = square < best.square;
      best.x = select(nearer, rx, best.x), best.y = select(nearer, ry, best.y);
      best.square = select(nearer, square, best.square);
      best.w[k] = select(nearer, S{}, best.w[k]);
      best.w[i] = select(nearer, 1 - t, best.w[i]);
      best.w[j] = select(nearer, t, best.w[j]);
    }
    const S least = minimum(e[0], minimum(e[1], e[2])), most = maximum(e[0], maximum(e[1], e[2]));
    const auto within = (least > doubt) | (most < -doubt);
    best.square = select(within, best.square, -best.square);
    return best;
  }

  // 1 − D: what it lets through to p.
  template <class S>
  N3D_HD S lets_through(S px, S py, T sigma) const {
    const S square = from(px, py).square;
    return select(square >= -limit, sigmoid(-square / sigma), S{} + 1);
  }

  // Adds what p gives to the corners, where `counts`. v: the gradient to S, times T.
  template <class S, class M>
  N3D_HD void corners_vjp(S px, S py, T sigma, S v, const M& counts, S (&v_x)[3], S (&v_y)[3]) const {
    const FromBorder<S> at = from(px, py);
    const S v_square = select(counts & (at.square >= -limit), v * sigmoid(at.square / sigma) / sigma, S{});
    const S twice = 2 * select(at.square > 0, v_square, -v_square);
    for (int k = 0; k < 3; ++k) v_x[k] += twice * at.w[k] * at.x, v_y[k] += twice * at.w[k] * at.y;
  }
};

}  // namespace N3D_ISA
}  // namespace n3d
