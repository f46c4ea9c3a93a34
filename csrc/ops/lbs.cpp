#include "ops/lbs.h"

#include <cstring>
#include <vector>

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

constexpr int kPanel = kAccumulators / 3;  // vertices whose coordinates fill the registers with one pack of bodies
constexpr int kBlock = 32;                 // vertices whose directions stay in L2 for all bodies
constexpr int64_t kTask = 4 * kBlock;
static_assert(kBlock % kPanel == 0);

template <class T>
struct alignas(64) Line {
  T value[64 / sizeof(T)];
};

// A body's rows to planes, one for each column; the lanes that stand for no body are zero.
template <class T>
void to_planes(const T* rows, int64_t pitch, const Group& group, int64_t columns, T* planes, int width) {
  if (group.count < width) std::memset(planes, 0, sizeof(T) * columns * width);
  rows_to_planes(rows + group.first * pitch, pitch, group.count, columns, planes, width);
}
template <class T>
void from_planes(const T* planes, int width, const Group& group, int64_t columns, T* rows, int64_t pitch) {
  planes_to_rows(planes, width, group.count, columns, rows + group.first * pitch, pitch, false);
}

template <class T>
void transforms_to_planes(const SkinInputs<T>& in, const Group& group, T* planes, int width) {
  to_planes(in.transforms, 12 * in.joints, group, 12 * in.joints, planes, width);
}

// The directions of a block in panels: those of kPanel vertices for m = 0, 1, …; zero beyond the last vertex.
template <class T>
void pack_directions(const SkinInputs<T>& in, int64_t first, int count, T* panels) {
  const int64_t panel = 3 * kPanel * in.shapes;
  for (int64_t m = 0; m < in.shapes; ++m) {
    const T* row = in.directions + 3 * (m * in.vertices + first);
    T* to = panels + 3 * kPanel * m;
    int v = 0;
    for (; v + kPanel <= count; v += kPanel, to += panel) std::memcpy(to, row + 3 * v, sizeof(T) * 3 * kPanel);
    for (int i = 3 * v; i < 3 * kBlock; ++i)
      to[(i - 3 * v) / (3 * kPanel) * panel + i % (3 * kPanel)] = i < 3 * count ? row[i] : T(0);
  }
}

// sum[i] = Σ_m c_m D_mi for the 3 kPanel / packs coordinates from `panel` on.
template <int kPacks, class T>
N3D_HD void blend(const T* panel, const T* coefficients, int64_t shapes, const T* soon, int64_t pitch,
                  Pack<T> (&sum)[3 * kPanel / kPacks][kPacks]) {
  constexpr int lanes = Lanes<T>::kCount;
  for (int64_t m = 0; m < shapes; ++m, panel += 3 * kPanel, coefficients += kPacks * lanes, soon += pitch) {
    __builtin_prefetch(soon, 0, 2);
    Pack<T> c[kPacks];
#pragma GCC unroll 2
    for (int p = 0; p < kPacks; ++p) c[p] = load(coefficients + p * lanes);
#pragma GCC unroll 24
    for (int i = 0; i < 3 * kPanel / kPacks; ++i) {
      const Pack<T> d = broadcast(panel[i]);
#pragma GCC unroll 2
      for (int p = 0; p < kPacks; ++p) sum[i][p] += d * c[p];
    }
  }
}

template <class T>
N3D_HD AffineRow<Pack<T>> load_row(const T* planes, int width) {
  return {{load(planes), load(planes + width), load(planes + 2 * width)}, load(planes + 3 * width)};
}

// Row r of a vertex's blended transform.
template <class T>
N3D_HD AffineRow<Pack<T>> blended_row(const SkinInputs<T>& in, int64_t vertex, int r, const T* transforms, int width) {
  AffineRow<Pack<T>> row{};
  for (int64_t k = vertex * in.influences; k < (vertex + 1) * in.influences; ++k)
    add(row, in.weights[k], load_row(transforms + (12 * int64_t(in.vertex_joints[k]) + 4 * r) * width, width));
  return row;
}

