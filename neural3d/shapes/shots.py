"""Pictures of each shape of a category from all around, with their cameras.

A shape is seen by pinhole cameras spread around it, from below its middle to well above; all look at the middle of the
category's box, from one distance, so that a picture tells the size. Each piece of a shape has one colour, in daylight
that comes from the same side for all: colours on a surface do not depend on the viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.images.reading import area_resized, read_header, read_image

VIEWS, SIDE = 24, 64  # pictures of each shape; pixels along their sides
FOCAL = 2.0  # focal length in sides of the picture
HEIGHTS = (-30.0, 60.0)  # degrees above the horizon, from lowest to highest
FINE = 2  # rays per pixel and axis
WHITE = 0.9  # sRGB from which a picture's rim counts as white
LAMP = np.array([-0.35, -0.75, 0.56])  # where the light comes from: left, in front, above


@dataclass
class Shots:
    """V pictures of each of N shapes. Camera frame OpenCV; the world is the scene frame."""

    pixels: UInt8[Tensor, "N V H W 4"]  # straight alpha
    lens: Float[Tensor, "N V 4"]  # fx, fy, cx, cy in pixels
    world_from_camera: Float[Tensor, "N V 4 4"]

    def to(self, device: torch.device) -> Shots:
        return Shots(self.pixels.to(device), self.lens.to(device), self.world_from_camera.to(device))

    def draw(
        self, shape: Int[Tensor, "S"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "S 3 H W"], Int[Tensor, "S"]]:
        """A random picture of each of these shapes, on white, as encoders take them; and which it is."""
        view = torch.randint(self.pixels.shape[1], shape.shape, generator=generator, device=shape.device)
        return on_white(self.pixels[shape, view]), view


def on_white(pixels: UInt8[Tensor, "S H W 4"]) -> Float[Tensor, "S 3 H W"]:
    value = pixels.permute(0, 3, 1, 2) * (1 / 255)
    return value[:, :3] * value[:, 3:] + (1 - value[:, 3:])


def read_shot(path: Path, side: int) -> Float[Tensor, "3 side side"]:
    """A picture of any size, as `Shots.draw` gives them: padded to a square, shrunk, on white.

    Raises UserError where it cannot be read, is smaller than that, or has a background that is neither transparent nor
    white, since the pictures learnt from have none.
    """
    width, height, _ = read_header(path)
    if max(width, height) < side:
        raise UserError(f"{path}: has {width} × {height} pixels; the run learnt from pictures of {side} × {side}.")
    pixels = read_image(path, width, height, alpha=True)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if (on_white(torch.from_numpy(rim)[None, None]).amin(1) < WHITE).float().mean() > 0.5:
        raise UserError(
            f"{path}: the subject stands before a background; cut it out (a PNG with alpha), or make that white."
        )
    room = np.array([max(width, height)] * 2) - pixels.shape[:2]
    before, after = room // 2, room - room // 2
    square = np.pad(pixels, [*zip(before, after), (0, 0)])
    return on_white(torch.from_numpy(np.array(area_resized(square, side, side)))[None])[0]


def take_shots(meshes: Sequence[Mesh], *seed: int, radius: float, views: int = VIEWS, side: int = SIDE) -> Shots:
    """Renders them. meshes: in the scene frame, closed. Equal seeds give equal pictures of the i-th shape.

    radius: of a ball around the scene frame's origin that fills the picture.
    """
    distance = radius * float(np.hypot(1, 2 * FOCAL))
    poses, pixels = [], []
    for i, mesh in enumerate(meshes):
        rng = np.random.default_rng((*seed, i))
        poses.append(_around(views, distance, rng))
        pixels.append(_photograph(mesh, poses[-1], side, rng))
    lens = torch.tensor([FOCAL * side, FOCAL * side, side / 2, side / 2])
    return Shots(
        torch.from_numpy(np.stack(pixels)),
        lens.expand(len(meshes), views, 4),
        torch.from_numpy(np.stack(poses)).float(),
    )


def _around(views: int, distance: float, rng: np.random.Generator) -> Float[np.ndarray, "V 4 4"]:
    """world_from_camera of cameras that look at the origin: evenly around, at random heights; +z is up."""
    azimuth = 2 * np.pi * (np.arange(views) + rng.uniform(size=views)) / views
    low, high = np.sin(np.radians(HEIGHTS)).tolist()
    sine = rng.uniform(low, high, views)
    cosine = np.sqrt(1 - sine**2)
    forward = -np.stack([cosine * np.cos(azimuth), cosine * np.sin(azimuth), sine], 1)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros(views)], 1)
    poses = np.tile(np.eye(4), (views, 1, 1))
    poses[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], 2)
    poses[:, :3, 3] = -distance * forward
    return poses


def _face_colours(mesh: Mesh, normals: Float[np.ndarray, "F 3"], rng: np.random.Generator) -> Float[np.ndarray, "F 3"]:
    """One albedo for each connected piece, around one for all, in daylight."""
    count = len(mesh.vertices)
    edges = coo_matrix(
        (np.ones(mesh.faces.size), (mesh.faces.ravel(), np.roll(mesh.faces, 1, axis=1).ravel())), (count,) * 2
    )
    pieces, piece = connected_components(edges, directed=False)
    albedo = np.clip(rng.uniform(0.35, 0.85, 3) + rng.uniform(-0.2, 0.2, (pieces, 3)), 0.15, 1)
    light = 0.45 + 0.12 * normals[:, 2] + 0.45 * np.clip(normals @ (LAMP / np.linalg.norm(LAMP)), 0, 1)
    return np.clip(albedo[piece[mesh.faces[:, 0]]] * light[:, None], 0, 1)


def _photograph(mesh: Mesh, poses: Float[np.ndarray, "V 4 4"], side: int, rng: np.random.Generator) -> np.ndarray:
    """(V, side, side, 4) uint8. Rays go through the rectangle that the vertices cover in each picture."""
    solid = Solid(mesh)
    rgba = np.zeros((len(mesh.faces) + 1, 4), np.float32)  # of each face; the last: of nothing
    rgba[:-1, :3], rgba[:-1, 3] = _face_colours(mesh, solid.normals, rng), 1
    focal, fine = FOCAL * side * FINE, side * FINE
    pictures = np.zeros((len(poses), side, side, 4), np.uint8)
    for pose, picture in zip(poses.astype(np.float32), pictures):
        local = (mesh.vertices - pose[:3, 3]) @ pose[:3, :3]
        xy = local[:, :2] / local[:, 2:] * focal + fine / 2
        (left, top), (right, bottom) = (xy.min(0) // FINE).astype(int), (xy.max(0) // FINE + 1).astype(int)
        rows, columns = slice(max(0, top), min(side, bottom)), slice(max(0, left), min(side, right))
        y, x = (np.arange(FINE * s.start, FINE * s.stop, dtype=np.float32) + 0.5 - fine / 2 for s in (rows, columns))
        rays = np.stack([*np.meshgrid(x, y), np.full((len(y), len(x)), focal, np.float32)], -1).reshape(-1, 3)
        _, face = solid.first_hit(pose[:3, 3], rays @ pose[:3, :3].T)
        mean = rgba[face].reshape(len(y) // FINE, FINE, len(x) // FINE, FINE, 4).mean((1, 3))
        mean[..., :3] /= np.maximum(mean[..., 3:], 1e-6)  # of what is hit; black where nothing is
        picture[rows, columns] = (255 * mean + 0.5).astype(np.uint8)
    return pictures
