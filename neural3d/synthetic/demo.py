"""Photographs of the tempietto, written as a Blender-style capture: the data of `neural3d demo`."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from neural3d.disk import replacing, write_whole
from neural3d.synthetic import tempietto, tracing

SUN = torch.nn.functional.normalize(torch.tensor([0.55, -0.45, 0.80]), dim=0)
SUN_COLOUR, SKY_COLOUR = torch.tensor([1.40, 1.30, 1.15]), torch.tensor([0.78, 0.85, 0.95])
AABB = ((-1.0, -1.0, -0.84), (1.0, 1.0, 1.24))  # all of the temple, in the capture's frame
TARGET = (0.0, 0.0, -0.03)  # what the cameras look at
DISTANCE = 4.2
CAMERA_ANGLE_X = 0.605  # radians, the full horizontal field of view
SUPERSAMPLING = 2  # sub-pixels per pixel and axis
FEWEST = 12  # training views that are made however long they take
BLOCK = 8  # sub-pixels per axis that share one starting cone


def _environment(direction: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """What mirrors show: a bright sky above a dim horizon, a light floor below."""
    up = direction[:, 2:]
    sky = torch.lerp(torch.tensor([0.45, 0.40, 0.38]), torch.tensor([0.95, 1.05, 1.2]), up.clamp(0, 1).sqrt())
    floor = torch.lerp(torch.tensor([0.45, 0.40, 0.38]), torch.tensor([0.70, 0.66, 0.60]), (-up).clamp(0, 1).sqrt())
    return torch.where(up > 0, sky, floor)


def shade(points: tracing.Points, directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """sRGB seen at surface points along the viewing directions: sun with soft shadow, sky, floor light, reflections."""
    normal = tracing.normals(tempietto.distance, *points)
    surface = tempietto.material(*points)
    sun = tracing.sunlight(tempietto.distance, points, normal, SUN)[:, None]
    open_ = tracing.openness(tempietto.distance, points, normal)[:, None]

    facing = (normal @ SUN).clamp_min(0)[:, None]
    hemisphere = 0.5 + 0.5 * normal[:, 2:]
    bounce = torch.tensor([0.50, 0.46, 0.40]) * (1 - hemisphere)
    light = SUN_COLOUR * facing * sun + (SKY_COLOUR * hemisphere + bounce) * open_

    toward_eye = -directions
    cosine = (normal * toward_eye).sum(1, keepdim=True).clamp(0, 1)
    fresnel = torch.where(surface.mirror > 0, surface.mirror + (1 - surface.mirror) * (1 - cosine) ** 5, 0)
    mirrored = 2 * cosine * normal - toward_eye
    half = torch.nn.functional.normalize(toward_eye + SUN, dim=1)
    lobe = (normal * half).sum(1).clamp_min(0) ** surface.sharpness
    highlight = (lobe * (surface.sharpness + 8) / (8 * math.pi))[:, None] * facing.clamp_max(1) * sun * SUN_COLOUR
    linear = surface.albedo * light * 0.72 + fresnel * (_environment(mirrored) * open_ + highlight)
    return _srgb(linear)


def _srgb(linear: Tensor) -> Tensor:
    c = linear.clamp(0, 1)
    return torch.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)


def _look_at(azimuth: float, elevation: float) -> np.ndarray:
    """world_from_camera in OpenGL axes (x right, y up, z backward), looking at TARGET from DISTANCE."""
    backward = np.array(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    pose[:3, 3] = np.array(TARGET) + DISTANCE * backward
    return pose


def _poses(train: int, test: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Viewpoints spread evenly over the upper part of a sphere (golden-angle spiral), test views between them."""
    golden = math.pi * (3 - math.sqrt(5))
    turn = np.random.default_rng(seed).uniform(0, 2 * math.pi)
    low, high = math.sin(math.radians(4)), math.sin(math.radians(55))

    def spiral(count: int, phase: float) -> list[np.ndarray]:
        heights = low + (high - low) * (np.arange(count) + 0.5) / count
        return [_look_at(turn + phase + golden * k, math.asin(h)) for k, h in enumerate(heights)]

    return spiral(train, 0.0), spiral(test, 1.0)


def _grid(size: int, step: float) -> tuple[Tensor, Tensor]:
    """x and y (pixels) of the centres of a regular grid of square cells `step` pixels wide."""
    centres = (torch.arange(round(size / step)) + 0.5) * step
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return x.reshape(-1), y.reshape(-1)


