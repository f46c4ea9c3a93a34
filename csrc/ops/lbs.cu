// CUDA driver. Sums over vertices are one block's each, in a fixed order: no atomics.
#include "core/cuda.h"
#include "ops/lbs.h"

namespace n3d::cuda {

namespace {

constexpr int kWarp = 32, kWarps = kThreads / kWarp;
constexpr int kBodies = 8;  // of a thread: each direction that it reads serves them all
constexpr unsigned kAll = 0xffffffff;

template <class T>
__device__ void store3(T* p, const Vec3<T>& v) {
  p[0] = v.x, p[1] = v.y, p[2] = v.z;
}

// Reads transforms of a body.
template <class Blend, class T>
__device__ auto reader(const SkinInputs<T>& in, int64_t body) {
  const T* transforms = in.transforms + Blend::kScalars * body * in.joints;
  return [=](int64_t joint, int scalar) { return transforms[Blend::kScalars * joint + scalar]; };
}

// The gradient to the sum of a vertex's transforms, of x = A p + t.
template <class Blend, class T>
__device__ void blended_vjp(const BlendSkinVjpArgs<T>& a, int64_t body, int64_t vertex, T (&v_blend)[Blend::kScalars]) {
  const int64_t at = 3 * (body * a.in.vertices + vertex);
  T blend[Blend::kScalars];
  blended<Blend>(a.in, vertex, reader<Blend>(a.in, body), blend);
  Blend::map_vjp(blend, affine_vjp(read3(a.shaped + at), read3(a.v_vertices + at)), v_blend);
}

// A thread for a vertex of some bodies; blockIdx.y says which.
template <class Blend, class T>
__global__ void skin(const __grid_constant__ BlendSkinArgs<T> a) {
  const SkinInputs<T>& in = a.in;
  const int64_t vertex = blockIdx.x * int64_t(kThreads) + threadIdx.x, first = blockIdx.y * int64_t(kBodies);
  if (vertex >= in.vertices) return;
  const int64_t left = in.bodies - first;
  const int count = static_cast<int>(left < kBodies ? left : kBodies);
  const T* coefficients = in.coefficients + first * in.shapes;
  Vec3<T> p[kBodies] = {};
  for (int64_t m = 0; m < in.shapes; ++m) {
    const Vec3<T> d = read3(in.directions + 3 * (m * in.vertices + vertex));
#pragma unroll
    for (int b = 0; b < kBodies; ++b)
      if (b < count) p[b] += d * coefficients[b * in.shapes + m];
  }
#pragma unroll
  for (int b = 0; b < kBodies; ++b)
    if (b < count) {
      const int64_t at = 3 * ((first + b) * in.vertices + vertex);
      p[b] += read3(in.rest + (in.rest_per_body ? at : 3 * vertex));
      if (a.shaped) store3(a.shaped + at, p[b]);
      T sum[Blend::kScalars];
      blended<Blend>(in, vertex, reader<Blend>(in, first + b), sum);
      store3(a.vertices + at, times(Blend::map(sum), p[b]));
    }
}

// A thread for a vertex of a body.
template <class Blend, class T>
__global__ void points_vjp(const __grid_constant__ BlendSkinVjpArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (i >= a.in.bodies * a.in.vertices) return;
  T sum[Blend::kScalars];
  blended<Blend>(a.in, i % a.in.vertices, reader<Blend>(a.in, i / a.in.vertices), sum);
  store3(a.v_shaped + 3 * i, point_vjp(Blend::map(sum), read3(a.v_vertices + 3 * i)));
}

// A thread for a weight.
template <class Blend, class T>
__global__ void weights_vjp(const __grid_constant__ BlendSkinVjpArgs<T> a) {
  const SkinInputs<T>& in = a.in;
  const int64_t entry = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (entry >= in.vertices * in.influences) return;
  const int64_t vertex = entry / in.influences;
  T sum = 0;
  for (int64_t body = 0; body < in.bodies; ++body) {
    T v_blend[Blend::kScalars];
    blended_vjp<Blend>(a, body, vertex, v_blend);
    each_joint<Blend, T>(in, vertex, reader<Blend>(in, body), [&](int64_t k, const auto& g, const auto& first) {
      if (k == entry) sum += inner(v_blend, g) * Blend::share(T(1), g, first);
    });
  }
  a.v_weights[entry] = sum;
}

// The block's sum of each of N values, by its first N threads, to out[i · stride] for i < count.
template <int N, class T>
__device__ void sum_block(T (&values)[N], T* out, int64_t stride, int count) {
  __shared__ T sums[kWarps][N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2) values[i] += __shfl_down_sync(kAll, values[i], offset);
    if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp][i] = values[i];
  }
  __syncthreads();
  if (threadIdx.x >= count) return;
  T total = 0;
  for (int w = 0; w < kWarps; ++w) total += sums[w][threadIdx.x];
  out[threadIdx.x * stride] = total;
}

// A block for a joint of a body.
template <class Blend, class T>
__global__ void transforms_vjp(const __grid_constant__ BlendSkinVjpArgs<T> a) {
  const SkinInputs<T>& in = a.in;
  const int64_t joint = blockIdx.x % in.joints, body = blockIdx.x / in.joints;
  T sum[Blend::kScalars] = {};
  for (int64_t e = a.offsets[joint] + threadIdx.x; e < a.offsets[joint + 1]; e += kThreads) {
    const int64_t entry = a.by_joint[e], vertex = entry / in.influences;
    T v_blend[Blend::kScalars];
    blended_vjp<Blend>(a, body, vertex, v_blend);
    each_joint<Blend, T>(in, vertex, reader<Blend>(in, body), [&](int64_t k, const auto& g, const auto& first) {
      if (k != entry) return;
      const T share = Blend::share(in.weights[k], g, first);
#pragma unroll
      for (int i = 0; i < Blend::kScalars; ++i) sum[i] += v_blend[i] * share;
    });
  }
  sum_block(sum, a.v_transforms + Blend::kScalars * int64_t(blockIdx.x), 1, Blend::kScalars);
}

