#include "ops/splat_project.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/rows.h"

namespace n3d::N3D_ISA {

namespace {

constexpr int64_t kStreamed = 1 << 16;  // splats whose harmonics, 12 MB, outgrow what a cache keeps for the next reader

template <class T>
using Pack = typename Lanes<T>::S;

template <class T>
N3D_HD Pack<T> load1(const T* p, int64_t i, int n) {
  Pack<T> out;
  load_rows<1>(p + i, n, &out);
  return out;
}
template <class T>
N3D_HD Vec3<Pack<T>> load3(const T* p, int64_t i, int n) {
  Pack<T> out[3];
  load_rows<3>(p + 3 * i, n, out);
  return {out[0], out[1], out[2]};
}

template <class T>
N3D_HD Splat<Pack<T>> load_splats(const SplatInputs<T>& in, int64_t i, int n) {
  Pack<T> q[4];
  load_rows<4>(in.quats + 4 * i, n, q);
  return {load3(in.means, i, n), {q[0], q[1], q[2], q[3]}, load3(in.scales, i, n), load1(in.opacities, i, n)};
}

// A row of values for each splat, where it is visible, and zeros elsewhere. p may be null.
template <class T, class S, class... Values>
N3D_HD void store_visible(T* p, int64_t i, int n, Mask<S> visible, const S& first, const Values&... rest) {
  if (!p) return;
  constexpr int columns = 1 + sizeof...(rest);
  const S row[columns] = {select(visible, first, S{}), select(visible, rest, S{})...};
  store_rows<columns>(p + columns * i, n, row);
}
template <class T, class S>
N3D_HD void store_visible(T* p, int64_t i, int n, Mask<S> visible, const Vec3<S>& row) {
  store_visible(p, i, n, visible, row.x, row.y, row.z);
}

// The driver's own order of the slopes: nine packs for each pack of splats.
template <class T>
N3D_HD void store_slope(T* slopes, int64_t i, int c, const Vec3<Pack<T>>& slope) {
  constexpr int lanes = Lanes<T>::kCount;
  T* p = slopes + 9 * i + 3 * c * lanes;
  store(p, slope.x), store(p + lanes, slope.y), store(p + 2 * lanes, slope.z);
}
template <class T>
N3D_HD Vec3<Pack<T>> load_slope(const T* slopes, int64_t i, int c) {
  constexpr int lanes = Lanes<T>::kCount;
  const T* p = slopes + 9 * i + 3 * c * lanes;
  return {load(p), load(p + lanes), load(p + 2 * lanes)};
}

// What the next pack of splats reads, while this one is computed. A hint: it may point beyond the end.
template <class T>
N3D_HD void prefetch_harmonics(const SplatInputs<T>& in, int64_t i) {
  const int64_t row = 3 * in.bands * sizeof(T);
  const char* begin = reinterpret_cast<const char*>(in.sh_rest) + i * row;
  for (int64_t at = 0; at < row * Lanes<T>::kCount; at += 64) __builtin_prefetch(begin + at);
}

// Splats i to i + n, at most a pack of them. kDegree is −1 where there are no colours.
template <int kDegree, bool kPinhole, class T>
void project_pack(const SplatProjectArgs<T>& a, const SplatView<T>& view, int64_t i, int n) {
  using S = Pack<T>;
  const Splat<S> splat = load_splats(a.in, i, n);
  const Projection<S> out = project<kPinhole>(view, splat);
  const Mask<S> visible = out.visible;
  store_visible(a.xy, i, n, visible, out.x, out.y);
  store_visible(a.conic, i, n, visible, out.conic_xx, out.conic_xy, out.conic_yy);
  store_visible(a.depth, i, n, visible, out.depth);
  store_visible(a.opacity, i, n, visible, out.opacity);
  store_visible(a.radius, i, n, visible, out.radius);
  if constexpr (kDegree >= 0) {
    prefetch_harmonics(a.in, i + Lanes<T>::kCount);
    S color[3] = {};
    if (any(visible)) {
      constexpr int columns = 3 * sh_bands(kDegree);
      S dc[3], rest[columns + 1];
      load_rows<3>(a.in.sh_dc + 3 * i, n, dc);
      if constexpr (columns > 0) load_columns<columns>(a.in.sh_rest + 3 * a.in.bands * i, 3 * a.in.bands, n, rest);
      Vec3<S> slopes[3];
      shade<kDegree, T>(Direction<S>(view, splat.mean), dc, rest, color, a.slopes ? slopes : nullptr);
      if (a.slopes)
        for (int c = 0; c < 3; ++c) store_slope(a.slopes, i, c, slopes[c]);
    }
    store_visible(a.color, i, n, visible, color[0], color[1], color[2]);
  }
}

template <int kDegree, class T, class S>
N3D_HD void store_harmonics_vjp(const SplatProjectVjpArgs<T>& a, const Direction<S>& direction, Mask<S> visible,
                                const S (&v_color)[3], int64_t i, int n) {
  S y[15], v[45] = {};
  harmonics<kDegree, T>(direction.d, y);
  for (int k = 0; k < sh_bands(kDegree); ++k)
    for (int c = 0; c < 3; ++c) v[3 * k + c] = select(visible, y[k] * v_color[c], S{});  // y may be NaN elsewhere
  T* rows = a.v_sh_rest + 3 * a.in.bands * i;
  const bool streamed = a.in.n >= kStreamed;
  if (a.in.bands == 3) store_columns<9>(rows, n, v, streamed);
  if (a.in.bands == 8) store_columns<24>(rows, n, v, streamed);
  if (a.in.bands == 15) store_columns<45>(rows, n, v, streamed);
}

template <class T>
N3D_HD ProjectionGradient<Pack<T>> load_gradient(const SplatProjectVjpArgs<T>& a, int64_t i, int n) {
  Pack<T> xy[2] = {};
  Vec3<Pack<T>> conic{};
  if (a.v_xy) load_rows<2>(a.v_xy + 2 * i, n, xy);
  if (a.v_conic) conic = load3(a.v_conic, i, n);
  return {xy[0],
          xy[1],
          conic.x,
          conic.y,
          conic.z,
          a.v_depth ? load1(a.v_depth, i, n) : Pack<T>{},
          a.v_opacity ? load1(a.v_opacity, i, n) : Pack<T>{}};
}

// `sums`: the camera's share of these splats is added to it; may be null.
template <int kDegree, bool kPinhole, class T>
void project_pack_vjp(const SplatProjectVjpArgs<T>& a, const SplatView<T>& view, int64_t i, int n,
                      CameraGradient<Pack<T>>* sums) {
  using S = Pack<T>;
  const Mask<S> visible = load1(a.radius, i, n) > 0;
  Splat<S> out{};
  S v_color[3] = {};
  if (any(visible)) {
    const Splat<S> splat = load_splats(a.in, i, n);
    CameraGradient<S> camera{};
    out = project_vjp<kPinhole>(view, splat, load_gradient(a, i, n), sums ? &camera : nullptr);
    if constexpr (kDegree >= 0) {
      S color[3];
      load_rows<3>(a.color + 3 * i, n, color);
      if (a.v_color) load_rows<3>(a.v_color + 3 * i, n, v_color);
      for (int c = 0; c < 3; ++c) {
        v_color[c] = select(visible & (color[c] > 0), v_color[c], S{});
        camera.back += load_slope(a.slopes, i, c) * v_color[c];
      }
      out.mean += camera.back;
      if (a.v_sh_rest) store_harmonics_vjp<kDegree>(a, Direction<S>(view, splat.mean), visible, v_color, i, n);
    }
    if (sums) {
      S own[kCameraSums];
      camera.each([&](int k, S& value) { own[k] = select(visible, value, S{}); });
      sums->each([&](int k, S& value) { value += own[k]; });
    }
  } else if (a.v_sh_rest) {
    std::fill_n(a.v_sh_rest + 3 * a.in.bands * i, 3 * a.in.bands * n, T(0));
  }
  store_visible(a.v_means, i, n, visible, out.mean);
  store_visible(a.v_quats, i, n, visible, out.quat.w, out.quat.x, out.quat.y, out.quat.z);
  store_visible(a.v_scales, i, n, visible, out.scale);
  store_visible(a.v_opacities, i, n, visible, out.opacity);
  const T y0 = T(kY0);
  store_visible(a.v_sh_dc, i, n, visible, y0 * v_color[0], y0 * v_color[1], y0 * v_color[2]);
}

// f(first, count) for the packs of a range of splats.
template <class T, class F>
N3D_HD void each_pack(int64_t begin, int64_t end, const F& f) {
  constexpr int lanes = Lanes<T>::kCount;
  for (int64_t i = begin; i < end; i += lanes) f(i, end - i < lanes ? static_cast<int>(end - i) : lanes);
}

template <class T>
CameraGradient<T> total(const SplatProjectVjpArgs<T>& a) {
  CameraGradient<T> out;
  out.each([&](int k, T& value) {
    double sum = 0;
    for (int64_t block = 0; block * kSplatBlock < a.in.n; ++block) sum += a.partial[block * kCameraSums + k];
    value = static_cast<T>(sum);
  });
  return out;
}

}  // namespace

template <class T>
void splat_project(const SplatProjectArgs<T>& a) {
  const SplatView<T> view(a.in);
  with_kind(a.in, [&](auto degree, auto pinhole) {
    parallel_chunks(a.in.n, kSplatBlock, [&](int64_t begin, int64_t end) {
      each_pack<T>(begin, end, [&](int64_t i, int n) { project_pack<degree, pinhole>(a, view, i, n); });
    });
  });
}

template <class T>
void splat_project_vjp(const SplatProjectVjpArgs<T>& a) {
  const SplatView<T> view(a.in);
  with_kind(a.in, [&](auto degree, auto pinhole) {
    parallel_chunks(a.in.n, kSplatBlock, [&](int64_t begin, int64_t end) {
      CameraGradient<Pack<T>> camera{};
      each_pack<T>(begin, end, [&](int64_t i, int n) {
        project_pack_vjp<degree, pinhole>(a, view, i, n, a.partial ? &camera : nullptr);
      });
      if (!a.partial) return;
      T* sums = a.partial + begin / kSplatBlock * kCameraSums;
      camera.each([&](int k, Pack<T>& value) { sums[k] = sum(value); });
    });
  });
  if (a.partial) camera_vjp(view, total(a), a.v_camera, a.v_intrinsics);
}

N3D_INSTANTIATE(splat_project, SplatProjectArgs)
N3D_INSTANTIATE(splat_project_vjp, SplatProjectVjpArgs)

}  // namespace n3d::N3D_ISA
