"""A straight street between two rows of houses, by formulas: a capture wider than any one photo, and its truth.

Frame: z up, the road along the x axis from −LENGTH / 2 to LENGTH / 2, its surface at z = 0; lengths in metres, about.
Houses are boxes; everything is seen by rays in closed form, so that a picture from anywhere is known exactly.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from neural3d.disk import replacing, write_whole

LENGTH, KERB, FRONT = 40.0, 3.0, 4.5  # of the road; where the pavement begins, and where houses do, from the middle
EYE, LANE = 1.6, 1.2  # height of the cameras, and how far from the middle they drive
SKY = 150.0  # distance of the clouds
FIELD = math.radians(80)  # horizontal, of the photos
HEADINGS = (0.0, 55.0, -55.0)  # degrees from the way the car drives
SUPERSAMPLING = 2  # sub-pixels per pixel and axis
SUN = (0.36, -0.48, 0.80)


@dataclass(frozen=True)
class Street:
    """Houses as boxes, the lower and the upper corner of each, and a number by which each is painted."""

    low: Float[Tensor, "H 3"]
    high: Float[Tensor, "H 3"]
    seeds: Float[Tensor, "H"]

    @staticmethod
    def built(seed: int = 0) -> Street:
        draw = np.random.default_rng(seed)
        boxes = []
        for side in (-1, 1):
            x = -LENGTH / 2 - 6
            while x < LENGTH / 2 + 6:
                width, height, back = draw.uniform(4, 7), draw.uniform(4, 9), draw.uniform(0, 1.2)
                y = sorted((side * (FRONT + back), side * (FRONT + 8)))
                boxes.append(([x, y[0], 0], [x + width, y[1], height]))
                x += width + (draw.uniform(1, 2) if draw.random() < 0.3 else 0)
        low, high = (torch.tensor(np.array(c), dtype=torch.float32) for c in zip(*boxes))
        return Street(low, high, torch.from_numpy(draw.uniform(0, 100, len(boxes))).float())

    def hit(
        self, origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"], Int[Tensor, "n"]]:
        """Distance, what is hit (a house's number, −1 the ground, −2 the sky) and the axis that its face looks along.

        Boxes by slabs (Kay and Kajiya, 1986): a ray is inside between the last entry and the first exit.
        """
        d = torch.where(directions.abs() < 1e-9, 1e-9, directions)  # 1e-9: along a slab, which it never leaves
        t = torch.where(d[:, 2] < 0, -origins[:, 2] / d[:, 2], SKY)
        what = torch.where(t < SKY, -1, -2)
        t, axis = t.clamp(max=SKY), torch.full_like(what, 2)
        for k in range(len(self.low)):
            one, other = (self.low[k] - origins) / d, (self.high[k] - origins) / d
            enter, face = torch.minimum(one, other).max(1)
            nearer = (enter < torch.maximum(one, other).amin(1)) & (enter > 0) & (enter < t)
            t, axis = torch.where(nearer, enter, t), torch.where(nearer, face, axis)
            what = torch.where(nearer, k, what)
        return t, what, axis

    def seen(self, origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """sRGB along rays of unit length."""
        t, what, axis = self.hit(origins, directions)
        p = origins + t[:, None] * directions
        house = (what >= 0)[:, None]
        k = what.clamp(min=0)
        wall = torch.where((axis == 2)[:, None], roof(p, self.seeds[k]), facade(p, axis, self.seeds[k]))
        normal = torch.nn.functional.one_hot(axis, 3) * -directions.sign()
        light = 0.65 + 0.35 * (normal @ torch.tensor(SUN)).clamp(min=0)[:, None]
        solid = torch.where(house, wall, ground(p)) * light
        return torch.where((what == -2)[:, None], sky(directions), solid).clamp(0, 1)

    def photo(self, pose: Float[np.ndarray, "4 4"], width: int, height: int) -> np.ndarray:
        """(H, W, 3) uint8 from an OpenGL camera (x right, y up, z backward), a mean of sub-pixels."""
        n = SUPERSAMPLING
        origins, directions = rays(torch.from_numpy(pose).float(), n * width, n * height)
        rgb = self.seen(origins, directions).reshape(height, n, width, n, 3).mean((1, 3))
        return (rgb * 255 + 0.5).to(torch.uint8).numpy()


def rays(pose: Float[Tensor, "4 4"], width: int, height: int) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    focal = 0.5 * width / math.tan(FIELD / 2)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    camera = torch.stack([(x - width / 2) / focal, (height / 2 - y) / focal, -torch.ones_like(x)], -1).reshape(-1, 3)
    directions = torch.nn.functional.normalize(camera @ pose[:3, :3].T, dim=1)
    return pose[:3, 3].expand_as(directions), directions


def _wave(x: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.sin(x)


def _line(x: Tensor, period: float, share: float) -> Tensor:
    """1 within stripes that take `share` of each period."""
    return (torch.remainder(x / period, 1) < share).float()


def _grain(u: Tensor, v: Tensor, seed: Tensor | float = 0.0) -> Tensor:
    """Soft blotches of several sizes, about 0.5."""
    small = torch.sin(5.1 * u + 2.3 * v + seed) * torch.sin(4.3 * v - 1.7 * u + 2 * seed)
    large = torch.sin(1.3 * u + 3 * seed) * torch.sin(0.9 * v + seed)
    return 0.5 + 0.25 * small + 0.25 * large


def _colour(seed: Tensor, bright: float = 0.75) -> Float[Tensor, "n 3"]:
    return bright * torch.stack([0.6 + 0.4 * _wave(seed + phase) for phase in (0.0, 1.5, 3.2)], -1)


def facade(p: Float[Tensor, "n 3"], axis: Int[Tensor, "n"], seed: Float[Tensor, "n"]) -> Float[Tensor, "n 3"]:
    """Bricks with joints, rows of windows with frames and bars, a darker ground floor."""
    u, z = torch.where(axis == 0, p[:, 1], p[:, 0]) + seed, p[:, 2]
    row = torch.floor(z / 0.3)
    joint = torch.maximum(_line(z, 0.3, 0.15), _line(u + 0.3 * torch.remainder(row, 2), 0.6, 0.08))
    wall = _colour(seed) * (0.8 + 0.4 * _grain(u, z, seed))[:, None] * (1 - 0.3 * joint)[:, None]
    a, b = torch.remainder(u / 1.8, 1) - 0.5, torch.remainder(z / 2.2, 1) - 0.5
    inside = torch.maximum(a.abs() / 0.26, b.abs() / 0.3)
    bar = (a.abs() < 0.02) | (b.abs() < 0.02)
    frame = ((inside < 1.15) & ((inside > 0.9) | bar))[:, None]
    glass = torch.stack([0.15 + 0.1 * _wave(z), 0.2 + 0.2 * _wave(z + u), 0.3 + 0.2 * _wave(2 * z)], -1)
    wall = torch.where((z < 0.5)[:, None], 0.6 * wall, wall)
    return torch.where(frame, torch.tensor([0.92, 0.9, 0.85]), torch.where((inside <= 0.9)[:, None], glass, wall))


def roof(p: Float[Tensor, "n 3"], seed: Float[Tensor, "n"]) -> Float[Tensor, "n 3"]:
    return _colour(seed + 2, 0.5) * (1 - 0.3 * _line(p[:, 0], 0.5, 0.2))[:, None]


def ground(p: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Asphalt with a dashed line, and pavements of slabs."""
    x, y = p[:, 0], p[:, 1]
    asphalt = (0.25 + 0.2 * _grain(2 * x, 2 * y))[:, None].expand(-1, 3)
    dash = (y.abs() < 0.1) & (_line(x, 3.0, 0.5) > 0)
    asphalt = torch.where(dash[:, None], 0.9, asphalt)
    joint = torch.maximum(_line(x, 0.8, 0.06), _line(y, 0.75, 0.06))
    slab = torch.tensor([0.66, 0.6, 0.54]) * (0.8 + 0.4 * _grain(x, y, 1.0) - 0.35 * joint)[:, None]
    return torch.where((y.abs() > KERB)[:, None], slab, asphalt)


def sky(d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    up = d[:, 2:].clamp(min=0)
    cloud = _grain(6 * d[:, 0], 6 * d[:, 1] + 3 * d[:, 2])[:, None]
    blue = torch.lerp(torch.tensor([0.78, 0.85, 0.93]), torch.tensor([0.35, 0.55, 0.85]), up)
    return torch.lerp(blue, torch.tensor([0.95, 0.95, 0.95]), 0.6 * cloud)


def pose(x: float, y: float, heading: float, z: float = EYE) -> Float[np.ndarray, "4 4"]:
    """world_from_camera in OpenGL's axes, level. heading: radians from +x to +y."""
    backward = np.array([-math.cos(heading), -math.sin(heading), 0.0])
    right = np.array([math.sin(heading), -math.cos(heading), 0.0])
    made = np.eye(4)
    made[:3, :3] = np.stack([right, np.cross(backward, right), backward], 1)
    made[:3, 3] = x, y, z
    return made


def make_street(out: Path, *, stations: int = 24, width: int = 160, height: int = 120, seed: int = 0) -> Path:
    """Writes transforms.json, images/ and points.ply; the folder. The same arguments give the same bytes.

    A car drives there in one lane and back in the other; at each of the stations it photographs in three directions.
    Points are what some pixels show, as exact as a reconstruction's would be: within 2 cm, of the sky none.
    """
    street, draw = Street.built(seed), np.random.default_rng(seed)
    frames, points, colours = [], [], []
    for k in range(stations):
        back = k % 2
        x = (k / max(1, stations - 1) - 0.5) * (LENGTH - 4)
        for j, degrees in enumerate(HEADINGS):
            at = pose(x, LANE * (1 if back else -1), math.radians(degrees + 180 * back))
            name = f"images/{k:02d}_{j}.png"
            with replacing(out / name) as part:
                Image.fromarray(street.photo(at, width, height)).save(part)
            frames.append({"file_path": name, "transform_matrix": at.tolist()})
            origins, directions = rays(torch.from_numpy(at).float(), width, height)
            some = torch.from_numpy(draw.choice(width * height, 80, replace=False))
            o, d = origins[some], directions[some]
            t, what, _ = street.hit(o, d)
            solid = what > -2
            points.append((o + t[:, None] * d)[solid].numpy() + draw.normal(0, 0.02, (int(solid.sum()), 3)))
            colours.append((street.seen(o, d)[solid] * 255 + 0.5).to(torch.uint8).numpy())
    write_whole(out / "points.ply", _ply(np.concatenate(points), np.concatenate(colours)))
    layout = {"camera_angle_x": FIELD, "w": width, "h": height, "ply_file_path": "points.ply", "frames": frames}
    write_whole(out / "transforms.json", json.dumps(layout, indent=1).encode())
    return out


def _ply(points: Float[np.ndarray, "n 3"], colours: np.ndarray) -> bytes:
    head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n"
    head += "".join(f"property float {c}\n" for c in "xyz")
    head += "".join(f"property uchar {c}\n" for c in ("red", "green", "blue")) + "end_header\n"
    rows = (f"{x:.4f} {y:.4f} {z:.4f} {r} {g} {b}\n" for (x, y, z), (r, g, b) in zip(points.tolist(), colours.tolist()))
    return (head + "".join(rows)).encode()
