#include "ops/ssim.h"

#include "core/dispatch.h"
#include "core/lanes.h"
#include "core/pack.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

// A pack of one double.
N3D_HD double load_first(const double* p, int) { return *p; }
N3D_HD void store_first(double* p, double v, int) { *p = v; }

namespace {

constexpr int kRows = kLanes == 16 ? 4 : 2;  // output rows blurred together: their sums fit the register file
constexpr int kBand = 8;                     // rows of a task
constexpr int kStrip = 512;                  // columns at a time, so that blurred rows stay in L1
constexpr int kHalo = 48;                    // kSsimRadius · kSsimMaxChannels, in whole packs
constexpr int kPitch = kHalo + kStrip + kHalo + 16;

// f(y, first column, how many lanes count, blurred fields) for every pack of rows [row, row + kRows) of a picture of
// height × columns scalars whose pixels lie `channels` apart. fields(position, lanes that count, out) reads what is to
// be blurred; lanes that do not count must be 0.
template <class T, int kFields, class Fields, class F>
N3D_HD void blur_rows(int64_t row, int64_t height, int64_t columns, int64_t channels, const Fields& fields,
                      const F& f) {
  using S = typename Lanes<T>::S;
  constexpr int lanes = Lanes<T>::kCount, reach = kSsimRadius;
  alignas(64) T blurred[kRows][kFields][kPitch];  // column `first` stands at kHalo
  const int64_t halo = (reach * channels + 15) / 16 * 16;
  const int64_t strips = (columns + kStrip - 1) / kStrip;
  for (int64_t strip = 0; strip < strips; ++strip) {
    const int64_t first = strip * kStrip, last = first + kStrip < columns ? first + kStrip : columns;
    for (int64_t c = first - halo; c < last + halo; c += lanes) {
      S sums[kRows][kFields] = {};
#pragma GCC unroll 14
      for (int j = 0; j < kRows + 2 * reach; ++j) {
        const int64_t y = row - reach + j;
        if (c < 0 || c >= columns || y < 0 || y >= height) continue;  // nothing there: 0
        S values[kFields];
        fields(y * columns + c, static_cast<int>(columns - c < lanes ? columns - c : lanes), values);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r)
          if (j - r >= 0 && j - r <= 2 * reach)
#pragma GCC unroll 4
            for (int k = 0; k < kFields; ++k) sums[r][k] += ssim_weight<T>(j - r - reach) * values[k];
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int k = 0; k < kFields; ++k) store(blurred[r][k] + kHalo + (c - first), sums[r][k]);
    }

    for (int r = 0; r < kRows && row + r < height; ++r)
      for (int64_t c = first; c < last; c += lanes) {
        S sums[kFields] = {};
#pragma GCC unroll 11
        for (int j = -reach; j <= reach; ++j)
#pragma GCC unroll 4
          for (int k = 0; k < kFields; ++k)
            sums[k] += ssim_weight<T>(j) * load(blurred[r][k] + kHalo + (c - first) + j * channels);
        f(row + r, c, static_cast<int>(columns - c < lanes ? columns - c : lanes), sums);
      }
  }
}

// Lanes from n on become 0.
N3D_HD f32x keep_first(f32x v, int n) { return select(lane_numbers() < n, v, f32x{}); }
N3D_HD double keep_first(double v, int) { return v; }

// Of rows [begin, end): Σ S and Σ |x − y|.
template <class T>
N3D_HD void ssim_band(const SsimArgs<T>& a, int64_t begin, int64_t end, double& similarity, double& distance) {
  using S = typename Lanes<T>::S;
  const int64_t columns = a.width * a.channels, plane = a.height * columns;
  similarity = distance = 0;
  for (int64_t row = begin; row < end; row += kRows) {
    S values{}, distances{};
    blur_rows<T, 4>(
        row, a.height, columns, a.channels,
        [&](int64_t at, int n, S* out) {
          const S x = load_first(a.image + at, n), y = load_first(a.truth + at, n);
          out[0] = x, out[1] = y, out[2] = x * x + y * y, out[3] = x * y;
        },
        [&](int64_t y, int64_t c, int n, const S* blurred) {
          const SsimPoint<S> point = ssim_point<T>(blurred[0], blurred[1], blurred[2], blurred[3]);
          values += keep_first(point.value, n);
          const int64_t at = y * columns + c;
          distances += absolute(load_first(a.image + at, n) - load_first(a.truth + at, n));
          if (!a.partials) return;
          T* to = a.partials + at;
          store_first(to, point.by_mean, n);
          store_first(to + plane, point.by_squares, n);
          store_first(to + 2 * plane, point.by_product, n);
        });
    similarity += static_cast<double>(sum(values)), distance += static_cast<double>(sum(distances));
  }
}

template <class T>
N3D_HD void ssim_band_vjp(const SsimVjpArgs<T>& a, int64_t begin, int64_t end) {
  using S = typename Lanes<T>::S;
  const int64_t columns = a.width * a.channels, plane = a.height * columns;
  const double share = 1 / static_cast<double>(plane);
  const T scale = static_cast<T>(a.v_means[0] * share), pull = static_cast<T>(a.v_means[1] * share);
  for (int64_t row = begin; row < end; row += kRows)
    blur_rows<T, 3>(
        row, a.height, columns, a.channels,
        [&](int64_t at, int n, S* out) {
          for (int k = 0; k < 3; ++k) out[k] = load_first(a.partials + k * plane + at, n);
        },
        [&](int64_t y, int64_t c, int n, const S* blurred) {
          const int64_t at = y * columns + c;
          const S image = load_first(a.image + at, n), truth = load_first(a.truth + at, n);
          const S similarity = scale * (blurred[0] + 2 * image * blurred[1] + truth * blurred[2]);
          store_first(a.v_image + at, similarity + sign_times(image - truth, pull), n);
        });
}

}  // namespace

template <class T>
void ssim(const SsimArgs<T>& a) {
  const int64_t bands = (a.height + kBand - 1) / kBand;
  parallel_chunks(a.height, kBand, [&](int64_t begin, int64_t end) {
    ssim_band(a, begin, end, a.sums[begin / kBand], a.sums[bands + begin / kBand]);
  });
  for (int k = 0; k < 2; ++k) {
    double total = 0;
    for (int64_t band = 0; band < bands; ++band) total += a.sums[k * bands + band];
    a.means[k] = static_cast<T>(total / static_cast<double>(a.height * a.width * a.channels));
  }
}

template <class T>
void ssim_vjp(const SsimVjpArgs<T>& a) {
  parallel_chunks(a.height, kBand, [&](int64_t begin, int64_t end) { ssim_band_vjp(a, begin, end); });
}

N3D_INSTANTIATE(ssim, SsimArgs)
N3D_INSTANTIATE(ssim_vjp, SsimVjpArgs)

}  // namespace n3d::N3D_ISA
