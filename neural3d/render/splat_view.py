"""A file of splats, opened for rendering: in a scene made up for it, upright, with a camera that sees most of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.files.splats import USUAL_UP, read_splats
from neural3d.geometry.bounds import rotation_to_z
from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import TRIM, box_outline, cloud_outline
from neural3d.render import RenderOut
from neural3d.render.paths import UP, look_at
from neural3d.render.splats import render_splats
from neural3d.scene import Scene, View

CORE = 1.6  # radii of the ball of 60 % of the better splats, that may be the subject
PICTURE = (960, 720, 50.0)  # of a file without a camera: width, height, vertical field of view in degrees


@dataclass
class SplatView:
    """A file of splats, opened for rendering like a run: in a scene of its own, of which the file knows nothing."""

    scene: Scene
    gaussians: Gaussians
    antialiased: bool

    def render(self, camera: Camera, background: Float[Tensor, "3"] | None = None) -> RenderOut:
        """A picture from a camera in the frame of `scene`."""
        return render_splats(self.gaussians, camera, background, antialiased=self.antialiased)


def open_splats(path: Path, device: torch.device, up: str | None = None) -> SplatView:
    """Reads a file of splats, and makes a scene of it: upright, centred, with one camera that sees most of it.

    up: "x", "-x" … "-z", the file's axis that points up; None: what the file says of it, or −y, which a note says.
    Raises UserError where the file is damaged or empty.
    """
    file = read_splats(path)
    if not len(file.gaussians):
        raise UserError(f"{path} holds no splats; there is nothing to render.")
    if up is not None:
        axis = torch.zeros(3).index_fill(0, torch.tensor("xyz".index(up[-1])), -1.0 if up[0] == "-" else 1.0)
        file.up = tuple(axis.tolist())
    elif file.up is None:
        file.notes.append(f"{path.name} does not say what is up; −y is taken, as in most captures.")
    similarity = _upright_and_centred(file.gaussians, file.up or USUAL_UP)
    gaussians = file.gaussians.transformed(similarity)
    width, height, angle = PICTURE
    focal = 0.5 * height / torch.tan(torch.deg2rad(torch.tensor(angle / 2, dtype=torch.float64)))
    eye = torch.tensor([0.0, -2.3, 0.8], dtype=torch.float64)
    pose = look_at(eye, torch.zeros(3, dtype=torch.float64), UP)
    params = torch.stack([focal, focal, focal.new_tensor(width / 2), focal.new_tensor(height / 2)])
    camera = Camera("PINHOLE", width, height, params, pose)
    scene = Scene(
        name=path.stem,
        path=path,
        reader="splats",
        views=[View("front", camera, path)],
        split={"train": [0], "test": []},
        aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]]),
        unbounded=True,
        near=0.5,
        far=100.0,
        scene_from_capture=similarity @ torch.linalg.inv(file.file_from_means),
        outline=splats_outline(gaussians),
        notes=file.notes,
    )
    return SplatView(scene, gaussians.to(device), file.antialiased)


@torch.no_grad()
def splats_outline(splats: Gaussians) -> Float[Tensor, "K 3"]:
    """Around the opaque ones near the middle of the frame that `open_splats` makes; beyond CORE are surroundings."""
    near = splats.means.norm(dim=1) < CORE
    if not near.any():
        return box_outline(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]))
    return cloud_outline(splats.means[near], splats.opacity_logits[near].sigmoid(), TRIM)


def _upright_and_centred(gaussians: Gaussians, up: tuple[float, float, float]) -> Float[Tensor, "4 4"]:
    """To where the nearest 60 % of the better half of the splats, by opacity, lie within 1 of the origin, up is +z."""
    opacity = gaussians.opacity_logits.detach()
    means = gaussians.means.detach().double()[opacity >= opacity.median()]
    centre = means.median(0).values
    distances = (means - centre).norm(dim=1)
    radius = distances.kthvalue(max(1, round(0.6 * len(means)))).values
    radius = torch.where(radius > 0, radius, 1)  # one splat, or all in one place: any distance will do
    linear = rotation_to_z(torch.nn.functional.normalize(torch.tensor(up).double(), dim=0)) / radius
    similarity = torch.eye(4, dtype=torch.float64)
    similarity[:3, :3], similarity[:3, 3] = linear, -linear @ centre
    return similarity
