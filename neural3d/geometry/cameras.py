"""Cameras: one view's geometry (`Camera`), and a stack of them that makes training rays in a few tensor operations.

Frames: camera frame OpenCV (x right, y down, z forward); "world" is whatever `world_from_camera` maps to, which inside
a Scene is the scene frame. Pixel centres lie at +0.5. Lenses are in `lenses.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.geometry.lenses import LENSES, lens_of, project, unproject

__all__ = ["LENSES", "Camera", "Cameras", "pixel_centres", "project", "unproject"]

# A model with one focal length cannot say that width and height were scaled by different ratios; these can.
_TWO_FOCALS = {
    "SIMPLE_PINHOLE": ("PINHOLE", 0),  # name, zeros to append
    "SIMPLE_RADIAL": ("OPENCV", 3),
    "RADIAL": ("OPENCV", 2),
    "SIMPLE_FISHEYE": ("FISHEYE", 0),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", 3),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", 2),
    "SIMPLE_DIVISION": ("DIVISION", 0),
}


def pixel_centres(width: int, height: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "H W 2"]:
    """(x, y) of every pixel centre, row by row; the first is (0.5, 0.5)."""
    y, x = torch.meshgrid(torch.arange(height, dtype=dtype), torch.arange(width, dtype=dtype), indexing="ij")
    return torch.stack([x, y], -1) + 0.5


@dataclass(frozen=True)
class Camera:
    """One view: lens, picture size and pose.

    model, params: COLMAP's name and parameter order, in pixels of a picture of width × height.
    world_from_camera: rigid; its third column is the viewing direction, its fourth the camera's centre.
    """

    model: str
    width: int
    height: int
    params: Float[Tensor, "P"]
    world_from_camera: Float[Tensor, "4 4"]

    def __post_init__(self) -> None:
        names = lens_of(self.model).names
        if self.params.shape != (len(names),):
            raise ValueError(f"{self.model} has {len(names)} parameters ({', '.join(names)}), not {self.params.shape}")
        object.__setattr__(self, "params", self.params.double())
        object.__setattr__(self, "world_from_camera", self.world_from_camera.double())

    @property
    def centre(self) -> Float[Tensor, "3"]:
        return self.world_from_camera[:3, 3]

    @property
    def forward(self) -> Float[Tensor, "3"]:
        """Unit viewing direction."""
        return self.world_from_camera[:3, 2]

    def resized(self, width: int, height: int) -> Camera:
        """The same view as a picture of another size: parameters scale by the exact ratios, field of view stays."""
        sx, sy = width / self.width, height / self.height
        model, params = self.model, self.params.clone()
        if lens_of(model).focals == 1 and sx != sy:
            model, zeros = _TWO_FOCALS[model]
            params = torch.cat([params[:1], params, params.new_zeros(zeros)])
        scale = {"f": sx, "fx": sx, "fy": sy, "cx": sx, "cy": sy, "w": sx, "h": sy}
        ratios = [scale.get(name, 1.0) for name in lens_of(model).names]
        return Camera(model, width, height, params * params.new_tensor(ratios), self.world_from_camera)

    def moved(self, similarity: Float[Tensor, "4 4"]) -> Camera:
        """The camera after a rotation, uniform scale and translation of the world; its own frame is not scaled."""
        pose = similarity.double() @ self.world_from_camera
        scale = torch.linalg.det(similarity[:3, :3].double()) ** (1 / 3)
        pose = torch.cat([torch.cat([pose[:3, :3] / scale, pose[:3, 3:]], 1), pose[3:]], 0)
        return replace(self, world_from_camera=pose)

    def rays(self, xy: Tensor | None = None) -> tuple[Float[Tensor, "... 3"], Float[Tensor, "... 3"]]:
        """Origins and unit directions in the world, float32, through the pixels xy (..., 2); default: all (H, W)."""
        if xy is None:
            xy = pixel_centres(self.width, self.height)
        pose = self.world_from_camera.to(xy.device)
        directions = unproject(self.model, self.params.to(xy.device), xy.double()) @ pose[:3, :3].T
        return pose[:3, 3].expand_as(directions).float(), directions.float()

    def project(self, points_world: Float[Tensor, "... 3"]) -> tuple[Float[Tensor, "... 2"], Float[Tensor, "..."]]:
        """Pixels and z-depths of points. Where z ≤ 0 (behind the camera) a perspective pixel means nothing."""
        pose = self.world_from_camera.to(points_world)
        points = (points_world - pose[:3, 3]) @ pose[:3, :3]
        return project(self.model, self.params.to(points_world), points), points[..., 2]


class Cameras:
    """V cameras as a few tensors, for rays of many views at once.

    Views that share a lens share its parameters: one phone costs no gather. Where several models are present, each is
    evaluated for all rays and the right one selected, so nothing waits for the device.
    """

    def __init__(
        self,
        world_from_camera: Tensor,
        sizes: Tensor,
        models: list[str],
        params: list[Tensor],
        model: Tensor,
        lens: Tensor,
        iterations: list[int],
    ):
        self.world_from_camera: Float[Tensor, "V 4 4"] = world_from_camera  # float32
        self.sizes: Int[Tensor, "V 2"] = sizes  # width, height
        self._models, self._params = models, params  # per model: name, (P, K) parameters of its K lenses
        self._model, self._lens = model, lens  # (V,) which model, which of its lenses
        self._iterations = iterations  # Newton steps that suffice for each model, measured in `stack`

    @classmethod
    def stack(cls, cameras: list[Camera]) -> Cameras:
        """Float32 copies of the cameras, views numbered in the list's order."""
        lenses: dict[str, dict[tuple[float, ...], list[Camera]]] = {}
        for camera in cameras:
            lenses.setdefault(camera.model, {}).setdefault(tuple(camera.params.tolist()), []).append(camera)
        models = sorted(lenses)
        numbers = {m: {p: i for i, p in enumerate(lenses[m])} for m in models}
        return cls(
            torch.stack([c.world_from_camera for c in cameras]).float(),
            torch.tensor([(c.width, c.height) for c in cameras]),
            models,
            [torch.tensor(list(lenses[m]), dtype=torch.float32).T.contiguous() for m in models],
            torch.tensor([models.index(c.model) for c in cameras]),
            torch.tensor([numbers[c.model][tuple(c.params.tolist())] for c in cameras]),
            [max(_newton_steps(shared) for shared in lenses[m].values()) for m in models],
        )

    def __len__(self) -> int:
        return len(self.world_from_camera)

    def to(self, device: torch.device | str) -> Cameras:
        return Cameras(
            self.world_from_camera.to(device),
            self.sizes.to(device),
            self._models,
            [p.to(device) for p in self._params],
            self._model.to(device),
            self._lens.to(device),
            self._iterations,
        )

    def directions_camera(self, view: Int[Tensor, "R"], xy: Float[Tensor, "R 2"]) -> Float[Tensor, "R 3"]:
        """Unit directions in each ray's camera frame."""
        result = None
        for i, (model, params) in enumerate(zip(self._models, self._params, strict=True)):
            mine = self._model[view] == i if len(self._models) > 1 else None
            if params.shape[1] == 1:
                chosen = params[:, 0]
            else:
                lens = self._lens[view] if mine is None else torch.where(mine, self._lens[view], 0)
                chosen = params[:, lens].T  # (R, P) whose columns are contiguous
            directions = unproject(model, chosen, xy, self._iterations[i])
            result = directions if result is None or mine is None else torch.where(mine[:, None], directions, result)
        assert result is not None, "no cameras"
        return result

    def rays(
        self, view: Int[Tensor, "R"], xy: Float[Tensor, "R 2"]
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"], Float[Tensor, "R"]]:
        """Origins and unit directions in the world, and each direction's z in its camera's frame.

        z-depth = t · that z, where t is the distance along the ray.
        """
        local = self.directions_camera(view, xy)
        pose = self.world_from_camera[:, :3].flatten(1).index_select(0, view).view(-1, 3, 4)
        x, y, z = local.split(1, -1)  # column by column: a sum over a last axis of three costs five times as much
        directions = torch.addcmul(torch.addcmul(pose[:, :, 0] * x, pose[:, :, 1], y), pose[:, :, 2], z)
        return pose[:, :, 3], directions, local[:, 2]


def _newton_steps(cameras: list[Camera], tolerance: float = 2e-3, most: int = 10) -> int:
    """Newton steps after which a float32 unprojection is right to `tolerance` pixels everywhere in the picture.

    Measured on a 17 × 17 grid that includes the borders. Pixels that no direction maps to (folded distortion) never
    converge, so the count is of the steps after which nothing improves, at most `most`.
    """
    model, params = cameras[0].model, cameras[0].params.float()
    if not lens_of(model).distorts:
        return 0
    width, height = max(c.width for c in cameras), max(c.height for c in cameras)
    xy = pixel_centres(17, 17, torch.float32).sub(0.5).mul(torch.tensor([width / 16, height / 16]))
    exact = project(model, params, unproject(model, params, xy, most))
    reachable = (exact - xy).abs().amax(-1) < tolerance
    for steps in range(most):
        error = project(model, params, unproject(model, params, xy, steps)) - xy
        if not (error.abs().amax(-1)[reachable] >= tolerance).any():
            return steps
    return most
