"""A parametric body: shape and pose in, vertices and joints out. SMPL, SMPL-H, SMPL-X and Anny are data for it.

Loper et al., "SMPL: A Skinned Multi-Person Linear Model" (SIGGRAPH Asia 2015), eqs. 2-10. With shape coefficients β,
joint rotations R_k relative to each one's parent, template t, shapes S, pose correctives P and joints J at rest:

    J(β) = J_0 + Σ_s β_s J_s                                            joints of the shape, linear as vertices are
    t_i(β, θ) = t_i + Σ_s β_s S_si + Σ_p (R(θ) − I)_p P_pi              shape and pose correctives
    v_i = Σ_k w_ik G_k(θ, J(β)) t_i(β, θ)                               linear blend skinning; or by dual quaternions

    model = load_model("anny")
    posed = model(shape=model.coefficients(age=0.3, gender=1.0), pose=torch.zeros(1, model.joints, 3))
    posed.vertices, posed.joints
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.body.shape_space import ShapeSpace
from neural3d.geometry.rotations import (
    dual_quaternion_from_rigid,
    rotation_from_6d,
    rotation_from_axis_angle,
    rotation_from_quaternion,
)
from neural3d.geometry.skeletons import Skeleton, check_tree
from neural3d.ops.lbs import blend_skin, kinematics


@dataclass(frozen=True)
class Posed:
    """B bodies, in metres."""

    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 3"]


@dataclass(frozen=True)
class Hands:
    """Principal components of 15 joints' axis-angles of each hand, left first, and their means (Romero et al. 2017)."""

    components: Float[Tensor, "2 45 45"]
    mean: Float[Tensor, "2 45"]
    first: int  # the first of the left hand's joints; the right hand's follow

    def __call__(self, left: Float[Tensor, "B k"], right: Float[Tensor, "B k"]) -> Float[Tensor, "B 30 3"]:
        """Axis-angles of both hands from the first k components each."""
        parts = [self.mean[i] + c @ self.components[i, : c.shape[1]] for i, c in enumerate((left, right))]
        return torch.cat(parts, 1).reshape(-1, 30, 3)

    def to(self, device: torch.device | str | None, dtype: torch.dtype | None) -> Hands:
        return replace(self, components=self.components.to(device, dtype), mean=self.mean.to(device, dtype))


