#include "ops/lbs.h"

#include "bind/tensor.h"
#include "core/dispatch.h"

N3D_OP(blend_skin, BlendSkinArgs)
N3D_OP(blend_skin_vjp, BlendSkinVjpArgs)
N3D_OP(kinematics, KinematicsArgs)
N3D_OP(kinematics_vjp, KinematicsVjpArgs)
N3D_OP(rotation_exp, RotationExpArgs)
N3D_OP(rotation_exp_vjp, RotationExpVjpArgs)

namespace {

using namespace n3d;

template <class T>
SkinInputs<T> inputs(const Tensor<T>& rest, const Tensor<T>& directions, const Tensor<T>& coefficients,
                     const Tensor<int32_t>& vertex_joints, const Tensor<T>& weights, const Tensor<T>& transforms) {
  return {rest,
          directions,
          coefficients,
          vertex_joints,
          weights,
          transforms,
          transforms.size(0),
          weights.size(0),
          coefficients.size(1),
          weights.size(1),
          transforms.size(1),
          rest.ndim == 3,
          transforms.size(2) == 2};
}

template <class T>
void def(nb::module_& m) {
  def_kernel(
      m, "blend_skin",
      +[](Tensor<T> rest, Tensor<T> directions, Tensor<T> coefficients, Tensor<int32_t> vertex_joints,
          Tensor<T> weights, Tensor<T> transforms, Tensor<T> vertices, OptionalTensor<T> shaped,
          OptionalTensor<T> workspace, uintptr_t stream) {
        run::blend_skin<T>({inputs(rest, directions, coefficients, vertex_joints, weights, transforms), vertices,
                            shaped, workspace, pointer(stream)});
      },
      "rest", "directions", "coefficients", "vertex_joints", "weights", "transforms", "vertices", "shaped", "workspace",
      "stream");
  def_kernel(
      m, "blend_skin_vjp",
      +[](Tensor<T> rest, Tensor<T> directions, Tensor<T> coefficients, Tensor<int32_t> vertex_joints,
          Tensor<T> weights, Tensor<T> transforms, Tensor<T> shaped, Tensor<T> v_vertices, OptionalTensor<T> v_shaped,
          OptionalTensor<T> v_coefficients, OptionalTensor<T> v_transforms, OptionalTensor<T> v_weights,
          OptionalTensor<T> workspace, OptionalTensor<T> partials, OptionalTensor<int64_t> by_joint,
          OptionalTensor<int64_t> offsets, uintptr_t stream) {
        run::blend_skin_vjp<T>({inputs(rest, directions, coefficients, vertex_joints, weights, transforms), shaped,
                                v_vertices, v_shaped, v_coefficients, v_transforms, v_weights, workspace, partials,
                                partials.size(0), partials.size(2), by_joint, offsets, pointer(stream)});
      },
      "rest", "directions", "coefficients", "vertex_joints", "weights", "transforms", "shaped", "v_vertices",
      "v_shaped", "v_coefficients", "v_transforms", "v_weights", "workspace", "partials", "by_joint", "offsets",
      "stream");
  def_kernel(
      m, "kinematics",
      +[](Tensor<T> rotations, Tensor<T> rest, Tensor<int32_t> parents, Tensor<T> transforms, Tensor<T> posed,
          uintptr_t stream) {
        run::kinematics<T>({rotations, rest, parents, transforms, posed, rest.size(0), rest.size(1), pointer(stream)});
      },
      "rotations", "rest", "parents", "transforms", "posed", "stream");
  def_kernel(
      m, "kinematics_vjp",
      +[](Tensor<T> rotations, Tensor<T> rest, Tensor<int32_t> parents, Tensor<T> transforms,
          OptionalTensor<T> v_transforms, OptionalTensor<T> v_posed, Tensor<T> v_rotations, Tensor<T> v_rest,
          Tensor<T> workspace, uintptr_t stream) {
        run::kinematics_vjp<T>({rotations, rest, parents, transforms, v_transforms, v_posed, v_rotations, v_rest,
                                workspace, rest.size(0), rest.size(1), pointer(stream)});
      },
      "rotations", "rest", "parents", "transforms", "v_transforms", "v_posed", "v_rotations", "v_rest", "workspace",
      "stream");
  def_kernel(
      m, "rotation_exp",
      +[](Tensor<T> vectors, Tensor<T> rotations, uintptr_t stream) {
        run::rotation_exp<T>({vectors, rotations, vectors.size(0), pointer(stream)});
      },
      "vectors", "rotations", "stream");
  def_kernel(
      m, "rotation_exp_vjp",
      +[](Tensor<T> vectors, Tensor<T> v_rotations, Tensor<T> v_vectors, uintptr_t stream) {
        run::rotation_exp_vjp<T>({vectors, v_rotations, v_vectors, vectors.size(0), pointer(stream)});
      },
      "vectors", "v_rotations", "v_vectors", "stream");
}

}  // namespace

void bind_lbs(nb::module_& m) {
  def<float>(m);
  def<double>(m);
}
