#include "ops/mlp.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <utility>
#include <vector>

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(mlp_forward, MlpForwardArgs)
N3D_OP(mlp_backward, MlpBackwardArgs)

namespace {

using n3d::Tensor;
using Widths = std::vector<int>;  // input, hidden…, output

n3d::MlpShape shape_of(const Widths& widths, bool bias, int hidden, int output) {
  n3d::MlpShape s{};
  s.layers = static_cast<int>(widths.size()) - 1;
  for (size_t i = 0; i < widths.size(); ++i) s.width[i] = widths[i];
  s.bias = bias;
  s.hidden = static_cast<n3d::Activation>(hidden);
  s.output = static_cast<n3d::Activation>(output);
  return s;
}

// Two arrays side by side: `columns` of all belong to the first.
template <class T>
n3d::MlpRows<T> rows(const Tensor<T>& a, const Tensor<T>& b, int columns, int all) {
  return {{a, b}, {columns, all - columns}, {columns, all - columns}};
}

template <class T>
void def(nb::module_& m) {
  m.def(
      "mlp_forward",
      [](const Widths& widths, bool bias, int hidden_activation, int output_activation, Tensor<const T> params,
         Tensor<const T> x0, Tensor<const T> x1, Tensor<T> y, Tensor<T> hidden, uintptr_t stream) {
        const n3d::MlpShape shape = shape_of(widths, bias, hidden_activation, output_activation);
        const int columns = static_cast<int>(x0.size(1));
        n3d::run::mlp_forward<T>({shape, x0.size(0), params, rows(x0, x1, columns, shape.in(0)), y, hidden,
                                  reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "mlp_backward",
      [](const Widths& widths, bool bias, int hidden_activation, int output_activation, Tensor<const T> params,
         Tensor<const T> x0, Tensor<const T> x1, Tensor<const T> y, Tensor<const T> hidden, Tensor<const T> v_y,
         Tensor<T> v_x0, Tensor<T> v_x1, Tensor<T> partials, Tensor<T> v_params, uintptr_t stream) {
        const n3d::MlpShape shape = shape_of(widths, bias, hidden_activation, output_activation);
        const int columns = static_cast<int>(x0.size(1));
        n3d::run::mlp_backward<T>({shape, x0.size(0), params, rows(x0, x1, columns, shape.in(0)), y, hidden, v_y,
                                   rows(v_x0, v_x1, columns, shape.in(0)), partials, v_params,
                                   reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_mlp(nb::module_& m) {
  // Scalars that n rows need of `hidden` and of `partials`.
  m.def("mlp_workspace", [](const Widths& widths, int64_t n) {
    const n3d::MlpShape shape = shape_of(widths, true, 0, 0);
    return std::pair(shape.hidden_size(n), shape.chunks(n) * shape.partial());
  });
  def<float>(m);
  def<double>(m);
}
