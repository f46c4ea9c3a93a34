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

template <class T, void (*forward)(const MlpForwardArgs<T>&), void (*backward)(const MlpBackwardArgs<T>&)>
void def(nb::module_& m, const char* forward_name, const char* backward_name) {
  def_kernel(
      m, forward_name,
      +[](const Widths& widths, bool bias, int hidden_activation, int output_activation, Tensor<const T> params,
          Tensor<const T> x0, OptionalTensor<const T> x1, Tensor<T> y, OptionalTensor<T> hidden, uintptr_t stream) {
        const MlpShape shape = shape_of(widths, bias, hidden_activation, output_activation);
        const int columns = static_cast<int>(x0.size(1));
        forward({shape, x0.size(0), params, rows(x0, x1, columns, shape.in(0)), y, hidden, pointer(stream)});
      },
      "widths", "bias", "hidden_activation", "output_activation", "params", "x0", "x1", "y", "hidden", "stream");
  def_kernel(
      m, backward_name,
      +[](const Widths& widths, bool bias, int hidden_activation, int output_activation, Tensor<const T> params,
          Tensor<const T> x0, OptionalTensor<const T> x1, Tensor<const T> y, Tensor<const T> hidden,
          Tensor<const T> v_y, OptionalTensor<T> v_x0, OptionalTensor<T> v_x1, Tensor<T> partials,
          OptionalTensor<T> v_params, uintptr_t stream) {
        const MlpShape shape = shape_of(widths, bias, hidden_activation, output_activation);
        const int columns = static_cast<int>(x0.size(1));
        backward({shape, x0.size(0), params, rows(x0, x1, columns, shape.in(0)), y, hidden, v_y,
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
  def<float, run::mlp_forward<float>, run::mlp_backward<float>>(m, "mlp_forward", "mlp_backward");
  def<double, run::mlp_forward<double>, run::mlp_backward<double>>(m, "mlp_forward", "mlp_backward");
#ifdef N3D_CUDA_MODULE
  m.def("mlp_tensor_cores", &cuda::mlp_tensor_cores, "Whether this GPU runs the kernels in bfloat16.");
  m.def("mlp_workspace_bfloat16", [](const Widths& widths, int64_t n) {
    const MlpShape shape = shape_of(widths, true, 0, 0);
    const MlpTensorRows rows(n);
    return std::pair(rows.warp_tiles() * shape.kept_pairs(shape.layers - 1), rows.chunks() * shape.partial());
  });
  def<float, cuda::mlp_forward_bfloat16, cuda::mlp_backward_bfloat16>(m, "mlp_forward_bfloat16",
                                                                      "mlp_backward_bfloat16");
#endif
}
