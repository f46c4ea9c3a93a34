// Bands of rows are drawn one by one, each by one thread, which takes the faces within reach in their order and a pack
// of a row's pixels at a time. Gradients go the other way: each face finds its pixels again and adds up what they give.
#include "ops/soft_silhouette.h"

#include "core/dispatch.h"
#include "core/mask.h"
#include "core/parallel.h"
#include "core/pixels.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int64_t kBand = 16;    // rows
constexpr int64_t kFaces = 128;  // a task where threads share faces

template <class T>
void draw_band(const SoftSilhouetteArgs<T>& a, int64_t image, int32_t first, int32_t last) {
  using S = typename Pixels<T>::S;
  T* through = a.transmittance + image * a.height * a.width;
  for (int64_t i = first * a.width; i < (last + 1) * a.width; ++i) through[i] = 1;
  const T* pixels = a.pixels + 3 * image * a.vertices;
  for (int64_t f = 0; f < a.count; ++f) {
    SoftTriangle<T> t;
    if (!t.read(pixels, a.faces, f, a.reach, a.width, a.height)) continue;
    const int32_t top = t.box.y0 > first ? t.box.y0 : first, bottom = t.box.y1 < last ? t.box.y1 : last;
    for (int32_t y = top; y <= bottom; ++y)
      each_pack<T>(t.box.x0, t.box.x1, a.width, [&](int32_t x, int32_t from) {
        T* at = through + y * a.width + x;
        const int m = int(a.width) - x;
        const S px = Pixels<T>::centres(x);
        S before;
        load_pixels(at, m, before);
        if (!any(before > 0)) return;  // covered whole
        const S after = before * t.lets_through(px, S{} + (T(y) + T(0.5)), a.sigma);
        store_pixels(at, m, select(px > T(from), after, before));
      });
  }
}

// The gradients that the pixels within a face's reach give to its corners.
template <class T>
N3D_HD void gather_pixels(const SoftSilhouetteVjpArgs<T>& a, int64_t image, int64_t f) {
  using S = typename Pixels<T>::S;
  T* out = a.v_corners + 6 * (image * a.count + f);
  for (int k = 0; k < 6; ++k) out[k] = 0;
  SoftTriangle<T> t;
  if (!t.read(a.pixels + 3 * image * a.vertices, a.faces, f, a.reach, a.width, a.height)) return;
  S v_x[3] = {}, v_y[3] = {};
  for (int64_t y = t.box.y0; y <= t.box.y1; ++y)
    each_pack<T>(t.box.x0, t.box.x1, a.width, [&](int32_t x, int32_t from) {
      const int64_t at = (image * a.height + y) * a.width + x;
      const int m = int(a.width) - x;
      const S px = Pixels<T>::centres(x);
      S through, v;
      load_pixels(a.transmittance + at, m, through), load_pixels(a.v_silhouette + at, m, v);
      v = v * through;
      const auto counts = (px > T(from)) & (px < T(a.width)) & (v != 0);
      if (any(counts)) t.corners_vjp(px, S{} + (T(y) + T(0.5)), a.sigma, v, counts, v_x, v_y);
    });
  for (int k = 0; k < 3; ++k) out[2 * k] = sum(v_x[k]), out[2 * k + 1] = sum(v_y[k]);
}

}  // namespace

template <class T>
void soft_silhouette(const SoftSilhouetteArgs<T>& a) {
  const int64_t bands = (a.height + kBand - 1) / kBand;
  parallel_for(a.batch * bands, [&](int64_t i) {
    const int64_t first = i % bands * kBand, end = first + kBand < a.height ? first + kBand : a.height;
    draw_band(a, i / bands, int32_t(first), int32_t(end - 1));
  });
}

template <class T>
void soft_silhouette_vjp(const SoftSilhouetteVjpArgs<T>& a) {
  parallel_chunks(a.batch * a.count, kFaces, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) gather_pixels(a, i / a.count, i % a.count);
  });
}

N3D_INSTANTIATE(soft_silhouette, SoftSilhouetteArgs)
N3D_INSTANTIATE(soft_silhouette_vjp, SoftSilhouetteVjpArgs)

}  // namespace n3d::N3D_ISA
