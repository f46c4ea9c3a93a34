// Bands of rows are drawn one by one, each by one thread, which takes the faces that reach into it in their order and a
// pack of a row's pixels at a time. Where it is done, barycentric coordinates are found for the pixels that are left.
// Gradients go the other way: each face finds its pixels again and adds up what they give.
#include "ops/mesh_raster.h"

#include "core/dispatch.h"
#include "core/lanes.h"
#include "core/mask.h"
#include "core/pack.h"
#include "core/parallel.h"
#include "core/pixels.h"
#include "core/rows.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int kBand = 32;             // rows
constexpr int64_t kFaces = 512;       // a task where threads share faces
constexpr int kQueue = 64;            // faces that are fetched before they are drawn
constexpr int32_t kNowhere = 0xffff;  // as a face's rows: none

template <class T>
void find_rows(const MeshRasterArgs<T>& a, int64_t image, int64_t begin, int64_t end) {
  const T* pixels = a.pixels + 3 * image * a.vertices;
  for (int64_t f = begin; f < end; ++f) {
    Box box;
    const bool visible = box.around(corners_of(pixels, a.faces, f), a.width, a.height);
    a.rows[image * a.count + f] = visible ? box.y0 | box.y1 << 16 : kNowhere;
  }
}

// The triangle is at the points p whose result is above its `doubt`: exactly, unlike its least e_k.
template <class T, class S>
N3D_HD S settled(const Triangle<T>& t, S px, S py, S (&e)[3]) {
  constexpr int n = Pixels<T>::kCount;
  edges(t.c, px, py, e);
  const S low = t.least(e);
  const auto doubtful = absolute(low) <= t.doubt;
  if (!any(doubtful)) return low;
  alignas(64) T lows[n], es[3][n], x[n], y[n];
  store(lows, low), store(x, px), store(y, py);
  for (int k = 0; k < 3; ++k) store(es[k], e[k]);
  for (uint32_t bits = lane_bits(doubtful); bits; bits &= bits - 1) {
    const int lane = __builtin_ctz(bits);
    T exact[3];
    lows[lane] = t.covers_exactly(x[lane], y[lane], exact) ? t.doubt + 1 : T(-1);
    for (int k = 0; k < 3; ++k) es[k][lane] = exact[k];
  }
  for (int k = 0; k < 3; ++k) e[k] = load(es[k]);
  return load(lows);
}

// A picture while it is drawn: the nearest 1 / depth, and whose that is. Of equal ones the first face stays.
template <class T>
struct Canvas {
  using S = typename Pixels<T>::S;
  using Index = typename Pixels<T>::Index;
  static constexpr int n = Pixels<T>::kCount;
  T* nearest;
  int32_t* seen;
  int64_t width;

  // A face into the rows top … bottom.
  N3D_HD void draw(const Triangle<T>& t, int32_t face, int32_t top, int32_t bottom) const {
    const int32_t columns = t.box.x1 - t.box.x0 + 1;
    if (columns * int64_t(bottom - top + 1) <= n) return draw_at_once(t, face, top, columns, bottom - top + 1);
    for (int32_t y = top; y <= bottom; ++y)
      each_pack<T>(t.box.x0, t.box.x1, width, [&](int32_t x, int32_t) {
        S e[3], before;
        const auto covered = settled(t, Pixels<T>::centres(x), S{} + (T(y) + T(0.5)), e) > t.doubt;
        if (!any(covered)) return;
        const int64_t at = y * width + x;
        const int m = int(width) - x;
        Index faces;
        load_pixels(nearest + at, m, before), load_pixels(seen + at, m, faces);
        const S q = t.nearness(e);
        const auto nearer = covered & (q > before);
        store_pixels(nearest + at, m, select(nearer, q, before));
        store_pixels(seen + at, m, select(nearer, Index{} + face, faces));
      });
  }

