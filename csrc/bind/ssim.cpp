#include "ops/ssim.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(ssim, SsimArgs)
N3D_OP(ssim_vjp, SsimVjpArgs)

namespace {

template <class T>
void def(nb::module_& m) {
  using n3d::Tensor;
  m.def(
      "ssim",
      [](Tensor<T> image, Tensor<T> truth, Tensor<T> partials, Tensor<double> sums, Tensor<T> mean, uintptr_t stream) {
        n3d::run::ssim<T>({image, truth, partials, sums, mean, image.size(0), image.size(1), image.size(2),
                           reinterpret_cast<void*>(stream)});
      },
      nb::arg("image"), nb::arg("truth"), nb::arg("partials").none(), nb::arg("sums"), nb::arg("mean"),
      nb::arg("stream"), nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "ssim_vjp",
      [](Tensor<T> image, Tensor<T> truth, Tensor<T> partials, Tensor<T> v_mean, Tensor<T> v_image, uintptr_t stream) {
        n3d::run::ssim_vjp<T>({image, truth, partials, v_mean, v_image, image.size(0), image.size(1), image.size(2),
                               reinterpret_cast<void*>(stream)});
      },
      nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_ssim(nb::module_& m) {
  m.def("ssim_pieces", &n3d::ssim_pieces);
  def<float>(m);
  def<double>(m);
}