@dataclass(frozen=True)
class BodyModel:
    """What a file of a parametric body holds, and the function it stands for. All tensors on one device, of one type.

    template: V vertices at rest, metres, in the file's own frame, +Y up and facing +Z in all that we read.
    faces: triangles. shapes: what a coefficient of 1 adds. correctives: what each entry of R − I of the joints but the
    root's adds, or none. rest, rest_shapes: where joints are, and what a coefficient adds there. parents: −1 of the
    root, the first; before children. bones, weights: of each vertex K joints and their shares.
    regressor: joints as weighted means of vertices, where the file says so; `rest` and `rest_shapes` follow from it.
    hands: how few numbers pose both hands (SMPL-H and SMPL-X).
    uv, uv_faces: texture coordinates with v up, and which of them each triangle's corners have.
    blend: how the transforms of a vertex's joints blend, see `ops.lbs`. By dual quaternions twisted limbs keep their
    girth; the SMPL family is made for the linear way, whose faults its correctives mend.
    """

    name: str
    template: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    shapes: Float[Tensor, "S V 3"]
    correctives: Float[Tensor, "P V 3"]
    rest: Float[Tensor, "J 3"]
    rest_shapes: Float[Tensor, "S J 3"]
    parents: tuple[int, ...]
    joint_names: tuple[str, ...]
    bones: Int[Tensor, "V K"]
    weights: Float[Tensor, "V K"]
    space: ShapeSpace
    regressor: Float[Tensor, "J V"] | None = None
    uv: Float[Tensor, "U 2"] | None = None
    uv_faces: Int[Tensor, "F 3"] | None = None
    hands: Hands | None = None
    blend: Literal["linear", "dual_quaternion"] = "linear"

    def __post_init__(self) -> None:
        check_tree(self.parents)

    @property
    def joints(self) -> int:
        return len(self.parents)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> BodyModel:
        moved: dict[str, Any] = {}
        for part in fields(self):
            if isinstance(value := getattr(self, part.name), Tensor):
                moved[part.name] = value.to(device, dtype if value.is_floating_point() else None)
        hands = None if self.hands is None else self.hands.to(device, dtype)
        return replace(self, space=self.space.to(device, dtype), hands=hands, **moved)

    @cached_property
    def _directions(self) -> Float[Tensor, "S+P V 3"]:
        """Shapes and correctives in one block, which one pass over memory adds."""
        return torch.cat([self.shapes, self.correctives])

    @cached_property
    def _tree(self) -> Int[Tensor, "J"]:
        return torch.tensor(self.parents, dtype=torch.int32)  # on the CPU, where it is read

    def coefficients(self, **named: float | Tensor) -> Float[Tensor, "B S"]:
        """Of shapes, from named values, all others at their defaults: see `ShapeSpace`. Differentiable."""
        return self.space(**named)

    def with_shapes(
        self, template: Tensor, shapes: Tensor, rest: Tensor, rest_shapes: Tensor, space: ShapeSpace
    ) -> BodyModel:
        """The same body with another template and other shapes."""
        return replace(self, template=template, shapes=shapes, rest=rest, rest_shapes=rest_shapes, space=space)

    def skeleton(self, shape: Float[Tensor, "S"] | None = None) -> Skeleton:
        """At rest."""
        rest = self.rest if shape is None else self.rest + torch.tensordot(shape, self.rest_shapes, 1)
        return Skeleton(self.joint_names, self.parents, rest)

    def __call__(
        self,
        shape: Float[Tensor, "B S"] | None = None,
        pose: Float[Tensor, "B J 3"] | Float[Tensor, "B J 4"] | Float[Tensor, "B J 3 3"] | None = None,
        translation: Float[Tensor, "B 3"] | None = None,
    ) -> Posed:
        """shape: fewer coefficients than there are leave the last ones at 0; None: the template. pose: of each joint
        relative to its parent, as axis-angle in radians, quaternion wxyz, the first two columns of its matrix, or all
        of it; None: at rest. Batches of 1 serve all. Differentiable in all three.

        Raises ValueError where sizes do not fit.
        """
        like = self.template
        shape = like.new_zeros(1, 0) if shape is None else shape
        if shape.shape[1] > len(self.shapes):
            raise ValueError(f"shape has {shape.shape[1]} coefficients; {self.name} has {len(self.shapes)}")
        rotations = like.new_zeros(1, self.joints, 3) if pose is None else pose
        if rotations.shape[1] != self.joints:
            raise ValueError(f"pose has {rotations.shape[1]} joints; {self.name} has {self.joints}")
        rotations = as_matrices(rotations)
        batch = max(len(shape), len(rotations), 1 if translation is None else len(translation))
        shape = torch.nn.functional.pad(shape, (0, len(self.shapes) - shape.shape[1])).expand(batch, -1)
        rotations = rotations.expand(batch, -1, -1, -1)

        rest = self.rest + torch.tensordot(shape, self.rest_shapes, 1)
        transforms, joints = kinematics(rotations, rest, self._tree)
        added = shape
        if len(self.correctives):
            turned = rotations[:, 1:] - torch.eye(3, dtype=like.dtype, device=like.device)
            added = torch.cat([shape, turned.flatten(1)], 1)
        if self.blend == "dual_quaternion":
            transforms = dual_quaternion_from_rigid(transforms)
        vertices = blend_skin(self.template, self._directions, added, self.bones, self.weights, transforms)
        if translation is not None:
            vertices, joints = vertices + translation[:, None], joints + translation[:, None]
        return Posed(vertices, joints)


def as_matrices(pose: Tensor) -> Float[Tensor, "B J 3 3"]:
    """Rotations as axis-angle (B, J, 3), quaternions wxyz (B, J, 4), two columns (B, J, 6) or matrices."""
    if pose.ndim == 4 and pose.shape[2:] == (3, 3):
        return pose
    if pose.ndim == 3 and pose.shape[2] == 3:
        return rotation_from_axis_angle(pose)
    if pose.ndim == 3 and pose.shape[2] == 4:
        return rotation_from_quaternion(pose)
    if pose.ndim == 3 and pose.shape[2] == 6:
        return rotation_from_6d(pose)
    raise ValueError(f"pose must be (B, J, 3), (B, J, 4), (B, J, 6) or (B, J, 3, 3), not {tuple(pose.shape)}")
