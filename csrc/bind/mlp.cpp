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

using namespace n3d;
using Widths = std::vector<int>;  // input, hidden…, output

MlpShape shape_of(const Widths& widths, bool bias, int hidden, int output) {
  MlpShape s{};
  s.layers = static_cast<int>(widths.size()) - 1;
  for (size_t i = 0; i < widths.size(); ++i) s.width[i] = widths[i];
  s.bias = bias;
  s.hidden = static_cast<Activation>(hidden);
  s.output = static_cast<Activation>(output);
  return s;
}

// Two arrays side by side: `columns` of all belong to the first.
template <class T>
MlpRows<T> rows(const Tensor<T>& a, const Tensor<T>& b, int columns, int all) {
  return {{a, b}, {columns, all - columns}, {columns, all - columns}};
}

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "mlp_forward",
      +[](const Widths& widths, bool bias, int hidden_activation, int output_activation, Tensor<const T> params,
          Tensor<const T> x0, OptionalTensor<const T> x1, Tensor<T> y, OptionalTensor<T> hidden, uintptr_t stream) {
        const MlpShape shape = shape_of(widths, bias, hidden_activation, output_activation);
        const int columns = static_cast<int>(x0.size(1));
        run::mlp_forward<T>(
            {shape, x0.size(0), params, rows(x0, x1, columns, shape.in(0)), y, hidden, pointer(stream)});
      },
      "widths", "bias", "hidden_activation", "output_activation", "params", "x0", "x1", "y", "hidden", "stream");
  def_kernel(
      m, "mlp_backward",
      +[](const Widths& widths, bool bias, int hidden_activation, int output_activation, Tensor<const T> params,
          Tensor<const T> x0, OptionalTensor<const T> x1, Tensor<const T> y, Tensor<const T> hidden,
          Tensor<const T> v_y, OptionalTensor<T> v_x0, OptionalTensor<T> v_x1, Tensor<T> partials,
          OptionalTensor<T> v_params, uintptr_t stream) {
        const MlpShape shape = shape_of(widths, bias, hidden_activation, output_activation);
        const int columns = static_cast<int>(x0.size(1));
        run::mlp_backward<T>({shape, x0.size(0), params, rows(x0, x1, columns, shape.in(0)), y, hidden, v_y,
                              rows(v_x0, v_x1, columns, shape.in(0)), partials, v_params, pointer(stream)});
      },
      "widths", "bias", "hidden_activation", "output_activation", "params", "x0", "x1", "y", "hidden", "v_y", "v_x0",
      "v_x1", "partials", "v_params", "stream");
}

}  // namespace

void bind_mlp(nb::module_& m) {
  // Scalars that n rows need of `hidden` and of `partials`.
  m.def("mlp_workspace", [](const Widths& widths, int64_t n) {
    const MlpShape shape = shape_of(widths, true, 0, 0);
    return std::pair(shape.hidden_size(n), shape.chunks(n) * shape.partial());
  });
  def<float>(m);
  def<double>(m);
}
