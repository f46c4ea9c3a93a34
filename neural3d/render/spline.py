"""A smooth way of the camera through key frames: positions, directions and focal lengths.

Between key frames k and k + 1 the camera follows a cubic Bézier curve over the parameter s; of rotations, by
de Casteljau's construction with slerp in the place of the straight line (Shoemake, "Animating rotation with quaternion
curves", SIGGRAPH 1985). Its velocity at a key frame is the finite difference of Catmull and Rom for uneven steps of s,
which are the square root of how far the camera moves: "centripetal", the one that makes neither loops nor cusps (Yuksel
et al., "On the parameterization of Catmull-Rom curves", 2009). s(t) is a monotone cubic through the key frames' times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import named

STILL = 1e-3  # least step of s, where a key frame repeats the one before: a pause, and nothing divides by 0


def frames_between(keyframes: Sequence[Camera], counts: Sequence[int], *, cycle: bool = False) -> list[Camera]:
    """The way through all key frames, as pinholes of the first one's size; every key frame is one of the pictures.

    counts: pictures from each key frame (it included) to the next. cycle: from the last on to the first, which needs
    one count more; the first is not repeated. Without it the last key frame ends the way.
    """
    keys = [as_pinhole(camera, keyframes[0].width, keyframes[0].height) for camera in keyframes]
    if len(keys) == 1:
        return keys
    segments = len(keys) - (not cycle)
    if len(counts) != segments:
        raise ValueError(f"{len(keys)} key frames need {segments} counts, not {len(counts)}")
    times = np.concatenate([k + np.arange(n) / n for k, n in enumerate(counts)] + ([] if cycle else [[segments]]))
    durations = np.asarray(counts, float)
    if cycle:  # twice round the corner on both sides, so that the seam is a key frame like all others
        order = np.arange(-2, len(keys) + 3) % len(keys)
        keys, durations, times = [keys[i] for i in order], durations[order[:-1]], times + 2
    return _Way(keys, durations).at(times)


class _Way:
    """The curve through key frames; durations: of the way from each to the next, in any unit."""

    def __init__(self, keys: list[Camera], durations: Float[np.ndarray, "K-1"]):
        self.width, self.height = keys[0].width, keys[0].height
        poses = np.stack([c.world_from_camera.numpy() for c in keys])
        focals = np.log(np.stack([c.params[:2].numpy() for c in keys]))
        self.vectors = np.concatenate([poses[:, :3, 3], focals], 1)  # position, ln of both focal lengths
        self.rotations = Rotation.from_matrix(poses[:, :3, :3])
        turns = (self.rotations[:-1].inv() * self.rotations[1:]).as_rotvec()
        steps = np.diff(self.vectors, axis=0)
        way = np.linalg.norm(steps[:, :3], axis=1)
        way = way / (way.max() or 1.0) + np.linalg.norm(turns, axis=1) + np.abs(steps[:, 3:]).sum(1)
        self.h = np.maximum(np.sqrt(way), STILL)
        self.velocity, self.spin = _tangents(steps, self.h), _tangents(turns, self.h)
        clock = np.concatenate([[0], durations.cumsum()])
        self.s = PchipInterpolator(clock, np.concatenate([[0], self.h.cumsum()]))
        self.clock = clock

    def at(self, times: Float[np.ndarray, "N"]) -> list[Camera]:
        """times: k + u, a share u of the time from key frame k to k + 1."""
        k = np.minimum(times.astype(int), len(self.h) - 1)
        now = self.clock[k] + (times - k) * np.diff(self.clock)[k]
        start = self.s(self.clock[k])
        u = np.clip((self.s(now) - start) / self.h[k], 0, 1)[:, None]
        third = self.h[k][:, None] / 3
        a, b = self.vectors[k], self.vectors[k + 1]
        points = [a, a + third * self.velocity[k], b - third * self.velocity[k + 1], b]
        places = _de_casteljau(points, lambda p, q: p + u * (q - p))
        turn = Rotation.from_rotvec
        a, b = self.rotations[k], self.rotations[k + 1]
        points = [a, a * turn(third * self.spin[k]), b * turn(-third * self.spin[k + 1]), b]
        views = _de_casteljau(points, lambda p, q: p * turn(u * (p.inv() * q).as_rotvec()))
        return [self._camera(v, r) for v, r in zip(places, views.as_matrix())]

    def _camera(self, vector: Float[np.ndarray, "5"], rotation: Float[np.ndarray, "3 3"]) -> Camera:
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = torch.from_numpy(rotation), torch.from_numpy(vector[:3])
        params = torch.tensor([*np.exp(vector[3:]), self.width / 2, self.height / 2], dtype=torch.float64)
        return Camera("PINHOLE", self.width, self.height, params, pose)


def _de_casteljau(points: list[Any], between: Callable[[Any, Any], Any]) -> Any:
    while len(points) > 1:
        points = [between(p, q) for p, q in pairwise(points)]
    return points[0]


def _tangents(steps: Float[np.ndarray, "K-1 C"], h: Float[np.ndarray, "K-1"]) -> Float[np.ndarray, "K C"]:
    """Velocities at K key frames: the slopes on both sides, each weighted by the other side's step; one at the ends."""
    slopes = steps / h[:, None]
    before, after = h[:-1, None], h[1:, None]
    inner = (slopes[:-1] * after + slopes[1:] * before) / (before + after)
    return np.concatenate([slopes[:1], inner, slopes[-1:]])


def as_pinhole(camera: Camera, width: int = 0, height: int = 0) -> Camera:
    """The camera undistorted, its principal point in the middle; in another size with its vertical field of view.

    Of a panorama a square window of 90°. width, height: 0: the camera's own.
    """
    lens, side = named(camera.model, camera.params), camera.height
    if "fx" in lens:
        own_width, fx, fy = camera.width, float(lens["fx"]), float(lens["fy"])
    else:
        own_width, fx, fy = side, side / 2, side / 2
    width, height = width or own_width, height or side
    params = torch.tensor([fx * height / side, fy * height / side, width / 2, height / 2], dtype=torch.float64)
    return Camera("PINHOLE", width, height, params, camera.world_from_camera)
