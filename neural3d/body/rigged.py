"""From a body model, a shape and a motion to what files and films are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.body.model import BodyModel
from neural3d.body.motion import Motion
from neural3d.body.shape_space import ShapeSpace
from neural3d.files.rigged_gltf import Rigged
from neural3d.geometry.rotations import rotation_from_quaternion

MORPHS = 20  # of linear shapes: those after the first say little, and each costs as much as the body


def shaped(model: BodyModel, values: dict[str, float]) -> BodyModel:
    """The body of these values: its template; its shapes are what changes a single value does, by name.

    A linear shape changes by one; a value between kinds, such as age, goes to either end of its range.
    """
    shape = model.coefficients(**values)

    def change(other: dict[str, float]) -> Float[Tensor, "S"]:
        return (model.coefficients(**other) - shape)[0]

    space = model.space
    changes = {name: change({**values, name: values.get(name, 0.0) + 1}) for name in space.names[:MORPHS]}
    names = [f"{axis.name}{sign}" for axis in space.axes for sign in "-+"] + list(space.mixtures)
    changes |= {name: change(other) for name, other in zip(names, space.neighbours(values)[1:], strict=True)}
    changes = {name: c for name, c in changes.items() if c.abs().max() > 0}
    kept = torch.stack(list(changes.values())) if changes else shape.new_zeros(0, len(model.shapes))

    def blend(template: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return template + torch.tensordot(shape[0], directions, 1), torch.tensordot(kept, directions, 1)

    template, shapes = blend(model.template, model.shapes)
    rest, rest_shapes = blend(model.rest, model.rest_shapes)
    return model.with_shapes(template, shapes, rest, rest_shapes, ShapeSpace(tuple(changes)))


def rigged(body: BodyModel, motion: Motion | None = None) -> Rigged:
    """A shaped body for `files.rigged_gltf`. motion: of its own skeleton.

    Pose correctives are morph targets that the clip drives: a weight for each entry of R − I, straight between frames.
    Corners that share a vertex and not its texture coordinate become vertices of their own.
    """
    faces, vertex, uv = body.faces.numpy(), np.arange(len(body.template)), None
    if body.uv is not None and body.uv_faces is not None:
        pairs = np.stack([faces.ravel(), body.uv_faces.numpy().ravel()], 1)
        pairs, corner = np.unique(pairs, axis=0, return_inverse=True)
        vertex, uv, faces = pairs[:, 0], body.uv.numpy()[pairs[:, 1]], corner.reshape(-1, 3)
    clip: dict[str, Any] = {}
    if motion is not None:
        clip = {
            "clip": motion.name,
            "times": np.arange(len(motion)) / motion.rate,
            "rotations": motion.rotations.numpy(),
            "places": motion.places.numpy(),
        }
        if len(body.correctives):
            turned = rotation_from_quaternion(motion.rotations[:, 1:]) - torch.eye(3)
            unused = torch.zeros(len(motion), len(body.shapes))
            clip["amounts"] = torch.cat([unused, turned.flatten(1)], 1).numpy()
    names = (*body.space.names, *(f"pose{i}" for i in range(len(body.correctives))))
    morphs = {name: added.numpy()[vertex] for name, added in zip(names, [*body.shapes, *body.correctives], strict=True)}
    normals = normals_of(body.template, body.faces)
    normals[normals.norm(dim=1) == 0] = normals.new_tensor(
        [0.0, 1.0, 0.0]
    )  # of vertices without faces: glTF asks for one
    return Rigged(
        vertices=body.template.numpy()[vertex],
        faces=faces,
        normals=normals.numpy()[vertex],
        bones=body.bones.numpy()[vertex],
        weights=body.weights.numpy()[vertex],
        rest=body.rest.numpy(),
        parents=body.parents,
        names=body.joint_names,
        uv=uv,
        morphs=morphs,
        **clip,
    )


def normals_of(vertices: Float[Tensor, "*B V 3"], faces: Tensor) -> Float[Tensor, "*B V 3"]:
    """Of vertices, outwards, weighted by the area of the faces about each."""
    a, b, c = vertices[..., faces, :].unbind(-2)
    twice = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices).index_add(-2, faces.reshape(-1), twice.repeat_interleave(3, dim=-2))
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-20)


def posed_frames(body: BodyModel, motion: Motion, batch: int = 32) -> Float[Tensor, "T V 3"]:
    """Vertices of a shaped body in every frame of a motion of its own skeleton."""
    found = []
    for first in range(0, len(motion), batch):
        part = motion.part(first, first + batch)
        found.append(body(None, part.rotations, part.places - body.rest[0]).vertices)
    return torch.cat(found)
