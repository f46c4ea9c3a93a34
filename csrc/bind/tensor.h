// Torch tensors as kernel arguments, without linking torch.
//
// Tensor<T> is a contiguous torch.Tensor of dtype T on this module's device, OptionalTensor<T> that or None (data ==
// nullptr). The dtype takes part in overload resolution, so a kernel bound for float and double picks the instantiation
// by its arguments. Plain attribute reads instead of DLPack: no stream negotiation, no refusal of tensors that require
// gradients, under a µs.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>
#include <type_traits>

namespace nb = nanobind;

namespace n3d {

template <class T>
struct Tensor {
  T* data = nullptr;
  int64_t shape[4] = {0, 0, 0, 0};
  int ndim = 0;
  bool given = false;
  operator T*() const { return data; }
  int64_t size(int i) const { return shape[i]; }
};

template <class T>
struct OptionalTensor : Tensor<T> {};

inline void* pointer(uintptr_t stream) { return reinterpret_cast<void*>(stream); }

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

// nanobind refuses None before it asks a caster, unless told otherwise, as for std::optional. Tensor's caster lets it
// through as well: `def_kernel` then says which argument it was, where an overload that does not fit could not.
template <class T>
struct nanobind::detail::has_arg_defaults<n3d::Tensor<T>> : std::true_type {};
template <class T>
struct nanobind::detail::has_arg_defaults<n3d::OptionalTensor<T>> : std::true_type {};

namespace n3d {

template <class T>
bool read_tensor(nb::handle src, Tensor<T>& out) noexcept {
  out = {};
  if (src.is_none()) return true;
  try {
    static PyObject* dtype = nb::object(nb::module_::import_("torch").attr(torch_dtype<T>())).release().ptr();
    if (nb::object(src.attr("dtype")).ptr() != dtype) return false;
    if (!nb::cast<bool>(src.attr(kOnThisDevice))) return false;
    if (!nb::cast<bool>(src.attr("is_contiguous")())) return false;
    nb::tuple shape = nb::borrow<nb::tuple>(nb::object(src.attr("shape")));
    out.ndim = static_cast<int>(shape.size());
    if (out.ndim > 4) return false;
    for (int i = 0; i < out.ndim; ++i) out.shape[i] = nb::cast<int64_t>(shape[i]);
    out.data = reinterpret_cast<T*>(nb::cast<uintptr_t>(src.attr("data_ptr")()));
    out.given = true;
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace n3d

template <class T>
struct nanobind::detail::type_caster<n3d::Tensor<T>> {
  NB_TYPE_CASTER(n3d::Tensor<T>, const_name("torch.Tensor"))
  bool from_python(handle src, uint8_t, cleanup_list*) noexcept { return n3d::read_tensor(src, value); }
  static handle from_cpp(const n3d::Tensor<T>&, rv_policy, cleanup_list*) noexcept { return handle(); }
};

template <class T>
struct nanobind::detail::type_caster<n3d::OptionalTensor<T>> {
  NB_TYPE_CASTER(n3d::OptionalTensor<T>, const_name("torch.Tensor | None"))
  bool from_python(handle src, uint8_t, cleanup_list*) noexcept { return n3d::read_tensor<T>(src, value); }
  static handle from_cpp(const n3d::OptionalTensor<T>&, rv_policy, cleanup_list*) noexcept { return handle(); }
};

namespace n3d {

template <class T>
void require(const char*, const char*, const T&) {}
template <class T>
void require(const char* kernel, const char* name, const Tensor<T>& tensor) {
  if (!tensor.given) throw nb::type_error((std::string(kernel) + ": " + name + " must be a tensor, not None").c_str());
}
template <class T>
void require(const char*, const char*, const OptionalTensor<T>&) {}

// A kernel with its arguments' names, by which alone they can be given: a dozen tensors in a row are too easy to swap.
// run: a lambda without captures; it runs without the GIL.
template <class R, class... Args, class... Names>
void def_kernel(nb::module_& m, const char* kernel, R (*run)(Args...), Names... names) {
  static_assert(sizeof...(Args) == sizeof...(Names), "a name for each argument");
  m.def(
      kernel,
      [=](Args... args) {
        (require(kernel, names, args), ...);
        nb::gil_scoped_release release;
        return run(args...);
      },
      nb::kw_only(), nb::arg(names)...);
}

}  // namespace n3d