  // The few pixels of a small face are the lanes of one pack.
  N3D_HD void draw_at_once(const Triangle<T>& t, int32_t face, int32_t top, int32_t columns, int32_t rows) const {
    alignas(64) T x[n], y[n], q[n];
    for (int lane = 0, u = 0, v = 0; lane < n; ++lane) {
      x[lane] = T(t.box.x0 + u) + T(0.5), y[lane] = T(top + v) + T(0.5);
      if (++u == columns) u = 0, ++v;
    }
    S e[3];
    const S low = settled(t, load(x), load(y), e);
    uint32_t covered = lane_bits(low > t.doubt) & ((2u << (columns * rows - 1)) - 1);
    if (!covered) return;
    store(q, t.nearness(e));
    for (; covered; covered &= covered - 1) {
      const int lane = __builtin_ctz(covered);
      const int64_t at = int64_t(y[lane]) * width + int64_t(x[lane]);
      if (q[lane] > nearest[at]) nearest[at] = q[lane], seen[at] = face;
    }
  }
};

// Barycentric coordinates and depth of a row's pixels, of which `depth` has the nearest 1 / depth.
template <class T>
void finish_row(const MeshRasterArgs<T>& a, int64_t image, int64_t y) {
  using S = typename Pixels<T>::S;
  using Index = typename Pixels<T>::Index;
  constexpr int n = Pixels<T>::kCount;
  const T* pixels = a.pixels + 3 * image * a.vertices;
  for (int64_t x = 0; x < a.width; x += n) {
    const int64_t at = (image * a.height + y) * a.width + x;
    const int m = a.width - x < n ? int(a.width - x) : n;
    S nearest;
    load_pixels(a.depth + at, m, nearest);
    const auto seen = nearest > 0;
    S b[3] = {}, depth{};
    if (any(seen)) {
      Index face;
      load_pixels(a.face + at, m, face);
      face = 3 * select(seen, face, Index{});
      Corners<S> c;
      for (int k = 0; k < 3; ++k) {
        const Index corner = 3 * gather(a.faces, face + k);
        c.x[k] = gather(pixels, corner), c.y[k] = gather(pixels, corner + 1), c.z[k] = gather(pixels, corner + 2);
      }
      barycentrics_at(c, Pixels<T>::centres(int32_t(x)), S{} + (T(y) + T(0.5)), b);
      for (int k = 0; k < 3; ++k) b[k] = select(seen, b[k], S{});
      depth = select(seen, 1 / nearest, S{});
    }
    store_pixels(a.depth + at, m, depth);
    store_rows<3>(a.barycentrics + 3 * at, m, b);
  }
}

template <class T>
void draw_band(const MeshRasterArgs<T>& a, int64_t image, int32_t first, int32_t last) {
  const int64_t start = (image * a.height + first) * a.width, size = (last - first + 1) * a.width;
  for (int64_t i = start; i < start + size; ++i) a.depth[i] = 0, a.face[i] = -1;
  const int64_t picture = image * a.height * a.width;
  const Canvas<T> canvas{a.depth + picture, a.face + picture, a.width};
  const T* pixels = a.pixels + 3 * image * a.vertices;
  // Faces of one band lie far apart in memory: they are gathered some at a time, and fetched early.
  int32_t queue[kQueue + kLanes];
  int queued = 0;
  const auto draw_queued = [&] {
    for (int i = 0; i < queued; ++i)
      for (int k = 0; k < 3; ++k) __builtin_prefetch(pixels + 3 * int64_t(a.faces[3 * int64_t(queue[i]) + k]));
    for (int i = 0; i < queued; ++i) {
      Triangle<T> t;
      if (!t.read(pixels, a.faces, queue[i], a.width, a.height)) continue;
      canvas.draw(t, queue[i], t.box.y0 > first ? t.box.y0 : first, t.box.y1 < last ? t.box.y1 : last);
    }
    queued = 0;
  };
  const int32_t* rows = a.rows + image * a.count;
  for (int64_t base = 0; base < a.count; base += kLanes) {
    const int m = a.count - base < kLanes ? int(a.count - base) : kLanes;
    i32x r;
    load_pixels(rows + base, m, r);
    const uint32_t here = lane_bits(((r & 0xffff) <= last) & ((r >> 16) >= first)) & ((2u << (m - 1)) - 1);
    for (uint32_t bits = here; bits; bits &= bits - 1) {
      const int64_t f = base + __builtin_ctz(bits);
      __builtin_prefetch(a.faces + 3 * f);
      queue[queued++] = int32_t(f);
    }
    if (queued >= kQueue) draw_queued();
  }
  draw_queued();
  for (int64_t y = first; y <= last; ++y) finish_row(a, image, y);
}

