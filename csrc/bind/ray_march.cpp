#include "ops/ray_march.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(ray_march_count, MarchArgs)
N3D_OP(ray_march_fill, MarchArgs)
N3D_OP(compact, CompactArgs)
N3D_OP(pack_bits, PackBitsArgs)
N3D_OP(ray_aabb, RayAabbArgs)
N3D_OP(ray_points, RayPointsArgs)
N3D_OP(ray_points_vjp, RayPointsVjpArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "ray_aabb",
      +[](Tensor<T> origins, Tensor<T> directions, Tensor<T> aabb, Tensor<T> t_min, Tensor<T> t_max, uintptr_t stream) {
        run::ray_aabb<T>({origins, directions, aabb, t_min, t_max, origins.size(0), pointer(stream)});
      },
      "origins", "directions", "aabb", "t_min", "t_max", "stream");
  def_kernel(
      m, "ray_points",
      +[](Tensor<T> origins, Tensor<T> directions, Tensor<T> t, Tensor<int64_t> offsets, Tensor<T> positions,
          uintptr_t stream) {
        run::ray_points<T>({origins, directions, t, offsets, positions, origins.size(0), pointer(stream)});
      },
      "origins", "directions", "t", "offsets", "positions", "stream");
  def_kernel(
      m, "ray_points_vjp",
      +[](Tensor<T> t, Tensor<int64_t> offsets, Tensor<T> v_positions, Tensor<T> v_origins, Tensor<T> v_directions,
          uintptr_t stream) {
        run::ray_points_vjp<T>({t, offsets, v_positions, v_origins, v_directions, v_origins.size(0), pointer(stream)});
      },
      "t", "offsets", "v_positions", "v_origins", "v_directions", "stream");
}

// What both passes of the march read; `first` is what the first hands to the second.
MarchArgs<float> march(const Tensor<float>& origins, const Tensor<float>& directions, const Tensor<float>& t_min,
                       const Tensor<float>& t_max, const OptionalTensor<float>& jitter, const Tensor<uint8_t>& bits,
                       int32_t resolution, const Tensor<float>& table, float tail, float step_min, float step_max,
                       float cone, int64_t most, uintptr_t stream, const Tensor<int32_t>& first) {
  MarchArgs<float> args{};
  args.origins = origins, args.directions = directions, args.t_min = t_min, args.t_max = t_max, args.jitter = jitter;
  args.bits = reinterpret_cast<const int32_t*>(bits.data);
  args.levels = static_cast<int32_t>(bits.size(0)), args.resolution = resolution;
  args.table = table, args.last = static_cast<int32_t>(table.size(0)) - 1, args.tail = tail;
  args.step_min = step_min, args.step_max = step_max, args.cone = cone, args.most = most;
  args.rays = origins.size(0), args.first = first, args.stream = pointer(stream);
  return args;
}

}  // namespace

void bind_ray_march(nb::module_& m) {
  def_kernel(
      m, "ray_march_count",
      +[](Tensor<float> origins, Tensor<float> directions, Tensor<float> t_min, Tensor<float> t_max,
          OptionalTensor<float> jitter, Tensor<uint8_t> bits, int32_t resolution, Tensor<float> table, float tail,
          float step_min, float step_max, float cone, int64_t most, uintptr_t stream, Tensor<int32_t> first,
          Tensor<int64_t> counts) {
        MarchArgs<float> args = march(origins, directions, t_min, t_max, jitter, bits, resolution, table, tail,
                                      step_min, step_max, cone, most, stream, first);
        args.counts = counts;
        run::ray_march_count<float>(args);
      },
      "origins", "directions", "t_min", "t_max", "jitter", "bits", "resolution", "table", "tail", "step_min",
      "step_max", "cone", "most", "stream", "first", "counts");
  def_kernel(
      m, "ray_march_fill",
      +[](Tensor<float> origins, Tensor<float> directions, Tensor<float> t_min, Tensor<float> t_max,
          OptionalTensor<float> jitter, Tensor<uint8_t> bits, int32_t resolution, Tensor<float> table, float tail,
          float step_min, float step_max, float cone, int64_t most, uintptr_t stream, Tensor<int32_t> first,
          Tensor<int64_t> offsets, Tensor<float> positions, Tensor<float> t, Tensor<float> dt, Tensor<int32_t> ray) {
        MarchArgs<float> args = march(origins, directions, t_min, t_max, jitter, bits, resolution, table, tail,
                                      step_min, step_max, cone, most, stream, first);
        args.offsets = offsets, args.positions = positions, args.t = t, args.dt = dt, args.ray = ray;
        run::ray_march_fill<float>(args);
      },
      "origins", "directions", "t_min", "t_max", "jitter", "bits", "resolution", "table", "tail", "step_min",
      "step_max", "cone", "most", "stream", "first", "offsets", "positions", "t", "dt", "ray");
  def<float>(m);
  def<double>(m);
  def_kernel(
      m, "pack_bits",
      +[](Tensor<float> density, Tensor<float> threshold, Tensor<uint8_t> bits, int64_t resolution, uintptr_t stream) {
        run::pack_bits<float>({density, threshold, bits, bits.size(0), resolution, pointer(stream)});
      },
      "density", "threshold", "bits", "resolution", "stream");
  def_kernel(
      m, "compact",
      +[](Tensor<float> positions, Tensor<float> t, Tensor<float> dt, Tensor<int64_t> offsets,
          Tensor<int64_t> new_offsets, Tensor<float> new_positions, Tensor<float> new_t, Tensor<float> new_dt,
          Tensor<int32_t> new_ray, Tensor<int64_t> indices, uintptr_t stream) {
        run::compact<float>({positions, t, dt, offsets, new_offsets, new_positions, new_t, new_dt, new_ray, indices,
                             offsets.size(0) - 1, pointer(stream)});
      },
      "positions", "t", "dt", "offsets", "new_offsets", "new_positions", "new_t", "new_dt", "new_ray", "indices",
      "stream");
}
