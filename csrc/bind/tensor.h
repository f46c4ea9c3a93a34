// Torch tensors as kernel arguments, without linking torch.
//
// Tensor<T> accepts a contiguous torch.Tensor of dtype T on this module's device, or None (data == nullptr). The dtype
// takes part in overload resolution, so a kernel bound for float and double picks the instantiation by its arguments.
// Plain attribute reads instead of DLPack: no stream negotiation, no refusal of tensors that require gradients, under a
// µs.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <type_traits>

namespace nb = nanobind;

namespace n3d {

template <class T>
struct Tensor {
  T* data = nullptr;
  int64_t shape[4] = {0, 0, 0, 0};
  int ndim = 0;
  operator T*() const { return data; }
  int64_t size(int i) const { return shape[i]; }
};

template <class T>
constexpr const char* torch_dtype() {
  using U = std::remove_const_t<T>;
  if constexpr (std::is_same_v<U, float>) return "float32";
  if constexpr (std::is_same_v<U, double>) return "float64";
  if constexpr (std::is_same_v<U, int32_t>) return "int32";
  if constexpr (std::is_same_v<U, int64_t>) return "int64";
  if constexpr (std::is_same_v<U, int16_t>) return "int16";
  if constexpr (std::is_same_v<U, uint8_t>) return "uint8";
  if constexpr (std::is_same_v<U, bool>) return "bool";
}

#if defined(N3D_CUDA_MODULE) && !defined(N3D_EMULATED)  // tests/cuda_on_cpu: kernels for CUDA that run on the CPU
constexpr const char* kOnThisDevice = "is_cuda";
#else
constexpr const char* kOnThisDevice = "is_cpu";
#endif

}  // namespace n3d

// nanobind refuses None before it asks a caster, unless told otherwise, as for std::optional.
template <class T>
struct nanobind::detail::has_arg_defaults<n3d::Tensor<T>> : std::true_type {};

template <class T>
struct nanobind::detail::type_caster<n3d::Tensor<T>> {
  NB_TYPE_CASTER(n3d::Tensor<T>, const_name("torch.Tensor"))

  bool from_python(handle src, uint8_t, cleanup_list*) noexcept {
    value = {};
    if (src.is_none()) return true;
    try {
      static PyObject* dtype = object(module_::import_("torch").attr(n3d::torch_dtype<T>())).release().ptr();
      if (object(src.attr("dtype")).ptr() != dtype) return false;
      if (!cast<bool>(src.attr(n3d::kOnThisDevice))) return false;
      if (!cast<bool>(src.attr("is_contiguous")())) return false;
      nanobind::tuple shape = borrow<nanobind::tuple>(object(src.attr("shape")));
      value.ndim = static_cast<int>(shape.size());
      if (value.ndim > 4) return false;
      for (int i = 0; i < value.ndim; ++i) value.shape[i] = cast<int64_t>(shape[i]);
      value.data = reinterpret_cast<T*>(cast<uintptr_t>(src.attr("data_ptr")()));
      return true;
    } catch (...) {
      return false;
    }
  }

  static handle from_cpp(const n3d::Tensor<T>&, rv_policy, cleanup_list*) noexcept { return handle(); }
};
