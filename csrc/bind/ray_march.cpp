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

using n3d::Tensor;
using Release = nb::call_guard<nb::gil_scoped_release>;

void* pointer(uintptr_t p) { return reinterpret_cast<void*>(p); }

template <class T>
void def(nb::module_& m) {
  m.def(
      "ray_aabb",
      [](Tensor<T> origins, Tensor<T> directions, Tensor<T> aabb, Tensor<T> t_min, Tensor<T> t_max, uintptr_t stream) {
        n3d::run::ray_aabb<T>({origins, directions, aabb, t_min, t_max, origins.size(0), pointer(stream)});
      },
      Release());
  m.def(
      "ray_points",
      [](Tensor<T> origins, Tensor<T> directions, Tensor<T> t, Tensor<int64_t> offsets, Tensor<T> positions,
         uintptr_t stream) {
        n3d::run::ray_points<T>({origins, directions, t, offsets, positions, origins.size(0), pointer(stream)});
      },
      Release());
  m.def(
      "ray_points_vjp",
      [](Tensor<T> t, Tensor<int64_t> offsets, Tensor<T> v_positions, Tensor<T> v_origins, Tensor<T> v_directions,
         uintptr_t stream) {
        n3d::run::ray_points_vjp<T>(
            {t, offsets, v_positions, v_origins, v_directions, v_origins.size(0), pointer(stream)});
      },
      Release());
}

}  // namespace

void bind_ray_march(nb::module_& m) {
  // With `counts` the first pass of the march, without it the second.
  m.def(
      "ray_march",
      [](Tensor<float> origins, Tensor<float> directions, Tensor<float> t_min, Tensor<float> t_max,
         Tensor<float> jitter, Tensor<uint8_t> bits, int32_t resolution, Tensor<float> table, float tail,
         float step_min, float step_max, float cone, int64_t most, uintptr_t stream, Tensor<int32_t> first,
         Tensor<int64_t> counts, Tensor<int64_t> offsets, Tensor<float> positions, Tensor<float> t, Tensor<float> dt,
         Tensor<int32_t> ray) {
        const n3d::MarchArgs<float> args = {origins,
                                            directions,
                                            t_min,
                                            t_max,
                                            jitter,
                                            reinterpret_cast<const int32_t*>(bits.data),
                                            table,
                                            static_cast<int32_t>(table.size(0)) - 1,
                                            tail,
                                            step_min,
                                            step_max,
                                            cone,
                                            static_cast<int32_t>(bits.size(0)),
                                            resolution,
                                            most,
                                            origins.size(0),
                                            first,
                                            counts,
                                            offsets,
                                            positions,
                                            t,
                                            dt,
                                            ray,
                                            pointer(stream)};
        counts ? n3d::run::ray_march_count<float>(args) : n3d::run::ray_march_fill<float>(args);
      },
      nb::arg("origins"), nb::arg("directions"), nb::arg("t_min"), nb::arg("t_max"), nb::arg("jitter").none(),
      nb::arg("bits"), nb::arg("resolution"), nb::arg("table"), nb::arg("tail"), nb::arg("step_min"),
      nb::arg("step_max"), nb::arg("cone"), nb::arg("most"), nb::arg("stream"), nb::arg("first"),
      nb::arg("counts") = nb::none(), nb::arg("offsets") = nb::none(), nb::arg("positions") = nb::none(),
      nb::arg("t") = nb::none(), nb::arg("dt") = nb::none(), nb::arg("ray") = nb::none(), Release());
  def<float>(m);
  def<double>(m);
  m.def(
      "pack_bits",
      [](Tensor<float> density, Tensor<float> threshold, Tensor<uint8_t> bits, int64_t resolution, uintptr_t stream) {
        n3d::run::pack_bits<float>({density, threshold, bits, bits.size(0), resolution, pointer(stream)});
      },
      Release());
  m.def(
      "compact",
      [](Tensor<float> positions, Tensor<float> t, Tensor<float> dt, Tensor<int64_t> offsets,
         Tensor<int64_t> new_offsets, Tensor<float> new_positions, Tensor<float> new_t, Tensor<float> new_dt,
         Tensor<int32_t> new_ray, Tensor<int64_t> indices, uintptr_t stream) {
        n3d::run::compact<float>({positions, t, dt, offsets, new_offsets, new_positions, new_t, new_dt, new_ray,
                                  indices, offsets.size(0) - 1, pointer(stream)});
      },
      Release());
}
