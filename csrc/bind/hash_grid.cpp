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

using namespace n3d;

using Level = std::tuple<double, double, int64_t, uint32_t, uint32_t, bool>;  // the fields of HashGridLevel, in order

template <class T>
HashGridArgs<T> shape(const Tensor<const T>& positions, const OptionalTensor<const T>& direction,
                      const OptionalTensor<T>& workspace, int32_t features, const std::vector<Level>& levels,
                      uintptr_t stream) {
  HashGridArgs<T> args{};
  args.positions = positions, args.direction = direction, args.n = positions.size(0);
  args.workspace = workspace, args.workspace_size = workspace.size(0);
  args.features = features, args.levels = static_cast<int32_t>(levels.size());
  for (size_t l = 0; l < levels.size(); ++l) {
    const auto& [scale, weight, offset, size, resolution, hashed] = levels[l];
    args.level[l] = {scale, weight, offset, size, resolution, hashed};
  }
  args.stream = pointer(stream);
  return args;
}

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "hash_grid_encode",
      +[](Tensor<const T> positions, OptionalTensor<const T> direction, Tensor<const T> table, Tensor<T> out,
          OptionalTensor<T> workspace, int32_t features, const std::vector<Level>& levels, uintptr_t stream) {
        HashGridArgs<T> args = shape(positions, direction, workspace, features, levels, stream);
        args.table = table, args.out = out;
        run::hash_grid_encode<T>(args);
      },
      "positions", "direction", "table", "out", "workspace", "features", "levels", "stream");
  // bound: on CUDA, asks for ordered sums, for which `workspace` holds 64 bits for each scalar of `out`.
  def_kernel(
      m, "hash_grid_scatter",
      +[](Tensor<const T> positions, OptionalTensor<const T> direction, Tensor<const T> v_features, Tensor<T> out,
          OptionalTensor<T> workspace, OptionalTensor<const T> bound, int32_t features,
          const std::vector<Level>& levels, uintptr_t stream) {
        HashGridArgs<T> args = shape(positions, direction, workspace, features, levels, stream);
        args.v_features = v_features, args.out = out;
        args.bound = bound, args.deterministic = bound.given;
        run::hash_grid_scatter<T>(args);
      },
      "positions", "direction", "v_features", "out", "workspace", "bound", "features", "levels", "stream");
  def_kernel(
      m, "hash_grid_position",
      +[](Tensor<const T> positions, OptionalTensor<const T> direction, Tensor<const T> table,
          Tensor<const T> v_features, Tensor<T> out, OptionalTensor<T> workspace, int32_t features,
          const std::vector<Level>& levels, uintptr_t stream) {
        HashGridArgs<T> args = shape(positions, direction, workspace, features, levels, stream);
        args.table = table, args.v_features = v_features, args.out = out;
        run::hash_grid_position<T>(args);
      },
      "positions", "direction", "table", "v_features", "out", "workspace", "features", "levels", "stream");
}

}  // namespace

void bind_hash_grid(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