// A block for a direction and some bodies; blockIdx.y says which.
template <class T>
__global__ void coefficients_vjp(const __grid_constant__ BlendSkinVjpArgs<T> a) {
  const SkinInputs<T>& in = a.in;
  const int64_t m = blockIdx.x, first = blockIdx.y * int64_t(kBodies), coordinates = 3 * in.vertices;
  const int64_t left = in.bodies - first;
  const int count = static_cast<int>(left < kBodies ? left : kBodies);
  T sum[kBodies] = {};
  for (int64_t i = threadIdx.x; i < coordinates; i += kThreads) {
    const T d = in.directions[m * coordinates + i];
#pragma unroll
    for (int b = 0; b < kBodies; ++b)
      if (b < count) sum[b] += d * a.v_shaped[(first + b) * coordinates + i];
  }
  sum_block(sum, a.v_coefficients + first * in.shapes + m, in.shapes, count);
}

// A thread for a body: its joints wait for their parents.
template <class T>
__global__ void pose_bodies(const __grid_constant__ KinematicsArgs<T> a) {
  const int64_t body = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (body < a.bodies) pose_body(a, body);
}
template <class T>
__global__ void pose_bodies_vjp(const __grid_constant__ KinematicsVjpArgs<T> a) {
  const int64_t body = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (body < a.bodies) pose_body_vjp(a, body);
}

template <class T>
__global__ void rotations(const __grid_constant__ RotationExpArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (i < a.n) rotation_exp_one(a, i);
}
template <class T>
__global__ void rotations_vjp(const __grid_constant__ RotationExpVjpArgs<T> a) {
  const int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (i < a.n) rotation_exp_vjp_one(a, i);
}

}  // namespace

template <class T>
void blend_skin(const BlendSkinArgs<T>& a) {
  if (a.in.bodies * a.in.vertices == 0) return;
  const dim3 grid(blocks(a.in.vertices), blocks(a.in.bodies, kBodies));
  with_blend(a.in, [&](auto blend) { skin<decltype(blend)><<<grid, kThreads, 0, stream(a.stream)>>>(a); });
  check("blend_skin");
}

template <class T>
void blend_skin_vjp(const BlendSkinVjpArgs<T>& a) {
  const SkinInputs<T>& in = a.in;
  const cudaStream_t queue = stream(a.stream);
  const int64_t points = in.bodies * in.vertices, entries = in.vertices * in.influences, all = in.bodies * in.joints;
  with_blend(in, [&](auto blend) {
    using Blend = decltype(blend);
    if (points > 0) points_vjp<Blend><<<blocks(points), kThreads, 0, queue>>>(a);
    if (a.v_weights && entries > 0) weights_vjp<Blend><<<blocks(entries), kThreads, 0, queue>>>(a);
    if (a.v_transforms && all > 0) transforms_vjp<Blend><<<blocks(all, 1), kThreads, 0, queue>>>(a);
  });
  if (a.v_coefficients && in.bodies * in.shapes > 0)
    coefficients_vjp<<<dim3(blocks(in.shapes, 1), blocks(in.bodies, kBodies)), kThreads, 0, queue>>>(a);
  check("blend_skin_vjp");
}

template <class T>
void kinematics(const KinematicsArgs<T>& a) {
  if (a.bodies == 0) return;
  pose_bodies<<<blocks(a.bodies, kWarp), kWarp, 0, stream(a.stream)>>>(a);
  check("kinematics");
}

template <class T>
void kinematics_vjp(const KinematicsVjpArgs<T>& a) {
  if (a.bodies == 0) return;
  pose_bodies_vjp<<<blocks(a.bodies, kWarp), kWarp, 0, stream(a.stream)>>>(a);
  check("kinematics_vjp");
}

template <class T>
void rotation_exp(const RotationExpArgs<T>& a) {
  if (a.n == 0) return;
  rotations<<<blocks(a.n), kThreads, 0, stream(a.stream)>>>(a);
  check("rotation_exp");
}

template <class T>
void rotation_exp_vjp(const RotationExpVjpArgs<T>& a) {
  if (a.n == 0) return;
  rotations_vjp<<<blocks(a.n), kThreads, 0, stream(a.stream)>>>(a);
  check("rotation_exp_vjp");
}

template void blend_skin<float>(const BlendSkinArgs<float>&);
template void blend_skin<double>(const BlendSkinArgs<double>&);
template void blend_skin_vjp<float>(const BlendSkinVjpArgs<float>&);
template void blend_skin_vjp<double>(const BlendSkinVjpArgs<double>&);
template void kinematics<float>(const KinematicsArgs<float>&);
template void kinematics<double>(const KinematicsArgs<double>&);
template void kinematics_vjp<float>(const KinematicsVjpArgs<float>&);
template void kinematics_vjp<double>(const KinematicsVjpArgs<double>&);
template void rotation_exp<float>(const RotationExpArgs<float>&);
template void rotation_exp<double>(const RotationExpArgs<double>&);
template void rotation_exp_vjp<float>(const RotationExpVjpArgs<float>&);
template void rotation_exp_vjp<double>(const RotationExpVjpArgs<double>&);

}  // namespace n3d::cuda
