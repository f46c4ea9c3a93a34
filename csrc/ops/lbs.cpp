#include "ops/lbs.h"

#include <cstring>
#include <type_traits>

#include "core/dispatch.h"
#include "core/gemm.h"
#include "core/lanes.h"
#include "core/parallel.h"

namespace n3d::N3D_ISA {

namespace {

// Lanes are bodies: directions, weights and joints are one scalar for all of them, so that nothing is gathered and
// directions are read as they lie. Coefficients and transforms are transposed for it once a call, a group of bodies
// after another: two packs of them, or one for the rest. A group's first body says where its planes begin.
template <class T>
using Pack = typename Lanes<T>::S;
template <class T>
constexpr int width(int packs) {
  return packs * Lanes<T>::kCount;
}
template <class T>
int64_t groups(int64_t bodies) {
  return (bodies + width<T>(2) - 1) / width<T>(2);
}

struct Group {
  int64_t first, count;  // bodies
};

// f(group i, compile-time packs).
template <class T, class F>
void with_group(int64_t bodies, int64_t i, const F& f) {
  const int64_t first = i * width<T>(2), rest = bodies - first;
  if (rest <= width<T>(1)) return f(Group{first, rest}, std::integral_constant<int, 1>{});
  f(Group{first, rest < width<T>(2) ? rest : width<T>(2)}, std::integral_constant<int, 2>{});
}

constexpr int kBlock = 32;  // vertices whose directions stay in L2 for all bodies
constexpr int64_t kTask = 4 * kBlock;

// A body's rows to planes, one for each column; the lanes that stand for no body are zero.
template <class T>
void to_planes(const T* rows, int64_t pitch, const Group& group, int64_t columns, T* planes, int width) {
  if (group.count < width) std::memset(planes, 0, sizeof(T) * columns * width);
  rows_to_planes(rows + group.first * pitch, pitch, group.count, columns, planes, width, false);
}
template <class T>
void from_planes(const T* planes, int width, const Group& group, int64_t columns, T* rows, int64_t pitch) {
  planes_to_rows(planes, width, group.count, columns, rows + group.first * pitch, pitch, false);
}

template <class Blend, class T>
void transforms_to_planes(const SkinInputs<T>& in, const Group& group, T* planes, int width) {
  const int64_t scalars = Blend::kScalars * in.joints;
  to_planes(in.transforms, scalars, group, scalars, planes, width);
}

// A vector of a pack of bodies, in planes `width` apart.
template <class T>
N3D_HD Vec3<Pack<T>> load3(const T* planes, int width) {
  return {load(planes), load(planes + width), load(planes + 2 * width)};
}
template <class T>
N3D_HD void store3(T* planes, int width, const Vec3<Pack<T>>& v) {
  store(planes, v.x), store(planes + width, v.y), store(planes + 2 * width, v.z);
}

// Reads transforms of a pack of bodies, which begin at `planes`.
template <class Blend, class T>
N3D_HD auto reader(const T* planes, int width) {
  return [=](int64_t joint, int scalar) { return load(planes + (Blend::kScalars * joint + scalar) * width); };
}

// p = t + Σ_m c_m D_m for a few vertices, whose directions and t begin at `directions` and `rest`. `p` holds t where
// there is one for each body. Fetches the directions of the next block.
template <int kVertices, int kPacks, class T>
N3D_HD void blend(const SkinInputs<T>& in, const T* directions, const T* rest, const T* coefficients, T* p) {
  constexpr int lanes = Lanes<T>::kCount, wide = width<T>(kPacks);
  Pack<T> sum[3 * kVertices][kPacks] = {};
  for (int64_t m = 0; m < in.shapes; ++m, directions += 3 * in.vertices, coefficients += wide) {
    __builtin_prefetch(directions + 3 * kBlock, 0, 2);
    Pack<T> c[kPacks];
#pragma GCC unroll 2
    for (int n = 0; n < kPacks; ++n) c[n] = load(coefficients + n * lanes);
#pragma GCC unroll 24
    for (int i = 0; i < 3 * kVertices; ++i) {
      const Pack<T> d = broadcast(directions[i]);
#pragma GCC unroll 2
      for (int n = 0; n < kPacks; ++n) sum[i][n] += d * c[n];
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < 3 * kVertices; ++i)
#pragma GCC unroll 2
    for (int n = 0; n < kPacks; ++n) {
      T* at = p + i * wide + n * lanes;
      store(at, sum[i][n] + (in.rest_per_body ? load(at) : broadcast(rest[i])));
    }
}

// Vertices first to first + count of a group of bodies. `planes`: its coefficients, then its transforms.
template <class Blend, int kPacks, class T>
void skin_block(const BlendSkinArgs<T>& a, int64_t first, int count, const Group& group, const T* planes) {
  constexpr int lanes = Lanes<T>::kCount, wide = width<T>(kPacks);
  constexpr int kTogether = kAccumulators / (3 * kPacks);  // vertices that fill the registers
  const SkinInputs<T>& in = a.in;
  const int64_t pitch = 3 * in.vertices;
  const T *directions = in.directions + 3 * first, *rest = in.rest + 3 * first;
  T* out = a.vertices + 3 * first;
  alignas(64) T tile[3 * kBlock * wide];  // p, then x
  if (in.rest_per_body) to_planes(rest, pitch, group, 3 * count, tile, wide);
  for (int64_t b = group.first; b < group.first + group.count; ++b)
    for (int i = 0; i < 3 * count; i += 64 / sizeof(T)) __builtin_prefetch(out + b * pitch + i, 1, 2);
  int v = 0;
  for (; v + kTogether <= count; v += kTogether)
    blend<kTogether, kPacks>(in, directions + 3 * v, rest + 3 * v, planes, tile + 3 * v * wide);
  for (; v < count; ++v) blend<1, kPacks>(in, directions + 3 * v, rest + 3 * v, planes, tile + 3 * v * wide);
  if (a.shaped) std::memcpy(a.shaped + pitch * group.first + 3 * first * wide, tile, sizeof(T) * 3 * count * wide);
  for (v = 0; v < count; ++v)
    for (int n = 0; n < kPacks; ++n) {
      T* at = tile + 3 * v * wide + n * lanes;
      Pack<T> sum[Blend::kScalars];
      blended<Blend>(in, first + v, reader<Blend>(planes + in.shapes * wide + n * lanes, wide), sum);
      store3(at, wide, times(Blend::map(sum), load3(at, wide)));
    }
  from_planes(tile, wide, group, 3 * count, out, pitch);
}

// sums[m] += Σ_i D_mi v_i over `columns` coordinates, for the rows m of a register block from `skip` on.
template <int kRows, int kPacks, class T>
N3D_HD void project_rows(const T* directions, int64_t pitch, int columns, const T* v, T* sums, int skip) {
  constexpr int lanes = Lanes<T>::kCount, wide = width<T>(kPacks), kLine = 64 / sizeof(T);
  Pack<T> sum[kRows][kPacks] = {};
  for (int line = 0; line < columns; line += kLine) {
    for (int r = 0; r < kRows; ++r) __builtin_prefetch(directions + r * pitch + line + 3 * kBlock, 0, 2);
    for (int i = line; i < columns && i < line + kLine; ++i, v += wide) {
      Pack<T> value[kPacks];
#pragma GCC unroll 2
      for (int p = 0; p < kPacks; ++p) value[p] = load(v + p * lanes);
#pragma GCC unroll 24
      for (int r = 0; r < kRows; ++r) {
        const Pack<T> d = broadcast(directions[r * pitch + i]);
#pragma GCC unroll 2
        for (int p = 0; p < kPacks; ++p) sum[r][p] += d * value[p];
      }
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < kRows; ++r)
    if (r >= skip)
      for (int p = 0; p < kPacks; ++p) {
        T* to = sums + r * wide + p * lanes;
        store(to, load(to) + sum[r][p]);
      }
}

// The same for all rows; the last block overlaps the one before.
template <int kPacks, class T>
void project(const SkinInputs<T>& in, int64_t first, int count, const T* v, T* sums) {
  constexpr int rows = block_rows(kPacks), wide = width<T>(kPacks);
  const int64_t pitch = 3 * in.vertices;
  const T* d = in.directions + 3 * first;
  int64_t m = 0;
  if (in.shapes < rows)
    for (; m < in.shapes; ++m) project_rows<1, kPacks>(d + m * pitch, pitch, 3 * count, v, sums + m * wide, 0);
  for (; m < in.shapes; m += rows) {
    const int64_t from = m + rows <= in.shapes ? m : in.shapes - rows;
    project_rows<rows, kPacks>(d + from * pitch, pitch, 3 * count, v, sums + from * wide, static_cast<int>(m - from));
  }
}

// `transforms`: the group's planes; `sums`: this chunk's, of the coefficients' gradient and then the transforms'.
template <class Blend, int kPacks, class T>
void skin_block_vjp(const BlendSkinVjpArgs<T>& a, int64_t first, int count, const Group& group, const T* transforms,
                    T* sums) {
  constexpr int lanes = Lanes<T>::kCount, wide = width<T>(kPacks);
  const SkinInputs<T>& in = a.in;
  const int64_t pitch = 3 * in.vertices;
  alignas(64) T tile[3 * kBlock * wide];  // the gradient to x, then that to p
  to_planes(a.v_vertices + 3 * first, pitch, group, 3 * count, tile, wide);
  for (int v = 0; v < count; ++v)
    for (int n = 0; n < kPacks; ++n) {
      T* at = tile + 3 * v * wide + n * lanes;
      const Vec3<Pack<T>> p = load3(a.shaped + pitch * group.first + 3 * (first + v) * wide + n * lanes, wide);
      const Vec3<Pack<T>> v_x = load3(at, wide);
      const auto read = reader<Blend>(transforms + n * lanes, wide);
      Pack<T> blend[Blend::kScalars], v_blend[Blend::kScalars];
      blended<Blend>(in, first + v, read, blend);
      store3(at, wide, point_vjp(Blend::map(blend), v_x));
      Blend::map_vjp(blend, affine_vjp(p, v_x), v_blend);
      T* to = sums + in.shapes * wide + n * lanes;
      each_joint<Blend, Pack<T>>(in, first + v, read, [&](int64_t k, const auto& g, const auto& first_g) {
        const auto share = Blend::share(in.weights[k], g, first_g);
        T* row = to + Blend::kScalars * int64_t(in.vertex_joints[k]) * wide;
#pragma GCC unroll 12
        for (int i = 0; i < Blend::kScalars; ++i, row += wide) store(row, load(row) + v_blend[i] * share);
        if (a.v_weights) a.v_weights[k] += sum(inner(v_blend, g) * Blend::share(T(1), g, first_g));
      });
    }
  if (a.v_coefficients) project<kPacks>(in, first, count, tile, sums);
  if (a.v_shaped) from_planes(tile, wide, group, 3 * count, a.v_shaped + 3 * first, pitch);
}

// f(group, compile-time packs) for all; few of them are not worth waking a thread for.
template <class T, class F>
void each_group(int64_t bodies, const F& f) {
  parallel_chunks(groups<T>(bodies), 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) with_group<T>(bodies, i, f);
  });
}

// f(first vertex, count) for the blocks of a range of vertices.
template <class F>
void each_block(int64_t begin, int64_t end, const F& f) {
  for (int64_t v = begin; v < end; v += kBlock) f(v, static_cast<int>(end - v < kBlock ? end - v : kBlock));
}

template <class Blend, class T>
void skin(const BlendSkinArgs<T>& a) {
  const SkinInputs<T>& in = a.in;
  const int64_t rows = in.shapes + Blend::kScalars * in.joints, all = groups<T>(in.bodies);
  each_group<T>(in.bodies, [&](const Group& group, auto packs) {
    T* planes = a.workspace + rows * group.first;
    to_planes(in.coefficients, in.shapes, group, in.shapes, planes, width<T>(packs));
    transforms_to_planes<Blend>(in, group, planes + in.shapes * width<T>(packs), width<T>(packs));
  });
  parallel_chunks(in.vertices, kTask, [&](int64_t begin, int64_t end) {
    each_block(begin, end, [&](int64_t first, int count) {
      for (int64_t i = 0; i < all; ++i)
        with_group<T>(in.bodies, i, [&](const Group& group, auto packs) {
          skin_block<Blend, packs>(a, first, count, group, a.workspace + rows * group.first);
        });
    });
  });
}

template <class Blend, class T>
void skin_vjp(const BlendSkinVjpArgs<T>& a) {
  const SkinInputs<T>& in = a.in;
  const int64_t scalars = Blend::kScalars * in.joints, rows = in.shapes + scalars, all = groups<T>(in.bodies);
  each_group<T>(in.bodies, [&](const Group& group, auto packs) {
    transforms_to_planes<Blend>(in, group, a.workspace + scalars * group.first, width<T>(packs));
  });
  const int64_t chunk = ((in.vertices + a.chunks - 1) / a.chunks + kBlock - 1) / kBlock * kBlock;
  parallel_for(a.chunks, [&](int64_t c) {
    T* sums = a.partials + c * rows * a.padded;
    std::memset(sums, 0, sizeof(T) * rows * a.padded);
    const int64_t begin = c * chunk, end = begin + chunk < in.vertices ? begin + chunk : in.vertices;
    each_block(begin, end, [&](int64_t first, int count) {
      for (int64_t i = 0; i < all; ++i)
        with_group<T>(in.bodies, i, [&](const Group& group, auto packs) {
          skin_block_vjp<Blend, packs>(a, first, count, group, a.workspace + scalars * group.first,
                                       sums + rows * group.first);
        });
    });
  });
  parallel_chunks(rows * a.padded, 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t c = 1; c < a.chunks; ++c)
      for (int64_t i = begin; i < end; ++i) a.partials[i] += a.partials[c * rows * a.padded + i];
  });
  each_group<T>(in.bodies, [&](const Group& group, auto packs) {
    const int wide = width<T>(packs);
    const T* sums = a.partials + rows * group.first;
    if (a.v_coefficients) from_planes(sums, wide, group, in.shapes, a.v_coefficients, in.shapes);
    if (a.v_transforms) from_planes(sums + in.shapes * wide, wide, group, scalars, a.v_transforms, scalars);
  });
}

}  // namespace

