// CUDA driver. encode and scatter: a warp per 32 points and level, the level in blockIdx.y, so that the blocks in
// flight share one level's table in L2. position: a thread per point, summing over the levels.
#include <type_traits>

#include "core/cuda.h"
#include "ops/hash_grid.h"

namespace n3d::cuda {

namespace {

// An entry, read and written whole: 4 to 16 bytes at a time.
template <class T, int F>
struct alignas(sizeof(T) * F < 16 ? sizeof(T) * F : 16) Entry {
  T f[F];
};

// A point's corners and weights on a level.
template <class T>
struct Corners {
  uint32_t index[8];
  T frac[3];

  __device__ Corners(const HashGridLevel& level, const T (&x)[3]) {
    const GridCell<T, uint32_t> at(T(level.scale), x);
    for (int d = 0; d < 3; ++d) frac[d] = at.frac[d];
    if (level.hashed)
      corner_indices<true>(level, at.cell, index);
    else
      corner_indices<false>(level, at.cell, index);
  }

  // w_c, or scale · ∇w_c·g; times the level's weight.
  __device__ void weights(const HashGridLevel& level, bool along_g, const T (&g)[3], T (&w)[8]) const {
    if (along_g) {
      const T along[3] = {T(level.scale) * g[0], T(level.scale) * g[1], T(level.scale) * g[2]};
      corner_weights_along(frac, along, w);
    } else {
      corner_weights(frac, w);
    }
    for (int c = 0; c < 8; ++c) w[c] *= T(level.weight);
  }
};

// x clamped to the unit cube (NaN stays), g zero along clamped axes. False where there is no g.
template <class T>
__device__ bool load_point(const HashGridArgs<T>& a, int64_t i, T (&x)[3], T (&g)[3]) {
  for (int d = 0; d < 3; ++d) {
    x[d] = a.positions[3 * i + d];
    const bool below = x[d]<T(0), above = x[d]> T(1);
    g[d] = a.direction && !below && !above ? a.direction[3 * i + d] : T(0);
    x[d] = below ? T(0) : above ? T(1) : x[d];
  }
  return a.direction != nullptr;
}

template <class T, int F>
__global__ void encode(const __grid_constant__ HashGridArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= a.n) return;
  const HashGridLevel& level = a.level[blockIdx.y];
  Entry<T, F> sum{};
  if (level.weight != 0) {
    T x[3], g[3], w[8];
    const bool along_g = load_point(a, i, x, g);
    const Corners<T> corners(level, x);
    corners.weights(level, along_g, g, w);
    const Entry<T, F>* table = reinterpret_cast<const Entry<T, F>*>(a.table) + level.offset;
    for (int c = 0; c < 8; ++c) {
      const Entry<T, F> entry = table[corners.index[c]];
      for (int f = 0; f < F; ++f) sum.f[f] += w[c] * entry.f[f];
    }
  }
  reinterpret_cast<Entry<T, F>*>(a.out)[i * a.levels + blockIdx.y] = sum;
}

// Fixed point: sums of integers do not depend on their order. One unit is a power of two under which the largest
// possible sum, of eight corners of every point, stays below 2⁶².
template <class T>
__device__ double fixed_point_unit(const HashGridArgs<T>& a) {
  const double largest = 8.0 * a.n * fabs(static_cast<double>(*a.bound));
  return exp2(ceil(log2(fmax(largest, 1e-100))) - 62);
}

// What the points of a warp bring to a level; rows of 33 lie in other banks from one to the next.
template <class T, int F>
struct Brought {
  uint32_t index[8][33];
  T w[8][33], v[F][33];
};

// A lane is first a point, and leaves its corners, weights and v in shared memory; then it is a corner and a feature
// (two for F = 8) and goes through the points, or its share of them. It adds to the table where its entry changes:
// along a ray, the points in a cell of a coarse level are one addition. And what the lanes of a warp add at once lies
// together: the features of an entry, often two neighbours along x, which the memory takes as one.
template <class T, int F>
__global__ void scatter(const __grid_constant__ HashGridArgs<T> a) {
  constexpr int kFeatures = F < 4 ? F : 4, kLanes = 8 * kFeatures, kPoints = kLanes;  // of the 32: one of 32 / kLanes
  __shared__ Brought<T, F> warps[kThreads / 32];
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  const HashGridLevel& level = a.level[blockIdx.y];
  if (level.weight == 0) return;
  Brought<T, F>& brought = warps[threadIdx.x / 32];
  const int lane = threadIdx.x % 32;
  if (i < a.n) {
    T x[3], g[3], w[8];
    const bool along_g = load_point(a, i, x, g);
    const Corners<T> corners(level, x);
    corners.weights(level, along_g, g, w);
    const Entry<T, F> v = reinterpret_cast<const Entry<T, F>*>(a.v_features)[i * a.levels + blockIdx.y];
    for (int c = 0; c < 8; ++c) brought.index[c][lane] = corners.index[c], brought.w[c][lane] = w[c];
    for (int f = 0; f < F; ++f) brought.v[f][lane] = v.f[f];
  }
  __syncwarp();
  const bool ordered = a.deterministic && isfinite(*a.bound);
  const double per_unit = ordered ? 1 / fixed_point_unit(a) : 0;
  const int corner = lane / kFeatures % 8, begin = lane / kLanes * kPoints;
  const int64_t left = a.n - (i - lane);
  const int end = left < begin + kPoints ? int(left) : begin + kPoints;
  T sum[F / kFeatures] = {};
  uint32_t index = brought.index[corner][begin], next;
  for (int p = begin; p < end; ++p, index = next) {
    next = p + 1 < end ? brought.index[corner][p + 1] : ~0u;  // of no entry
    for (int k = 0; k < F / kFeatures; ++k) {
      const int f = k * kFeatures + lane % kFeatures;
      sum[k] += brought.w[corner][p] * brought.v[f][p];
      if (index == next) continue;
      const int64_t at = (level.offset + index) * F + f;
      if (ordered)
        atomicAdd(reinterpret_cast<unsigned long long*>(a.workspace) + at,
                  static_cast<unsigned long long>(llrint(static_cast<double>(sum[k]) * per_unit)));
      else
        atomicAdd(a.out + at, sum[k]);
      sum[k] = 0;
    }
  }
}

template <class T>
__global__ void add_fixed_point(const __grid_constant__ HashGridArgs<T> a, int64_t scalars) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= scalars || !isfinite(*a.bound)) return;
  const long long sum = reinterpret_cast<const long long*>(a.workspace)[i];
  if (sum != 0) a.out[i] += T(static_cast<double>(sum) * fixed_point_unit(a));
}