// Vertices first to first + count of a group of bodies. `panels`: the block's directions; `planes`: the group's
// coefficients, then its transforms.
template <int kPacks, class T>
void skin_block(const BlendSkinArgs<T>& a, int64_t first, int count, const Group& group, const T* panels,
                const T* planes) {
  constexpr int lanes = Lanes<T>::kCount, wide = width<T>(kPacks), kTogether = kPanel / kPacks;
  const SkinInputs<T>& in = a.in;
  const T* transforms = planes + in.shapes * wide;
  const int64_t pitch = 3 * in.vertices;
  alignas(64) T tile[3 * kBlock * wide];  // t, then p, then x
  if (in.rest_per_body) to_planes(in.rest + 3 * first, pitch, group, 3 * count, tile, wide);
  T* shaped = a.shaped ? a.shaped + pitch * group.first + 3 * first * wide : nullptr;
  for (int v = 0; v < count; v += kTogether) {
    Pack<T> p[3 * kTogether][kPacks] = {};
    blend<kPacks>(panels + 3 * (v / kPanel * kPanel * in.shapes + v % kPanel), planes, in.shapes,
                  in.directions + 3 * (first + v + kBlock), pitch, p);
    for (int i = 0; i < kTogether && v + i < count; ++i)
      for (int n = 0; n < kPacks; ++n) {
        T* at = tile + 3 * (v + i) * wide + n * lanes;
        const T* t = in.rest + 3 * (first + v + i);
        for (int c = 0; c < 3; ++c) p[3 * i + c][n] += in.rest_per_body ? load(at + c * wide) : broadcast(t[c]);
        const Vec3<Pack<T>> point{p[3 * i][n], p[3 * i + 1][n], p[3 * i + 2][n]};
        for (int r = 0; r < 3; ++r)
          store(at + r * wide, times(blended_row(in, first + v + i, r, transforms + n * lanes, wide), point));
        if (shaped)
          for (int c = 0; c < 3; ++c) store(shaped + (3 * (v + i) + c) * wide + n * lanes, p[3 * i + c][n]);
      }
  }
  from_planes(tile, wide, group, 3 * count, a.vertices + 3 * first, pitch);
}