template <class T>
void blend_skin(const BlendSkinArgs<T>& a) {
  with_blend(a.in, [&](auto blend) { skin<decltype(blend)>(a); });
}

template <class T>
void blend_skin_vjp(const BlendSkinVjpArgs<T>& a) {
  with_blend(a.in, [&](auto blend) { skin_vjp<decltype(blend)>(a); });
}

// A task's share of bodies or rotations: batches that a thread poses sooner than others wake stay with it.
constexpr int64_t kBodies = 64, kRotations = 1 << 12;

template <class T>
void kinematics(const KinematicsArgs<T>& a) {
  parallel_chunks(a.bodies, kBodies, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) pose_body(a, b);
  });
}

template <class T>
void kinematics_vjp(const KinematicsVjpArgs<T>& a) {
  parallel_chunks(a.bodies, kBodies, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) pose_body_vjp(a, b);
  });
}

template <class T>
void rotation_exp(const RotationExpArgs<T>& a) {
  parallel_chunks(a.n, kRotations, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) rotation_exp_one(a, i);
  });
}

template <class T>
void rotation_exp_vjp(const RotationExpVjpArgs<T>& a) {
  parallel_chunks(a.n, kRotations, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) rotation_exp_vjp_one(a, i);
  });
}

N3D_INSTANTIATE(blend_skin, BlendSkinArgs)
N3D_INSTANTIATE(blend_skin_vjp, BlendSkinVjpArgs)
N3D_INSTANTIATE(kinematics, KinematicsArgs)
N3D_INSTANTIATE(kinematics_vjp, KinematicsVjpArgs)
N3D_INSTANTIATE(rotation_exp, RotationExpArgs)
N3D_INSTANTIATE(rotation_exp_vjp, RotationExpVjpArgs)

}  // namespace n3d::N3D_ISA