template <class T, int F>
__global__ void position(const __grid_constant__ HashGridArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= a.n) return;
  T x[3], g[3], sum[3] = {0, 0, 0};
  const bool along_g = load_point(a, i, x, g);
  for (int l = 0; l < a.levels; ++l) {
    const HashGridLevel& level = a.level[l];
    if (level.weight == 0) continue;
    const Corners<T> corners(level, x);
    const Entry<T, F> v = reinterpret_cast<const Entry<T, F>*>(a.v_features)[i * a.levels + l];
    const Entry<T, F>* table = reinterpret_cast<const Entry<T, F>*>(a.table) + level.offset;
    T dot[8], grad[3];
    for (int c = 0; c < 8; ++c) {
      const Entry<T, F> entry = table[corners.index[c]];
      dot[c] = 0;
      for (int f = 0; f < F; ++f) dot[c] += v.f[f] * entry.f[f];
    }
    if (along_g) {
      const T along[3] = {T(level.scale) * g[0], T(level.scale) * g[1], T(level.scale) * g[2]};
      trilinear_hessian(corners.frac, dot, along, grad);
    } else {
      trilinear_gradient(corners.frac, dot, grad);
    }
    for (int d = 0; d < 3; ++d) sum[d] += T(level.scale * level.weight) * grad[d];
  }
  for (int d = 0; d < 3; ++d) {
    const T raw = a.positions[3 * i + d];
    a.out[3 * i + d] = raw < T(0) || raw > T(1) ? T(0) : sum[d];
  }
}

// launch(integral_constant F) for the number of features per level.
template <class F>
void with_features(int features, const F& launch) {
  if (features == 1) launch(std::integral_constant<int, 1>());
  if (features == 2) launch(std::integral_constant<int, 2>());
  if (features == 4) launch(std::integral_constant<int, 4>());
  if (features == 8) launch(std::integral_constant<int, 8>());
}

}  // namespace

template <class T>
void hash_grid_encode(const HashGridArgs<T>& a) {
  with_features(a.features,
                [&](auto f) { encode<T, f()><<<dim3(blocks(a.n), a.levels), kThreads, 0, stream(a.stream)>>>(a); });
  check("hash_grid_encode");
}

template <class T>
void hash_grid_scatter(const HashGridArgs<T>& a) {
  with_features(a.features,
                [&](auto f) { scatter<T, f()><<<dim3(blocks(a.n), a.levels), kThreads, 0, stream(a.stream)>>>(a); });
  if (a.deterministic) {
    const HashGridLevel& last = a.level[a.levels - 1];
    const int64_t scalars = (last.offset + last.size) * a.features;
    add_fixed_point<<<blocks(scalars), kThreads, 0, stream(a.stream)>>>(a, scalars);
  }
  check("hash_grid_scatter");
}

template <class T>
void hash_grid_position(const HashGridArgs<T>& a) {
  with_features(a.features, [&](auto f) { position<T, f()><<<blocks(a.n), kThreads, 0, stream(a.stream)>>>(a); });
  check("hash_grid_position");
}

template void hash_grid_encode<float>(const HashGridArgs<float>&);
template void hash_grid_encode<double>(const HashGridArgs<double>&);
template void hash_grid_scatter<float>(const HashGridArgs<float>&);
template void hash_grid_scatter<double>(const HashGridArgs<double>&);
template void hash_grid_position<float>(const HashGridArgs<float>&);
template void hash_grid_position<double>(const HashGridArgs<double>&);

}  // namespace n3d::cuda