// sums[m] += Σ_i D_mi v_i over `columns` coordinates, for the rows m of a register block from `skip` on.
template <int kRows, int kPacks, class T>
N3D_HD void project_rows(const T* directions, int64_t pitch, int columns, const T* v, T* sums, int skip) {
  constexpr int lanes = Lanes<T>::kCount, wide = width<T>(kPacks), kLine = 64 / sizeof(T);
  Pack<T> sum[kRows][kPacks] = {};
  for (int i = 0; i < columns; ++i, v += wide) {
    if (i % kLine == 0)
      for (int r = 0; r < kRows; ++r) __builtin_prefetch(directions + r * pitch + i + 3 * kBlock, 0, 2);
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
template <int kPacks, class T>
void skin_block_vjp(const BlendSkinVjpArgs<T>& a, int64_t first, int count, const Group& group, const T* transforms,
                    T* sums) {
  constexpr int lanes = Lanes<T>::kCount, wide = width<T>(kPacks);
  const SkinInputs<T>& in = a.in;
  const int64_t pitch = 3 * in.vertices;
  const T* shaped = a.shaped + pitch * group.first + 3 * first * wide;
  T* v_transforms = sums + in.shapes * wide;
  alignas(64) T tile[3 * kBlock * wide];  // the gradient to x, then that to p
  to_planes(a.v_vertices + 3 * first, pitch, group, 3 * count, tile, wide);
  for (int v = 0; v < count; ++v) {
    const int32_t* joints = in.vertex_joints + (first + v) * in.influences;
    const T* weights = in.weights + (first + v) * in.influences;
    for (int n = 0; n < kPacks; ++n) {
      T* at = tile + 3 * v * wide + n * lanes;
      const T* s = shaped + 3 * v * wide + n * lanes;
      const Vec3<Pack<T>> p{load(s), load(s + wide), load(s + 2 * wide)};
      Vec3<Pack<T>> v_p{};
      for (int r = 0; r < 3; ++r) {
        const Pack<T> v_x = load(at + r * wide);
        v_p += blended_row(in, first + v, r, transforms + n * lanes, wide).a * v_x;
        const AffineRow<Pack<T>> v_row = row_vjp(p, v_x);
        for (int64_t k = 0; k < in.influences; ++k) {
          const int64_t row = (12 * int64_t(joints[k]) + 4 * r) * wide + n * lanes;
          if (a.v_weights) {
            T* v_weight = a.v_weights + (first + v) * in.influences + k;
            *v_weight += sum(v_x * times(load_row(transforms + row, wide), p));
          }
          AffineRow<Pack<T>> total = load_row(v_transforms + row, wide);
          add(total, weights[k], v_row);
          T* to = v_transforms + row;
          store(to, total.a.x), store(to + wide, total.a.y), store(to + 2 * wide, total.a.z);
          store(to + 3 * wide, total.t);
        }
      }
      store(at, v_p.x), store(at + wide, v_p.y), store(at + 2 * wide, v_p.z);
    }
  }
  if (a.v_coefficients) project<kPacks>(in, first, count, tile, sums);
  if (a.v_shaped) from_planes(tile, wide, group, 3 * count, a.v_shaped + 3 * first, pitch);
}

// f(first vertex, count) for the blocks of a range of vertices.
template <class F>
void each_block(int64_t begin, int64_t end, const F& f) {
  for (int64_t v = begin; v < end; v += kBlock) f(v, static_cast<int>(end - v < kBlock ? end - v : kBlock));
}

}  // namespace

template <class T>
void blend_skin(const BlendSkinArgs<T>& a) {
  const SkinInputs<T>& in = a.in;
  const int64_t rows = in.shapes + 12 * in.joints, all = groups<T>(in.bodies);
  parallel_for(all, [&](int64_t i) {
    with_group<T>(in.bodies, i, [&](const Group& group, auto packs) {
      T* planes = a.workspace + rows * group.first;
      to_planes(in.coefficients, in.shapes, group, in.shapes, planes, width<T>(packs));
      transforms_to_planes(in, group, planes + in.shapes * width<T>(packs), width<T>(packs));
    });
  });
  parallel_chunks(in.vertices, kTask, [&](int64_t begin, int64_t end) {
    std::vector<Line<T>> memory((3 * kBlock * in.shapes * sizeof(T) + 63) / 64 + 1);
    T* panels = memory.data()->value;
    each_block(begin, end, [&](int64_t first, int count) {
      pack_directions(in, first, count, panels);
      for (int64_t i = 0; i < all; ++i)
        with_group<T>(in.bodies, i, [&](const Group& group, auto packs) {
          skin_block<packs>(a, first, count, group, panels, a.workspace + rows * group.first);
        });
    });
  });
}

template <class T>
void blend_skin_vjp(const BlendSkinVjpArgs<T>& a) {
  const SkinInputs<T>& in = a.in;
  const int64_t rows = in.shapes + 12 * in.joints, all = groups<T>(in.bodies), scalars = rows * a.padded;
  parallel_for(all, [&](int64_t i) {
    with_group<T>(in.bodies, i, [&](const Group& group, auto packs) {
      transforms_to_planes(in, group, a.workspace + 12 * in.joints * group.first, width<T>(packs));
    });
  });
  const int64_t chunk = ((in.vertices + a.chunks - 1) / a.chunks + kBlock - 1) / kBlock * kBlock;
  parallel_for(a.chunks, [&](int64_t c) {
    T* sums = a.partials + c * scalars;
    std::memset(sums, 0, sizeof(T) * scalars);
    const int64_t begin = c * chunk, end = begin + chunk < in.vertices ? begin + chunk : in.vertices;
    each_block(begin, end, [&](int64_t first, int count) {
      for (int64_t i = 0; i < all; ++i)
        with_group<T>(in.bodies, i, [&](const Group& group, auto packs) {
          skin_block_vjp<packs>(a, first, count, group, a.workspace + 12 * in.joints * group.first,
                                sums + rows * group.first);
        });
    });
  });
  parallel_chunks(scalars, 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t c = 1; c < a.chunks; ++c)
      for (int64_t i = begin; i < end; ++i) a.partials[i] += a.partials[c * scalars + i];
  });
  parallel_for(all, [&](int64_t i) {
    with_group<T>(in.bodies, i, [&](const Group& group, auto packs) {
      const int wide = width<T>(packs);
      const T* sums = a.partials + rows * group.first;
      if (a.v_coefficients) from_planes(sums, wide, group, in.shapes, a.v_coefficients, in.shapes);
      if (a.v_transforms)
        from_planes(sums + in.shapes * wide, wide, group, 12 * in.joints, a.v_transforms, 12 * in.joints);
    });
  });
}

constexpr int64_t kBodies = 8;  // of a task of the kinematics

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

N3D_INSTANTIATE(blend_skin, BlendSkinArgs)
N3D_INSTANTIATE(blend_skin_vjp, BlendSkinVjpArgs)
N3D_INSTANTIATE(kinematics, KinematicsArgs)
N3D_INSTANTIATE(kinematics_vjp, KinematicsVjpArgs)

}  // namespace n3d::N3D_ISA