// The gradients that a face's pixels give to its corners.
template <class T>
N3D_HD void gather_pixels(const MeshRasterVjpArgs<T>& a, int64_t image, int64_t f) {
  using S = typename Pixels<T>::S;
  using Index = typename Pixels<T>::Index;
  const Corners<T> c = corners_of(a.pixels + 3 * image * a.vertices, a.faces, f);
  T* out = a.v_corners + 9 * (image * a.count + f);
  for (int k = 0; k < 9; ++k) out[k] = 0;
  Box box;
  if (!box.around(c, a.width, a.height)) return;
  Corners<S> corners, v{};
  for (int k = 0; k < 3; ++k) corners.x[k] = S{} + c.x[k], corners.y[k] = S{} + c.y[k], corners.z[k] = S{} + c.z[k];
  bool touched = false;
  for (int64_t y = box.y0; y <= box.y1; ++y)
    each_pack<T>(box.x0, box.x1, a.width, [&](int32_t x, int32_t from) {
      const int64_t at = (image * a.height + y) * a.width + x;
      const int m = int(a.width) - x;
      Index face;
      load_pixels(a.face + at, m, face);
      const S px = Pixels<T>::centres(x);
      const auto mine = (face == Index{} + int32_t(f)) & (px > T(from)) & (px < T(a.width));
      if (!any(mine)) return;
      touched = true;
      S v_b[3] = {}, v_depth{};
      if (a.v_barycentrics) load_rows<3>(a.v_barycentrics + 3 * at, m, v_b);
      if (a.v_depth) load_pixels(a.v_depth + at, m, v_depth);
      for (int k = 0; k < 3; ++k) v_b[k] = select(mine, v_b[k], S{});
      corners_vjp(corners, px, S{} + (T(y) + T(0.5)), v_b, select(mine, v_depth, S{}), mine, v);
    });
  if (!touched) return;
  for (int k = 0; k < 3; ++k) out[3 * k] = sum(v.x[k]), out[3 * k + 1] = sum(v.y[k]), out[3 * k + 2] = sum(v.z[k]);
}

// f(image, begin, end) over all faces of all pictures.
template <class F>
void each_chunk(int64_t batch, int64_t count, const F& f) {
  const int64_t chunks = (count + kFaces - 1) / kFaces;
  parallel_for(batch * chunks, [&](int64_t i) {
    const int64_t begin = i % chunks * kFaces;
    f(i / chunks, begin, begin + kFaces < count ? begin + kFaces : count);
  });
}

}  // namespace

template <class T>
void mesh_raster(const MeshRasterArgs<T>& a) {
  each_chunk(a.batch, a.count, [&](int64_t image, int64_t begin, int64_t end) { find_rows(a, image, begin, end); });
  const int64_t bands = (a.height + kBand - 1) / kBand;
  parallel_for(a.batch * bands, [&](int64_t i) {
    const int64_t first = i % bands * kBand, end = first + kBand < a.height ? first + kBand : a.height;
    draw_band(a, i / bands, int32_t(first), int32_t(end - 1));
  });
}

template <class T>
void mesh_raster_vjp(const MeshRasterVjpArgs<T>& a) {
  each_chunk(a.batch, a.count, [&](int64_t image, int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; ++f) gather_pixels(a, image, f);
  });
}

template <class T>
void mesh_outlines(const MeshOutlinesArgs<T>& a) {
  parallel_chunks(a.batch * a.height, kBand, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t x = 0; x < a.width; ++x)
        for (int below = 0; below < 2; ++below)
          a.edge[2 * (row * a.width + x) + below] = outline_after(a, row / a.height, x, row % a.height, below);
  });
}

N3D_INSTANTIATE(mesh_raster, MeshRasterArgs)
N3D_INSTANTIATE(mesh_raster_vjp, MeshRasterVjpArgs)
N3D_INSTANTIATE(mesh_outlines, MeshOutlinesArgs)

}  // namespace n3d::N3D_ISA
