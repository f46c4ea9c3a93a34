#include "ops/ssim.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(ssim, SsimArgs)
N3D_OP(ssim_vjp, SsimVjpArgs)

namespace {

using namespace n3d;

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "ssim",
      +[](Tensor<T> image, Tensor<T> truth, OptionalTensor<T> partials, Tensor<double> sums, Tensor<T> means,
          uintptr_t stream) {
        run::ssim<T>(
            {image, truth, partials, sums, means, image.size(0), image.size(1), image.size(2), pointer(stream)});
      },
      "image", "truth", "partials", "sums", "means", "stream");
  def_kernel(
      m, "ssim_vjp",
      +[](Tensor<T> image, Tensor<T> truth, Tensor<T> partials, Tensor<T> v_means, Tensor<T> v_image,
          uintptr_t stream) {
        run::ssim_vjp<T>(
            {image, truth, partials, v_means, v_image, image.size(0), image.size(1), image.size(2), pointer(stream)});
      },
      "image", "truth", "partials", "v_means", "v_image", "stream");
}

}  // namespace

void bind_ssim(nb::module_& m) {
  m.def("ssim_pieces", &n3d::ssim_pieces);
  def<float>(m);
  def<double>(m);
}
