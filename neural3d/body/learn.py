"""A body model from registered scans: mean and principal components of one topology.

    T(β) = μ + Σ_s β_s S_s

S_s is the s-th principal component times its standard deviation, so that β is of order 1 (SMPL's convention). Joints
and skinning weights are a template's: they follow the shape through its joint regressor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from neural3d.body.model import BodyModel
from neural3d.body.register import register, similar
from neural3d.body.shape_space import ShapeSpace
from neural3d.disk import replacing
from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.progress import Progress, silent

NEAR, WITHIN = 100, 12  # vertices about a joint from which its regressor may choose: all near ones, then each 12th
NOISE = 1e-3  # metres by which vertices of scans are off: joints must not be more so
FITS = 0.02  # share of a scan's diagonal by which its vertices are away from the template on it, in the mean
BODIES = 60  # random bodies to which a regressor is fitted
MESHES = (".ply", ".obj", ".off", ".stl", ".glb")


def principal_components(
    bodies: Float[np.ndarray, "N D"], count: int
) -> tuple[Float[np.ndarray, "D"], Float[np.ndarray, "S D"], Float[np.ndarray, "S"]]:
    """Mean, orthonormal components and standard deviations, exactly, by the N × N matrix of products."""
    mean = bodies.mean(0)
    off = bodies - mean
    values, vectors = np.linalg.eigh(off @ off.T)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    kept = values > 1e-12 * values[0]
    components = (vectors[:, kept] / np.sqrt(values[kept])).T @ off
    return mean, components, np.sqrt(values[kept] / max(1, len(bodies) - 1))


def learn(
    files: Sequence[Path], template: BodyModel, count: int, name: str = "learned", progress: Progress = silent
) -> BodyModel:
    """A model with at most `count` shapes. Scans that are not of the template's topology are registered first.

    template: a shaped body (`rigged.shaped`), near the scans' size. Raises UserError where files hold no mesh, one that
    is not shaped like it, or are too few.
    """
    if len(files) < 2:
        raise UserError(f"{len(files)} meshes are too few to learn a body from: two at least, and better a hundred.")
    bodies = np.empty((len(files), template.template.numel()), np.float64)
    for i, file in enumerate(files):
        bodies[i] = registered(file, template).ravel()
        progress("registering", i + 1, len(files))
    mean, components, deviations = principal_components(bodies, count)
    shapes = (deviations[:, None] * components).reshape(len(components), -1, 3)
    regressor = template.regressor
    assert regressor is not None
    middle, directions = (torch.from_numpy(a).float() for a in (mean.reshape(-1, 3), shapes))
    return replace(
        template,
        name=name,
        template=middle,
        shapes=directions,
        rest=regressor @ middle,
        rest_shapes=torch.einsum("jv,svc->sjc", regressor, directions),
        space=ShapeSpace(tuple(f"beta{i}" for i in range(len(shapes)))),
    )


def registered(file: Path, template: BodyModel) -> Float[np.ndarray, "V 3"]:
    """The mesh's vertices where it is of the template's topology, else the template's on it, turned back upright."""
    mesh = read_mesh(file)
    faces = template.faces.numpy()
    if mesh.vertices.shape == template.template.shape and np.array_equal(mesh.faces, faces):
        return mesh.vertices
    found = register(Mesh(template.template.double().numpy(), faces), mesh)
    middle = mesh.vertices.mean(0)
    away = Solid(Mesh(found - middle, faces)).distance(mesh.vertices - middle).mean()
    if away > FITS * np.linalg.norm(np.ptp(mesh.vertices, axis=0)):
        raise UserError(
            f"{file}: is not shaped like the template (registered, they are {100 * away:.1f} cm apart in the mean); "
            "leave it out, or cut away what is no part of the body."
        )
    rest = template.template.double().numpy()
    _, turn, _ = similar(found, rest)
    return (found - found.mean(0)) @ turn.T + rest.mean(0)  # as large as it is, standing where the template does


def read_mesh(file: Path) -> Mesh:
    """As it is stored: vertices in their order. Raises UserError where there is none."""
    import trimesh

    try:
        found: Any = trimesh.load(file, process=False, force="mesh", maintain_order=True)
        mesh = Mesh(np.asarray(found.vertices, np.float64), np.asarray(found.faces, np.int64))
    except Exception as error:  # trimesh raises what its many readers raise
        raise UserError(
            f"{file}: cannot be read as a mesh ({error or type(error).__name__}); is it complete?"
        ) from None
    if len(mesh.faces) == 0:
        raise UserError(f"{file}: holds no faces; scans must be meshes.")
    if not np.isfinite(mesh.vertices).all():
        raise UserError(f"{file}: holds points that are not finite; mend it.")
    return mesh


def with_regressor(model: BodyModel) -> BodyModel:
    """The model with joints as weighted means of vertices, fitted to random bodies where it has none."""
    if model.regressor is not None:
        return model
    rng = np.random.default_rng(0)
    values = {axis.name: rng.uniform(axis.anchors[0], axis.anchors[-1], BODIES) for axis in model.space.axes}
    values |= {part: rng.uniform(0, 1, BODIES) for part in model.space.mixtures}
    values |= {shape: rng.normal(size=BODIES) for shape in model.space.names}
    shape = model.coefficients(**{key: torch.from_numpy(value).float() for key, value in values.items()})
    vertices = (model.template + torch.tensordot(shape, model.shapes, 1)).double().numpy()
    joints = (model.rest + torch.tensordot(shape, model.rest_shapes, 1)).double().numpy()
    regressor = np.zeros((model.joints, len(model.template)), np.float32)
    for joint, row in enumerate(regressor):
        far = np.linalg.norm(vertices - joints[:, joint, None], axis=-1).mean(0)
        order = np.argsort(far, kind="stable")[: WITHIN * NEAR]  # on all sides of a joint deep inside
        near = np.concatenate([order[:NEAR], order[NEAR::WITHIN]])
        places = (vertices[:, near] - joints[:, joint, None]).transpose(0, 2, 1).reshape(-1, len(near))
        # The least |places w|² + NOISE² · 3 BODIES |w|² with Σ w = 1 lies along the inverse times ones.
        inverse = np.linalg.inv(places.T @ places + 3 * BODIES * NOISE**2 * np.eye(len(near)))
        row[near] = inverse.sum(1) / inverse.sum()
    return replace(model, regressor=torch.from_numpy(regressor))


def write_model(model: BodyModel, path: Path) -> None:
    """As `.npz` of SMPL's layout, which `read_smpl` reads, with the names of joints."""
    assert model.regressor is not None
    weights = torch.zeros(len(model.template), model.joints)
    weights.scatter_add_(1, model.bones.long(), model.weights)
    arrays = {
        "v_template": model.template,
        "shapedirs": model.shapes.permute(1, 2, 0),
        "J_regressor": model.regressor,
        "weights": weights,
        "f": model.faces.int(),
        "kintree_table": torch.tensor([model.parents, range(model.joints)]),
    }
    if len(model.correctives):
        arrays["posedirs"] = model.correctives.permute(1, 2, 0)
    if model.uv is not None and model.uv_faces is not None:
        arrays |= {"vt": model.uv, "ft": model.uv_faces.int()}
    plain: dict[str, Any] = {name: np.ascontiguousarray(value.numpy()) for name, value in arrays.items()}
    with replacing(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, joint_names=np.array(model.joint_names), **plain)
