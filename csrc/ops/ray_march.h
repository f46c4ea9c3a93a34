// Samples along rays where a multi-scale occupancy grid says there is something (Müller et al. 2022, appendix E).
//
// The lattice. Every ray is cut at the same distances b_0 = 0, b_{k+1} = b_k + Δ(b_k), Δ(t) = clamp(cone · t, min,
// max), shifted by the ray's jitter j ∈ [0, 1): interval k starts at b_k + j Δ(b_k), has length δ_k = (1 − j) Δ(b_k) +
// j Δ(b_{k+1}) and its sample sits in the middle, t_k. A ray's samples are the k with enter ≤ t_k < exit whose cell is
// occupied: a statement about each k alone. Skipping empty space only finds them sooner; it cannot move them.
//
// The grid. Cascade l covers [−2^l, 2^l]³ with R³ cells; a point is looked up in the finest cascade that contains it
// and whose cells are no shorter than δ. The bits are stored in blocks of 4³, 64 bits to a block (x slowest, z fastest,
// in the block and among blocks), so that one word tells of a block whether anything is there at all.
//
// All of it is written in additions, products and comparisons that IEEE 754 defines to the last bit, and compiled
// without contraction to FMA: every device and instruction set finds the same samples.
#pragma once

#include "core/hd.h"
#include "core/simd.h"

namespace n3d {

template <class T>
struct MarchArgs {
  const T* origins;     // (R, 3)
  const T* directions;  // (R, 3) unit
  const T* t_min;       // (R,)
  const T* t_max;       // (R,)
  const T* jitter;      // (R,) or null: none
  const int32_t* bits;  // (L, R³/32)
  const T* table;       // (last + 1,) b_k until Δ reaches its maximum
  int32_t last;         // from b_last on, b_k = b_last + (k − last) · tail
  T tail;
  T step_min, step_max, cone;
  int32_t levels, resolution;
  int64_t most;  // samples a ray may have
  int64_t rays;
  // The first pass counts; the second writes what the counts made room for.
  int32_t* first;          // (R,) k of the first sample, written by the first pass and read by the second
  int64_t* counts;         // (R,), or null in the second pass
  const int64_t* offsets;  // (R + 1,) the second pass's, as what follows
  T* positions;            // (S, 3)
  T* t;                    // (S,)
  T* dt;                   // (S,)
  int32_t* ray;            // (S,)
  void* stream;
};

template <class T>
struct RayAabbArgs {
  const T* origins;     // (R, 3)
  const T* directions;  // (R, 3)
  const T* aabb;        // (2, 3)
  T* t_min;             // (R,)
  T* t_max;             // (R,)
  int64_t rays;
  void* stream;
};

template <class T>
struct RayPointsArgs {
  const T* origins;        // (R, 3)
  const T* directions;     // (R, 3)
  const T* t;              // (S,)
  const int64_t* offsets;  // (R + 1,)
  T* positions;            // (S, 3)
  int64_t rays;
  void* stream;
};

template <class T>
struct RayPointsVjpArgs {
  const T* t;              // (S,)
  const int64_t* offsets;  // (R + 1,)
  const T* v_positions;    // (S, 3)
  T* v_origins;            // (R, 3)
  T* v_directions;         // (R, 3)
  int64_t rays;
  void* stream;
};

template <class T>
struct PackBitsArgs {
  const T* density;    // (L, R, R, R)
  const T* threshold;  // one number; on the device, so that nobody waits for it
  uint8_t* bits;       // (L, R³/8)
  int64_t levels, resolution;
  void* stream;
};

template <class T>
struct CompactArgs {
  const T* positions;          // (S, 3)
  const T* t;                  // (S,)
  const T* dt;                 // (S,)
  const int64_t* offsets;      // (R + 1,)
  const int64_t* new_offsets;  // (R + 1,) each ray keeps as many of its first samples as fit between them
  T* new_positions;
  T* new_t;
  T* new_dt;
  int32_t* new_ray;
  int64_t* indices;  // where each sample came from
  int64_t rays;
  void* stream;
};

namespace N3D_ISA {

constexpr int32_t kMostSteps = 1 << 24;  // beyond it, neighbouring b_k are no longer distinct in float32

template <class T>
struct Span {
  T enter, exit;
  N3D_HD bool empty() const { return !(enter < exit); }
};

// Narrows a span to one axis' slab. NaN narrows nothing here (see finite()).
template <class T>
N3D_HD void clip(Span<T>& span, T o, T d, T low, T high) {
  if (d == 0) {
    if (o < low || o > high) span.exit = span.enter;
    return;
  }
  const T a = (low - o) / d, b = (high - o) / d;
  span.enter = maximum(a < b ? a : b, span.enter);
  span.exit = minimum(a < b ? b : a, span.exit);
}

template <class T>
N3D_HD bool finite(const T* a) {
  return (a[0] + a[1] + a[2]) * 0 == 0;
}

// The part of a ray within [low, high]³-like boxes; rays that are not finite have none.
template <class T>
N3D_HD Span<T> clip_to_box(Span<T> span, const T* o, const T* d, const T* low, const T* high) {
  if (!finite(o) || !finite(d)) return {0, 0};
  for (int k = 0; k < 3; ++k) clip(span, o[k], d[k], low[k], high[k]);
  return span;
}

template <class S>
struct Interval {
  S t, dt;
};

// S is float with I = int32_t, or their packs.
template <class S, class I>
struct March {
  const MarchArgs<float>& a;
  float half;      // R / 2
  int32_t blocks;  // R / 4
  int32_t words;   // 32-bit words in a cascade

