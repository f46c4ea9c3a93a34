"""Photographs of a glossy ball with bowls and tunnels, in closed form: what silhouettes do not show, and gloss hides.

Eye sockets, a mouth, nostrils, and a tunnel right through, on one half of the ball; light comes from before it. Its
pictures are those of a hard subject: highlights move with the camera, and a share of the pixels is overexposed. No
shadows: how deep a black hole is, no photo tells.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from neural3d.geometry.cameras import Camera
from neural3d.scene import Scene
from neural3d.synthetic import tracing

LIGHT = normalize(torch.tensor([0.8, 0.3, 0.5]), dim=0)  # towards it
DISTANCE, ANGLE = 4.0, 0.5  # of the cameras from the middle; their field of view, radians
FRONT = 0.8  # radians between the front and the outermost camera, where all look at the front
OVERSAMPLING = 2  # rays along each side of a pixel
EYES_AND_MOUTH = (  # both ends of a hollow's axis, and its radius; for a ball of radius 0.8 whose front is +x
    ((0.64, 0.34, 0.28), (0.64, 0.34, 0.28), 0.22),
    ((0.64, -0.34, 0.28), (0.64, -0.34, 0.28), 0.22),
    ((0.72, -0.22, -0.32), (0.72, 0.22, -0.32), 0.16),
)
NOSTRILS = (((0.9, 0.1, 0.0), (0.5, 0.1, 0.0), 0.07), ((0.9, -0.1, 0.0), (0.5, -0.1, 0.0), 0.07))
TUNNEL = (((0.25, 0.0, -1.0), (0.25, 0.0, 1.0), 0.13),)


@dataclass(frozen=True)
class HollowBall:
    """A ball of `radius` about the origin without what lies nearer to its hollows' axes than their radii."""

    radius: float = 0.8
    hollows: tuple[tuple[tuple[float, ...], tuple[float, ...], float], ...] = EYES_AND_MOUTH + NOSTRILS + TUNNEL
    gloss: float = 1.0  # of the highlights; 0: none

    @classmethod
    def other(cls, seed: int) -> HollowBall:
        """Turned about its front, with another radius and hollows of other widths."""
        g = torch.Generator().manual_seed(seed)
        size, angle = 0.85 + 0.3 * float(torch.rand(1, generator=g)), 2 * math.pi * float(torch.rand(1, generator=g))
        rotation = size * torch.tensor(
            [[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]]
        )
        hollows = []
        for a, b, radius in cls.hollows:
            width = 0.8 + 0.5 * float(torch.rand(1, generator=g))
            start, end = (tuple((rotation @ torch.tensor(point)).tolist()) for point in (a, b))
            hollows.append((start, end, size * width * radius))
        return cls(radius=size * cls.radius, hollows=tuple(hollows))

    @property
    def diagonal(self) -> float:
        """Of the ball's bounding box."""
        return 2 * math.sqrt(3) * self.radius

    def sdf(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n"]:
        """Never more than the distance to the surface; exact on it, and negative inside."""
        value = x.norm(dim=-1) - self.radius
        for a, b, radius in self.hollows:
            start, axis = x.new_tensor(a), x.new_tensor(b) - x.new_tensor(a)
            along = ((x - start) @ axis / axis.square().sum().clamp_min(1e-12)).clamp(0, 1)
            value = torch.maximum(value, radius - (x - start - along[:, None] * axis).norm(dim=-1))
        return value

    def hit(
        self, origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
        """Distances along rays to the surface, and whether there is one on the way."""
        middle = -(origins * directions).sum(-1)
        start = middle - self.radius - 0.1
        beside = (origins + middle[:, None] * directions).norm(dim=-1) > self.radius + 0.01
        start = torch.where(beside, middle + 2 * self.radius, start)
        far = float(middle.max()) + self.radius + 0.1
        t, _ = tracing.trace(self._distance, origins, directions, start, far, tolerance=1e-4, steps=100)
        return t, self.sdf(origins + t[:, None] * directions) < 5e-3

    def _distance(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return self.sdf(torch.stack([x, y, z], -1))

    def color(self, x: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """sRGB of surface points, seen along unit directions: a texture, Lambert's law, Blinn and Phong's gloss."""
        normal = tracing.normals(self._distance, x[:, 0], x[:, 1], x[:, 2])
        waves = x.new_tensor([[5.0, 11, 2], [-9, 4, 7], [3, -6, 12]])
        albedo = 0.45 + 0.2 * torch.sin(x @ waves) + 0.12 * torch.sin(2.3 * x @ waves.flip(0))
        half = normalize(LIGHT - directions, dim=-1)
        light = 0.5 + 1.2 * (normal @ LIGHT).clamp_min(0)
        highlight = self.gloss * (normal * half).sum(-1).clamp_min(0) ** 30
        return (albedo * light[:, None] + highlight[:, None]).clamp(0, 1)


def surroundings(directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """What is seen beside the ball where nothing is cut out: coloured walls, far away."""
    return 0.5 + 0.3 * torch.sin(directions @ directions.new_tensor([[6.0, 2, 9], [-4, 8, 3], [7, -5, 2]]))


def photograph(ball: HollowBall, folder: Path, views: int, *, front: bool, alpha: bool, size: int = 128) -> Path:
    """Writes a Blender-style capture: `views` training photos and six held out, which look at the front.

    front: all training photos look at the front, else from all around. alpha: cut out, else with surroundings.
    """
    for split, places in (("train", _places(views, front)), ("test", _places(6, True, turned=0.5))):
        (folder / split).mkdir(parents=True)
        frames = []
        for i, place in enumerate(places):
            pose = _look_at_middle(place)
            Image.fromarray(_picture(ball, pose, size, alpha)).save(folder / split / f"{i:03d}.png")
            frames.append({"file_path": f"{split}/{i:03d}", "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": ANGLE, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


def true_depth(ball: HollowBall, scene: Scene, camera: Camera) -> tuple[Float[Tensor, "H W"], Bool[Tensor, "H W"]]:
    """(depths along the camera's axis, 0 where nothing is; which pixels look into a hollow), in the scene's frame."""
    capture_from_scene = torch.linalg.inv(scene.scene_from_capture).float()
    origins, directions = (x.reshape(-1, 3).float() for x in camera.rays())
    o = origins @ capture_from_scene[:3, :3].T + capture_from_scene[:3, 3]
    d = normalize(directions @ capture_from_scene[:3, :3].T, dim=-1)
    t, hit = ball.hit(o, d)
    hollow = hit & ((o + t[:, None] * d).norm(dim=-1) < ball.radius - 0.02)
    depth = torch.where(hit, t * _unit(scene) * (directions @ camera.forward.float()), 0)
    return depth.view(camera.height, camera.width), hollow.view(camera.height, camera.width)


def hollow_error(ball: HollowBall, scene: Scene, camera: Camera, depth: Float[Tensor, "H W"]) -> Float[Tensor, "P"]:
    """How far, along the camera's axis, this depth picture is from the truth at each pixel that looks into a hollow.

    In the ball's diagonals; 1 where nothing is seen. camera: of the scene, whose frame `depth` is in.
    """
    truth, hollow = true_depth(ball, scene, camera)
    found = depth.reshape(truth.shape)
    error = torch.where(found > 0, (found - truth).abs() / (_unit(scene) * ball.diagonal), 1.0)
    return error[hollow].clamp(max=1)


def _unit(scene: Scene) -> float:
    """Of the capture, in scene units."""
    return float(torch.linalg.det(scene.scene_from_capture[:3, :3])) ** (1 / 3)


def _places(count: int, front: bool, turned: float = 0.0) -> Float[np.ndarray, "N 3"]:
    """Unit vectors evenly spread about +x, a spiral from the front to its rim or to the back."""
    i = np.arange(count) + 0.5
    angle = FRONT * np.sqrt(i / count) if front else np.arccos(1 - 2 * i / count)
    around = (i + turned) * math.pi * (3 - math.sqrt(5))
    return np.stack([np.cos(angle), np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around)], -1)


def _look_at_middle(place: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """OpenGL camera-to-world, z up."""
    right = np.cross([0, 0, 1], place)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(place, right), place, DISTANCE * place], 1)
    return pose


def _picture(ball: HollowBall, pose: Float[np.ndarray, "4 4"], size: int, alpha: bool) -> np.ndarray:
    """Straight alpha or opaque, uint8."""
    n = size * OVERSAMPLING
    params = torch.tensor([0.5 * n / math.tan(0.5 * ANGLE), n / 2, n / 2]).double()
    camera = Camera("SIMPLE_PINHOLE", n, n, params, torch.from_numpy(pose @ np.diag([1.0, -1, -1, 1])))
    origins, directions = (x.reshape(-1, 3).float() for x in camera.rays())
    t, hit = ball.hit(origins, directions)
    rgb = torch.zeros(len(t), 3) if alpha else surroundings(directions)
    rgb[hit] = ball.color((origins + t[:, None] * directions)[hit], directions[hit])
    pixels = torch.cat([rgb, hit[:, None].float()], -1).view(size, OVERSAMPLING, size, OVERSAMPLING, 4).mean((1, 3))
    if alpha:
        pixels[..., :3] /= pixels[..., 3:].clamp_min(1e-6)
    return np.ascontiguousarray((255 * pixels[..., : 4 if alpha else 3].clamp(0, 1)).round().byte().numpy())
