"""Skinning of bodies with blend shapes, and the forward kinematics in front of it.

A body of the SMPL family (Loper et al., "SMPL: a skinned multi-person linear model", SIGGRAPH Asia 2015) is a template
t_v, directions D_mv for shape and pose correctives alike, and K joints j_vk with weights w_vk for each vertex. With
coefficients c_bm and a transform G_bj for each joint, body b is

    p_bv = t_v + Σ_m c_bm D_mv,   x_bv = Σ_k w_vk G_{b j_vk} p_bv

That is linear blending of matrices. What lies about a joint that twists then shrinks towards its axis, at 180° to
nothing. Dual quaternions G = q + ε d (Kavan et al., "Skinning with Dual Quaternions", I3D 2007) blend to rigid ones:

    b + ε e = Σ_k ±w_vk G_{b j_vk},   x_bv = p_bv turned by b / |b|, moved by 2 vec(e b*) / |b|²

where of G and −G, the same transform, that is taken whose turn is nearer to the first joint's.

Kinematics: joint j rests at q_j, its frame parallel to the world's, and turns by R_j about itself below its parent p:

    A_j = A_p [R_j | q_j − q_p],   roots A_j = [R_j | q_j],   G_j = A_j [I | −q_j]

and R_j = exp v_j of an axis-angle vector (Rodrigues): a turn about v by θ = |v|, with s = sin θ / θ and
c = (1 − cos θ) / θ²

    exp v = cos θ I + s [v]× + c v vᵀ

All frames are the body's, all lengths in one unit, as a rule metres.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.ops.native import check, native, served_by_cpu, stream

_CHUNK = 256  # vertices whose gradients are summed together; enough to keep the sums of all chunks small
_PACKS = 32  # bodies come in packs, two at a time; sixteen are in the widest


class _BlendSkin(torch.autograd.Function):
    @staticmethod
    def forward(ctx, template, directions, coefficients, weights, transforms, joints, differentiable):
        inputs = [x.detach().contiguous() for x in (template, directions, coefficients, weights, transforms, joints)]
        bodies, (vertices, device) = len(transforms), (len(weights), weights.device)
        padded = -(-bodies // _PACKS) * _PACKS
        out = weights.new_empty(bodies, vertices, 3)
        shaped = weights.new_empty(vertices, 3, padded) if differentiable else None
        rows = coefficients.shape[1] + transforms.shape[1:].numel()
        native(device).blend_skin(
            **_named(inputs), vertices=out, shaped=shaped, stream=stream(device),
            workspace=weights.new_empty(rows, padded) if served_by_cpu(device) else None,
        )  # fmt: skip
        ctx.save_for_backward(*inputs, shaped)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_vertices):
        *inputs, shaped = ctx.saved_tensors
        template, directions, coefficients, weights, transforms, joints = inputs
        to_template, to_directions, to_coefficients, to_weights, to_transforms, *_ = ctx.needs_input_grad
        bodies, shapes = coefficients.shape
        vertices, posed_by, device = len(weights), transforms.shape[1], weights.device
        scalars = transforms.shape[1:].numel()
        on_cpu = served_by_cpu(device)
        v_shaped = v_vertices.new_empty(v_vertices.shape) if to_template or to_directions or not on_cpu else None
        v_coefficients = torch.empty_like(coefficients) if to_coefficients else None
        v_transforms = torch.empty_like(transforms) if to_transforms else None
        v_weights = torch.zeros_like(weights) if to_weights else None
        workspace = partials = by_joint = offsets = None
        if on_cpu:
            padded = shaped.shape[2]
            workspace = weights.new_empty(scalars, padded)
            partials = weights.new_empty(max(1, -(-vertices // _CHUNK)), shapes + scalars, padded)
        elif to_transforms:
            named, by_joint = joints.flatten().sort(stable=True)
            offsets = torch.searchsorted(named, torch.arange(posed_by + 1, dtype=torch.int32, device=device))
        native(device).blend_skin_vjp(
            **_named(inputs), shaped=shaped, v_vertices=v_vertices.contiguous(), v_shaped=v_shaped,
            v_coefficients=v_coefficients, v_transforms=v_transforms, v_weights=v_weights, workspace=workspace,
            partials=partials, by_joint=by_joint, offsets=offsets, stream=stream(device),
        )  # fmt: skip
        v_template = v_directions = None
        if to_template:
            v_template = v_shaped if template.ndim == 3 else v_shaped.sum(0)
        if to_directions:
            v_directions = (coefficients.T @ v_shaped.view(bodies, 3 * vertices)).view_as(directions)
        return v_template, v_directions, v_coefficients, v_weights, v_transforms, None, None


def _named(inputs: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip(("rest", "directions", "coefficients", "weights", "transforms", "vertex_joints"), inputs))


def blend_skin(
    template: Float[Tensor, "V 3"] | Float[Tensor, "B V 3"],
    directions: Float[Tensor, "M V 3"],
    coefficients: Float[Tensor, "B M"],
    joints: Int[Tensor, "V K"],
    weights: Float[Tensor, "V K"],
    transforms: Float[Tensor, "B J 3 4"] | Float[Tensor, "B J 2 4"],
) -> Float[Tensor, "B V 3"]:
    """Blends shapes and skins them, for B bodies at once; see the module's page for the equations.

    template: one for all bodies or one each. directions: shape and pose correctives behind each other; M may be 0.
    joints: int32, which K joints move a vertex; weights: how much. They are used as they are, whatever their sum; a
    vertex with fewer joints names any with weight 0. transforms: of the rest pose, as from `kinematics`; or these as
    unit dual quaternions, q and d, each wxyz, which blend as such: then only the proportions of weights matter.
    Differentiable in all but joints. float32 or float64, all alike. Directions are read from memory once
    for all bodies.
    Results and gradients do not depend on the number of threads, nor on a GPU from one run to the next.
    Raises ValueError on mismatched shapes, dtypes or devices, and on the CPU where joints names one that is not there
    (on a GPU looking would cost a synchronisation).
    """
    if template.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"template must be float32 or float64, not {template.dtype}")
    dual = transforms.ndim == 4 and transforms.shape[2] == 2
    check("transforms", transforms, (None, None, 2 if dual else 3, 4), template)
    check("joints", joints, (None, None))
    bodies, (vertices, influences) = len(transforms), joints.shape
    check("template", template, (vertices, 3) if template.ndim == 2 else (bodies, vertices, 3))
    check("directions", directions, (None, vertices, 3), template)
    check("coefficients", coefficients, (bodies, len(directions)), template)
    check("weights", weights, (vertices, influences), template)
    if joints.dtype != torch.int32 or joints.device != template.device:
        raise ValueError(f"joints must be int32 on {template.device}, not {joints.dtype} on {joints.device}")
    if joints.device.type == "cpu" and joints.numel():
        low, high = (int(x) for x in joints.aminmax())
        if low < 0 or high >= transforms.shape[1]:
            raise ValueError(f"joints must lie in [0, {transforms.shape[1]}), not [{low}, {high}]")
    floats = (template, directions, coefficients, weights, transforms)
    differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in floats)
    return _BlendSkin.apply(*floats, joints, differentiable)


class _Kinematics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rotations, rest, parents):
        rotations, rest = rotations.detach().contiguous(), rest.detach().contiguous()
        transforms, posed = rest.new_empty(*rest.shape, 4), torch.empty_like(rest)
        native(rest.device).kinematics(
            rotations=rotations, rest=rest, parents=parents, transforms=transforms, posed=posed,
            stream=stream(rest.device),
        )  # fmt: skip
        ctx.save_for_backward(rotations, rest, parents, transforms)
        ctx.set_materialize_grads(False)
        return transforms, posed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_transforms, v_posed):
        rotations, rest, parents, transforms = ctx.saved_tensors
        v_transforms, v_posed = (None if v is None else v.contiguous() for v in (v_transforms, v_posed))
        v_rotations, v_rest = torch.empty_like(rotations), torch.empty_like(rest)
        native(rest.device).kinematics_vjp(
            rotations=rotations, rest=rest, parents=parents, transforms=transforms, v_transforms=v_transforms,
            v_posed=v_posed, v_rotations=v_rotations, v_rest=v_rest, workspace=torch.empty_like(transforms),
            stream=stream(rest.device),
        )  # fmt: skip
        return v_rotations, v_rest, None


def kinematics(
    rotations: Float[Tensor, "B J 3 3"], joints: Float[Tensor, "B J 3"], parents: Int[Tensor, "J"]
) -> tuple[Float[Tensor, "B J 3 4"], Float[Tensor, "B J 3"]]:
    """Forward kinematics of any tree; see the module's page for the equations.

    rotations: each joint's, within its parent's frame. joints: where they are at rest. parents: int32 or int64, each
    joint's parent, which comes before it, or −1 for a root; read on the CPU: kept there, it costs a GPU no wait.
    Returns the transforms G from the rest pose, for `blend_skin`, and the posed joints, the translations of A.
    Differentiable in rotations, which need not be orthonormal, and joints. float32 or float64, both alike.
    Raises ValueError on mismatched shapes, dtypes or devices, and on parents that do not come first.
    """
    if joints.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"joints must be float32 or float64, not {joints.dtype}")
    check("joints", joints, (None, None, 3))
    check("rotations", rotations, (*joints.shape, 3), joints)
    check("parents", parents, (joints.shape[1],))
    if parents.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"parents must be int32 or int64, not {parents.dtype}")
    for joint, parent in enumerate(parents.tolist()):
        if not -1 <= parent < joint:
            raise ValueError(f"parents must come before their children: joint {joint} has parent {parent}")
    return _Kinematics.apply(rotations, joints, parents.to(joints.device, torch.int32))


class _RotationExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vectors):
        vectors = vectors.detach().contiguous()
        rotations = vectors.new_empty(*vectors.shape, 3)
        native(vectors.device).rotation_exp(
            vectors=vectors.view(-1, 3), rotations=rotations.view(-1, 3, 3), stream=stream(vectors.device)
        )
        ctx.save_for_backward(vectors)
        return rotations

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_rotations):
        (vectors,) = ctx.saved_tensors
        v_vectors = torch.empty_like(vectors)
        native(vectors.device).rotation_exp_vjp(
            vectors=vectors.view(-1, 3), v_rotations=v_rotations.contiguous().view(-1, 3, 3),
            v_vectors=v_vectors.view(-1, 3), stream=stream(vectors.device),
        )  # fmt: skip
        return v_vectors


def rotation_exp(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotations about `vectors`' directions by their lengths in radians; see the module's page for the equation.

    One pass where torch's operations take twenty, of microseconds each, and as many back.
    Differentiable once, and exact to rounding, near 0 too. float32 or float64. Raises ValueError on another shape or
    dtype.
    """
    if vectors.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"vectors must be float32 or float64, not {vectors.dtype}")
    if vectors.shape[-1:] != (3,):
        raise ValueError(f"vectors must have shape (…, 3), not {tuple(vectors.shape)}")
    return _RotationExp.apply(vectors)