  N3D_HD explicit March(const MarchArgs<float>& args)
      : a(args), half(0.5f * args.resolution), blocks(args.resolution / 4), words(blocks * blocks * blocks * 2) {}

  // Δ(t)
  N3D_HD S step(S t) const { return minimum(maximum(t * a.cone, S{} + a.step_min), S{} + a.step_max); }

  // b_k
  N3D_HD S boundary(I k) const {
    return gather(a.table, minimum(k, I{} + a.last)) + to_float(maximum(k - a.last, I{})) * a.tail;
  }

  // The interval that starts at b_k, but for the jitter.
  N3D_HD Interval<S> interval(S b, float jitter) const {
    const S step0 = step(b), step1 = step(b + step0);
    const S dt = step0 + (step1 - step0) * jitter;
    return {b + step0 * jitter + dt * 0.5f, dt};
  }

  // ceil(log2(max(|x|∞, δ R / 2))), which is the cascade, read off the exponent.
  N3D_HD I level(S x, S y, S z, S dt) const {
    const S reach = maximum(maximum(absolute(x), absolute(y)), maximum(absolute(z), dt * half));
    return minimum(maximum(((float_bits(reach) + 0x7fffff) >> 23) - 127, I{}), I{} + (a.levels - 1));
  }

  // Points of the ray are inside, but for rounding; what lanes beyond its end find is not used, but is in memory.
  N3D_HD I cell(S x, S inverse_size) const {
    return smaller_unsigned(truncate((x * inverse_size + 1.f) * half), I{} + (a.resolution - 1));
  }

  // Non-zero where the cell is occupied.
  N3D_HD I occupied(S x, S y, S z, S dt) const {
    I l{};
    S inverse_size = S{} + 1.f;
    if (a.levels > 1) {
      l = level(x, y, z, dt);
      inverse_size = bits_float((127 - l) << 23);
    }
    const I ix = cell(x, inverse_size), iy = cell(y, inverse_size), iz = cell(z, inverse_size);
    const I block = ((ix >> 2) * blocks + (iy >> 2)) * blocks + (iz >> 2);
    const I bit = (ix & 1) << 4 | (iy & 3) << 2 | (iz & 3);
    const I word = gather(a.bits, l * words + block * 2 + ((ix & 3) >> 1));
    return (word >> bit) & 1;
  }
};

// One ray of the march, a step at a time.
struct Walk : March<float, int32_t> {
  using March::March;