def _rays(pose: Tensor, x: Tensor, y: Tensor, size: int) -> tuple[Tensor, Tensor]:
    focal = 0.5 * size / math.tan(0.5 * CAMERA_ANGLE_X)
    camera = torch.stack([(x - size / 2) / focal, (size / 2 - y) / focal, -torch.ones_like(x)], dim=1)
    directions = torch.nn.functional.normalize(camera @ pose[:3, :3].T, dim=1)
    return pose[:3, 3].expand_as(directions), directions


def render_view(pose: np.ndarray, size: int) -> UInt8[np.ndarray, "size size 4"]:
    """One photograph with straight alpha: every pixel is the mean of its sub-pixels."""
    pose_t = torch.from_numpy(pose).float()
    near, far = DISTANCE - 1.6, DISTANCE + 1.6
    fine = 1 / SUPERSAMPLING
    coarse = BLOCK * fine
    focal = 0.5 * size / math.tan(0.5 * CAMERA_ANGLE_X)

    origins, directions = _rays(pose_t, *_grid(size, coarse), size)
    start = torch.full((len(directions),), near)
    start, _ = tracing.trace(tempietto.distance, origins, directions, start, far, cone=0.75 * coarse / focal)

    side = round(size / coarse)
    sub = torch.arange(side * BLOCK) // BLOCK
    start = start.reshape(side, side)[sub][:, sub].reshape(-1)
    x, y = _grid(size, fine)
    origins, directions = _rays(pose_t, x, y, size)
    maybe = (start < far).nonzero().squeeze(1)
    o, d = origins[maybe], directions[maybe]
    t, hit = tracing.trace(tempietto.distance, o, d, start[maybe], far)
    o, d, t, hit = o[hit], d[hit], t[hit], maybe[hit]
    rgba = torch.zeros(len(x), 4)
    rgba[hit, :3] = shade(tracing.points_at(o, d, t), d)
    rgba[hit, 3] = 1

    n = SUPERSAMPLING
    rgba = rgba.reshape(size, n, size, n, 4).mean(dim=(1, 3))
    rgba[..., :3] /= rgba[..., 3:].clamp_min(1e-6)  # the mean weighted by alpha; fully clear pixels stay 0
    return (rgba * 255 + 0.5).to(torch.uint8).numpy()


def make_demo_scene(
    out_dir: str | Path,
    *,
    train_views: int = 40,
    test_views: int = 8,
    size: int = 200,
    seed: int = 0,
    seconds: float = math.inf,
) -> Path:
    """Render the tempietto into `out_dir` as a Blender-style capture and return that folder.

    Writes train/000.png ..., test/000.png ... (straight-alpha RGBA, sRGB), transforms_train.json and
    transforms_test.json with `camera_angle_x` and one OpenGL camera-to-world matrix per frame, and scene.toml, which
    adds the bounds (photographs from above cannot tell where the ground ends). The same arguments give the same bytes.
    size: pixels per side, a multiple of 4. seconds: training views that are not begun by then are left out, all but
    the first FEWEST; they come in an order in which any number of them is spread evenly.
    """
    out = Path(out_dir)
    until = time.perf_counter() + seconds
    train, test = _poses(train_views, test_views, seed)
    stride = next(n for n in range(round(0.382 * train_views), train_views + 1) if math.gcd(n, train_views) == 1)
    order = [k * stride % train_views for k in range(train_views)]
    jobs = [("test", k, pose) for k, pose in enumerate(test)] + [("train", k, train[k]) for k in order]
    bounds = [list(corner) for corner in AABB]
    toml = f'# The demo: a small round temple.\npath = "."\n\n[scene]\naabb = {bounds}\n'
    write_whole(out / "scene.toml", toml.encode())

    def photograph(number: int) -> bool:
        if number >= test_views + FEWEST and time.perf_counter() > until:
            return False
        split, k, pose = jobs[number]
        picture = render_view(pose, size)
        with replacing(out / split / f"{k:03d}.png") as part:
            Image.fromarray(picture).save(part)
        return True

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a thread per view: threads that share each small operation mostly wait for each other
    try:
        with ThreadPoolExecutor(max_workers=threads) as pool:
            made = list(pool.map(photograph, range(len(jobs))))
    finally:
        torch.set_num_threads(threads)
    for split in ("train", "test"):
        views = sorted((k, pose.tolist()) for (s, k, pose), there in zip(jobs, made) if s == split and there)
        frames = [{"file_path": f"./{split}/{k:03d}", "transform_matrix": pose} for k, pose in views]
        layout = {"camera_angle_x": CAMERA_ANGLE_X, "frames": frames}
        write_whole(out / f"transforms_{split}.json", json.dumps(layout, indent=1).encode())
    return out
