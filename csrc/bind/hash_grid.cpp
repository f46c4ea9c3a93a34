#include "ops/hash_grid.h"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>
#include <vector>

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(hash_grid_encode, HashGridArgs)
N3D_OP(hash_grid_scatter, HashGridArgs)
N3D_OP(hash_grid_position, HashGridArgs)

namespace {

using Level = std::tuple<double, double, int64_t, uint32_t, uint32_t, bool>;  // the fields of HashGridLevel, in order

template <class T>
void def(nb::module_& m, const char* name, void (*run)(const n3d::HashGridArgs<T>&)) {
  using n3d::Tensor;
  m.def(
      name,
      [run](Tensor<const T> positions, Tensor<const T> direction, Tensor<const T> table, Tensor<const T> v_features,
            Tensor<T> out, Tensor<T> workspace, Tensor<const T> bound, int64_t n, int32_t features,
            const std::vector<Level>& levels, uintptr_t stream) {
        n3d::HashGridArgs<T> args{};
        args.positions = positions, args.direction = direction, args.table = table, args.v_features = v_features;
        args.out = out, args.workspace = workspace, args.workspace_size = workspace.size(0);
        args.bound = bound, args.deterministic = bound != nullptr;
        args.n = n, args.features = features, args.levels = static_cast<int32_t>(levels.size());
        for (size_t l = 0; l < levels.size(); ++l) {
          const auto& [scale, weight, offset, size, resolution, hashed] = levels[l];
          args.level[l] = {scale, weight, offset, size, resolution, hashed};
        }
        args.stream = reinterpret_cast<void*>(stream);
        run(args);
      },
      nb::arg("positions"), nb::arg("direction").none(), nb::arg("table").none(), nb::arg("v_features").none(),
      nb::arg("out"), nb::arg("workspace").none(), nb::arg("bound").none(), nb::arg("n"), nb::arg("features"),
      nb::arg("levels"), nb::arg("stream"), nb::call_guard<nb::gil_scoped_release>());
}

template <class T>
void def_all(nb::module_& m) {
  def<T>(m, "hash_grid_encode", n3d::run::hash_grid_encode<T>);
  def<T>(m, "hash_grid_scatter", n3d::run::hash_grid_scatter<T>);
  def<T>(m, "hash_grid_position", n3d::run::hash_grid_position<T>);
}

}  // namespace

void bind_hash_grid(nb::module_& m) {
  def_all<float>(m);
  def_all<double>(m);
}