  struct Writer {
    const MarchArgs<float>& a;
    int64_t ray, at;
    N3D_HD void operator()(int32_t, const Interval<float>& i, float x, float y, float z) {
      float* p = a.positions + 3 * at;
      p[0] = x, p[1] = y, p[2] = z;
      a.t[at] = i.t, a.dt[at] = i.dt, a.ray[at] = static_cast<int32_t>(ray);
      ++at;
    }
  };

  N3D_HD float jitter(int64_t ray) const { return a.jitter ? a.jitter[ray] : 0.f; }

  N3D_HD Span<float> span(int64_t ray) const {
    const float size = static_cast<float>(1 << (a.levels - 1));
    const float low[3] = {-size, -size, -size}, high[3] = {size, size, size};
    const Span<float> given = {maximum(0.f, a.t_min[ray]), a.t_max[ray]};  // a NaN stays, and empties the span
    return clip_to_box(given, a.origins + 3 * ray, a.directions + 3 * ray, low, high);
  }

  // The smallest k ≥ from with t_k ≥ t (kMostSteps if there is none).
  N3D_HD int32_t first_from(float t, float jitter, int32_t from = 0) const {
    const float beyond = (t - a.table[a.last]) / a.tail;
    if (!(beyond < kMostSteps - 2 - a.last)) return kMostSteps;
    int32_t low = from, high = a.last;
    if (beyond > 0) low = maximum(from, a.last + static_cast<int32_t>(beyond));
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      if (a.table[middle] < t)
        low = middle + 1;
      else
        high = middle;
    }
    while (low > from && interval(boundary(low - 1), jitter).t >= t) --low;
    while (low < kMostSteps && interval(boundary(low), jitter).t < t) ++low;
    return low;
  }

  // Where the ray leaves the empty cell, or empty block of 4³ cells, around its point at t: what may be skipped.
  // Rounding of positions must never carry it past a sample of the next cell, so walls come nearer by some ulps. The
  // cascade must not change on the way, which caps it where δ outgrows this cascade's cells.
  N3D_HD float leave(const float* o, const float* d, float t, float dt) const {
    const float x[3] = {o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]};
    const int32_t l = level(x[0], x[1], x[2], dt);
    const float inverse_size = bits_float((127 - l) << 23), size = bits_float((127 + l) << 23);
    const int32_t i[3] = {cell(x[0], inverse_size), cell(x[1], inverse_size), cell(x[2], inverse_size)};
    const int32_t* block = a.bits + l * words + (((i[0] >> 2) * blocks + (i[1] >> 2)) * blocks + (i[2] >> 2)) * 2;
    const int32_t width = (block[0] | block[1]) == 0 ? 4 : 1;
    float exit = l + 1 < a.levels && a.cone > 0 ? 0.99f * size / (half * a.cone) : INFINITY;
    for (int k = 0; k < 3; ++k) {
      if (d[k] == 0) continue;
      const int32_t first = i[k] & -width;
      const float wall = (static_cast<float>(d[k] > 0 ? first + width : first) / half - 1.f) * size - o[k];
      const float margin = 1e-6f * (absolute(o[k]) + size);
      exit = minimum((absolute(wall) - margin) / absolute(d[k]), exit);
    }
    return exit * (1.f - 1e-6f);
  }

  // Calls emit(k, interval, x, y, z) for the samples of a ray, at most `most`, from interval k on; returns how many.
  template <class Emit>
  N3D_HD int64_t samples(int64_t ray, float exit, int32_t k, int64_t most, Emit emit) const {
    const float *o = a.origins + 3 * ray, *d = a.directions + 3 * ray, j = jitter(ray);
    int64_t n = 0;
    while (n < most && k < kMostSteps) {
      const Interval<float> i = interval(boundary(k), j);
      if (!(i.t < exit)) break;
      const float x = o[0] + i.t * d[0], y = o[1] + i.t * d[1], z = o[2] + i.t * d[2];
      if (occupied(x, y, z, i.dt)) {
        emit(k, i, x, y, z);
        ++n, ++k;
      } else {
        k = first_from(leave(o, d, i.t, i.dt), j, k + 1);
      }
    }
    return n;
  }
};

