#include "ops/splat_pull.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(splat_pull, SplatPullArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "splat_pull",
      +[](Tensor<T> v_xy, Tensor<T> radius, Tensor<T> pull, Tensor<T> views, double half_width, double half_height,
          uintptr_t stream) {
        run::splat_pull<T>({v_xy, radius, pull, views, pull.size(0), half_width, half_height, pointer(stream)});
      },
      "v_xy", "radius", "pull", "views", "half_width", "half_height", "stream");
}

}  // namespace

void bind_splat_pull(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