// The first pass over a ray.
template <class W>
N3D_HD void march_count_ray(const W& walk, int64_t ray) {
  const MarchArgs<float>& a = walk.a;
  const Span<float> span = walk.span(ray);
  int64_t n = 0;
  int32_t first = kMostSteps;
  if (!span.empty()) {
    const auto note_first = [&](int32_t k, const auto&...) { first = minimum(first, k); };
    n = walk.samples(ray, span.exit, walk.first_from(span.enter, walk.jitter(ray)), a.most, note_first);
  }
  a.counts[ray] = n;
  a.first[ray] = first;
}

// The second pass: from the first sample until all that were counted are written.
template <class W>
N3D_HD void march_fill_ray(const W& walk, int64_t ray) {
  const MarchArgs<float>& a = walk.a;
  const int64_t begin = a.offsets[ray], n = a.offsets[ray + 1] - begin;
  if (n > 0) walk.samples(ray, INFINITY, a.first[ray], n, typename W::Writer{a, ray, begin});
}

// The sums that carry the gradient of positions o + t d back to a ray.
template <class T>
N3D_HD void ray_points_vjp_ray(const RayPointsVjpArgs<T>& a, int64_t ray) {
  T v_o[3] = {}, v_d[3] = {};
  for (int64_t s = a.offsets[ray]; s < a.offsets[ray + 1]; ++s)
    for (int k = 0; k < 3; ++k) {
      const T v = a.v_positions[3 * s + k];
      v_o[k] += v;
      v_d[k] += a.t[s] * v;
    }
  for (int k = 0; k < 3; ++k) a.v_origins[3 * ray + k] = v_o[k], a.v_directions[3 * ray + k] = v_d[k];
}

template <class T>
N3D_HD void ray_points_ray(const RayPointsArgs<T>& a, int64_t ray) {
  const T *o = a.origins + 3 * ray, *d = a.directions + 3 * ray;
  for (int64_t s = a.offsets[ray]; s < a.offsets[ray + 1]; ++s)
    for (int k = 0; k < 3; ++k) a.positions[3 * s + k] = o[k] + a.t[s] * d[k];
}

template <class T>
N3D_HD void ray_aabb_ray(const RayAabbArgs<T>& a, int64_t ray) {
  const Span<T> all = {0, T(INFINITY)};
  const Span<T> span = clip_to_box(all, a.origins + 3 * ray, a.directions + 3 * ray, a.aabb, a.aabb + 3);
  a.t_min[ray] = span.empty() ? T(0) : span.enter;
  a.t_max[ray] = span.empty() ? T(0) : span.exit;
}

template <class T>
N3D_HD void compact_ray(const CompactArgs<T>& a, int64_t ray) {
  int64_t from = a.offsets[ray];
  for (int64_t to = a.new_offsets[ray]; to < a.new_offsets[ray + 1]; ++to, ++from) {
    for (int k = 0; k < 3; ++k) a.new_positions[3 * to + k] = a.positions[3 * from + k];
    a.new_t[to] = a.t[from];
    a.new_dt[to] = a.dt[from];
    a.new_ray[to] = static_cast<int32_t>(ray);
    a.indices[to] = from;
  }
}

// One byte: the eight cells (x, y, z) of a block with x = x0, y ∈ {y0, y0 + 1}, z ∈ {z0 … z0 + 3}.
template <class T>
N3D_HD void pack_byte(const PackBitsArgs<T>& a, int64_t index) {
  const int64_t blocks = a.resolution / 4, byte = index % 8;
  int64_t block = index / 8;
  const int64_t z = 4 * (block % blocks);
  block /= blocks;
  const int64_t y = 4 * (block % blocks) + 2 * (byte % 2);
  block /= blocks;
  const int64_t x = 4 * (block % blocks) + byte / 2, level = block / blocks;
  const T* cells = a.density + ((level * a.resolution + x) * a.resolution + y) * a.resolution + z;
  const T threshold = *a.threshold;
  uint8_t bits = 0;
  for (int i = 0; i < 8; ++i) bits |= static_cast<uint8_t>(cells[(i / 4) * a.resolution + i % 4] > threshold) << i;
  a.bits[index] = bits;
}

}  // namespace N3D_ISA
}  // namespace n3d
