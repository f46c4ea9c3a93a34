"""One representation from another, and what that cost: splats ↔ mesh, mesh → signed distances, splats ↔ splat formats.

The cost is measured on what can be seen: pictures of source and result from views around them. PSNR is over the pixels
that either covers; splats of a mesh are drawn finer and averaged, as the mesh is. Distances are between the surfaces in
the two sets of pictures, both ways, in % of the diagonal of the source's box. The result is read back from its file, so
that what the format cannot hold counts. Of signed distances it is the exact distance between the surfaces, as in
`evaluate_mesh`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from neural3d.covering import cover, fitted
from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.files.meshes import check_format, write_mesh
from neural3d.files.splats import ANTIALIASED, WRITTEN, ending_of, is_splat_file, read_splats, write_splats
from neural3d.files.usdz import read_usdz
from neural3d.geometry.cameras import Camera
from neural3d.geometry.clean import cleaned, simplified
from neural3d.geometry.mesh import Mesh, extract
from neural3d.geometry.upright import file_from_own
from neural3d.meshing import FACES
from neural3d.methods import method_class
from neural3d.methods.abilities import Meshable, Splatted
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.fusion import Fused, fused_surface, truncation
from neural3d.render.paths import orbit, surround
from neural3d.render.splats import render_splats
from neural3d.run import load, read_config
from neural3d.viewer.open import Subject, open_subject
from neural3d.viewer.solids import Solid

MESHES = (".glb", ".obj", ".stl", ".usdz")
WHAT = (
    f"splats (a run or a file of them) become a mesh ({', '.join(MESHES)}) or splats ({', '.join(WRITTEN)}); "
    "a mesh becomes splats or signed distances (a run folder)"
)
LOOKS, SIDE = 8, 256  # views by which source and result are compared, and their pixels along a side
FINE = 2  # times as large splats of a mesh are drawn and averaged, as the mesh is: not what renderers widen counts
RAYS = 4  # along a pixel of the source, where it has edges that splats are to follow: 2 tell their place to ±1/8 pixel
NEAREST = 40_000  # points of each whose distance to the other's is taken
Render = Callable[[Camera, Tensor], RenderOut]


@dataclass
class Cost:
    """See the module's page. psnr: dB. lost, added: mean distances of source to result and back, %."""

    psnr: float
    lost: float
    added: float

    def __str__(self) -> str:
        return (
            f"PSNR {self.psnr:.2f} dB against the source; Chamfer {(self.lost + self.added) / 2:.3f} % of the diagonal "
            f"(source to result {self.lost:.3f} %, result to source {self.added:.3f} %)"
        )


def kinds(source: Path, out: Path) -> tuple[str, str]:
    """What is to become what: "splats" or "mesh", and "splats", "mesh" or "field". Raises UserError for other pairs."""
    ending = ending_of(out)
    to = "splats" if ending in WRITTEN else "mesh" if ending in MESHES else "field" if not ending else ""
    of = "mesh"
    if (source / "config.json").is_file():
        of = "splats"
        if not issubclass(method_class(read_config(source).method), Splatted):
            load(source, "cpu").able(Splatted)  # raises, and says what the run can do instead
    elif is_splat_file(source):
        of = "splats"
    elif source.is_dir() or not source.exists():
        of = "folder" if source.is_dir() else "nothing"
    if of == "nothing":
        raise UserError(f"{source}: no such file or run; check the path.")
    if (of, to) not in {("splats", "mesh"), ("splats", "splats"), ("mesh", "splats"), ("mesh", "field")}:
        raise UserError(f"{source} cannot become {out}: {WHAT}.")
    if to == "mesh":
        check_format(out)
    return of, to


# --- splats to a mesh ------------------------------------------------------------------------------------------------


def mesh_of_splats(
    source: Path,
    out: Path,
    resolution: int = 256,
    device: str = "auto",
    up: str | None = None,
    of: str | None = None,
    faces: int = FACES,
    progress: Progress = silent,
) -> tuple[Mesh, Cost, list[str]]:
    """The surface in pictures of splats (`render.fusion`): of a run's training views, of a file from all around.

    Cleaned, and simplified to `faces` (0: not). up: how it stands in its file, see `geometry.upright`. of: what is up
    in a source that is a file, "x", "-x" … "-z". Returns the mesh as written, and what had to be assumed.
    Raises UserError where there is no surface.
    """
    subject = open_subject(source, device, of)
    assert subject.splats is not None and subject.render is not None
    render: Render
    if subject.scene is not None:
        surface, color = load(source, device).able(Meshable).surface(resolution, progress=progress)
        cameras, box, render = orbit(subject.scene, LOOKS), subject.aabb, subject.render
    else:
        box, render = _core(subject.splats), _from_outside(subject)
        views = surround(box, (-15, 15, 45, 75), 12)
        fused = Fused(render, views, truncation(box, resolution), progress)
        fused.confirm()
        surface, color = fused_surface(fused, lambda f: extract(f, box, resolution, progress=progress), closed=False)
        cameras = surround(box, (5, 35), LOOKS // 2, SIDE)
    surface = cleaned(surface, progress=progress).mesh
    mesh = simplified(surface, faces) if faces else surface
    assert color is not None  # splats have colours
    mesh = mesh.colored(color, progress)
    own = subject.capture_from_scene
    written = write_mesh(mesh.transformed(own), out, up=up, native_up=own[:3, 2])
    back = _read_back(out, file_from_own(out, up, own[:3, 2]) @ own)
    return written, cost(render, _drawn(back), cameras, box), subject.notes


def _core(splats: Gaussians) -> Float[Tensor, "2 3"]:
    """The box of nearly all of the better half of a file's splats; of a capture with surroundings, of the middle."""
    opacity = splats.opacity_logits.detach()
    means = splats.means.detach()[opacity >= opacity.median()].cpu().numpy()
    low, high = np.quantile(means, [0.01, 0.99], axis=0)
    return torch.from_numpy(np.stack([np.maximum(low, -2.5), np.minimum(high, 2.5)])).float() * 1.08


def _from_outside(subject: Subject) -> Render:
    """Without what lies between the camera and the ball around the box, such as walls seen from their backs."""
    splats = subject.splats
    assert splats is not None
    box = _core(splats)
    middle, radius = box.double().mean(0), 0.52 * float((box[1] - box[0]).norm())

    def render(camera: Camera, background: Tensor) -> RenderOut:
        near = max(0.01, float((camera.centre - middle).norm()) - radius)
        return render_splats(splats, camera, background, near=near, antialiased=subject.antialiased)

    return render


def _drawn(solid: Solid, rays: int = 2) -> Render:
    """Pictures of a mesh whose edges are as smooth as splats': rays² for each pixel. Depth is that of one of them."""

    def render(camera: Camera, background: Tensor) -> RenderOut:
        return _averaged(solid.render(camera.resized(rays * camera.width, rays * camera.height), background), rays)

    return render


def _averaged(fine: RenderOut, times: int) -> RenderOut:
    """A picture so many times as large, with the depth and normal of the farthest of a pixel's rays."""
    pixels = [
        x.unflatten(0, (-1, times)).unflatten(2, (-1, times)) for x in (fine.rgb, fine.alpha, fine.depth, fine.normal)
    ]
    return RenderOut(*(x.mean((1, 3)) for x in pixels[:2]), *(x.amax((1, 3)) for x in pixels[2:]))


def _read_back(path: Path, file_from_scene: Float[Tensor, "4 4"]) -> Solid:
    """A mesh file as written, in the frame of what it was made of; for pictures in its own colours, without light."""
    scene_from_file = torch.linalg.inv(file_from_scene).numpy()
    if path.suffix.lower() == ".usdz":
        mesh = read_usdz(path).transformed(scene_from_file)
        count, faces = len(mesh.vertices), len(mesh.faces)
        colors = np.full((count, 3), 0.7, np.float32) if mesh.colors is None else mesh.colors
        return Solid(
            mesh.vertices, mesh.faces.astype(np.int64), mesh.vertex_normals(), colors, np.zeros((count, 2), np.float32),
            np.full(faces, -1), [], np.zeros(faces, np.float32),
        )  # fmt: skip
    back = open_subject(path)
    assert back.meshes is not None
    for part in back.meshes:
        part.apply_transform(scene_from_file @ back.capture_from_scene.numpy())
    solid = Solid.of_meshes(back.meshes)
    solid.lit = np.zeros_like(solid.lit)
    return solid


# --- a mesh to splats ------------------------------------------------------------------------------------------------


def splats_of_mesh(
    source: Path, out: Path, count: int = 200_000, up: str | None = None, progress: Progress = silent
) -> tuple[Gaussians, Cost, list[str]]:
    """Flat splats that cover a mesh (see `covering`), in its colours; and what the format cannot hold, in words.

    up: how they stand in their file, see `geometry.upright`. Raises UserError where the mesh cannot be read.
    """
    subject = open_subject(source, "cpu")
    if subject.meshes is None:
        raise UserError(f"{source} has no faces; of points, neural3d train --method igr makes a surface first.")
    solid = Solid.of_meshes(subject.meshes)
    solid.lit = np.zeros_like(solid.lit)
    # Splats are narrower than distant pixels; formats that can say so have them drawn without swelling.
    antialiased = ending_of(out) in ANTIALIASED
    splats = fitted(cover(solid, count), _drawn(solid), subject.aabb, SIDE, antialiased, progress)
    written, back, notes = _write_splats(splats, subject, out, up, antialiased)

    def render(camera: Camera, background: Tensor) -> RenderOut:
        large = camera.resized(FINE * camera.width, FINE * camera.height)
        return _averaged(render_splats(back, large, background, antialiased=antialiased), FINE)

    result = cost(_drawn(solid, RAYS), render, surround(subject.aabb, (5, 35), LOOKS // 2, SIDE), subject.aabb)
    return written, result, notes


# --- splats to splats ------------------------------------------------------------------------------------------------


def splats_to_splats(
    source: Path, out: Path, device: str = "auto", up: str | None = None, of: str | None = None
) -> tuple[Gaussians, Cost, list[str]]:
    """Another file format; read back and compared. Returns the splats and what the format cannot hold, in words.

    up: how they stand in their file, see `geometry.upright`. of: what is up in a source that is a file, "x", "-x" …
    "-z".
    """
    subject = open_subject(source, device, of)
    assert subject.splats is not None and subject.render is not None
    written, back, notes = _write_splats(subject.splats, subject, out, up, subject.antialiased)
    box = subject.aabb if subject.scene is not None else _core(subject.splats)
    cameras = orbit(subject.scene, LOOKS) if subject.scene is not None else surround(box, (5, 35), LOOKS // 2, SIDE)

    def render(camera: Camera, background: Tensor) -> RenderOut:
        return render_splats(back, camera, background, antialiased=subject.antialiased)

    return written, cost(subject.render, render, cameras, box), subject.notes + notes


def _write_splats(
    splats: Gaussians, subject: Subject, out: Path, up: str | None, antialiased: bool
) -> tuple[Gaussians, Gaussians, list[str]]:
    """Writes splats of the subject's frame; returns them as read back, in the file's frame (about its offset) and in
    the subject's, and what was lost, in words.
    """
    own = subject.capture_from_scene
    turn = file_from_own(out, up, own[:3, 2]) @ own
    direction = torch.nn.functional.normalize(turn[:3, 2], dim=0).tolist()
    notes = write_splats(splats, out, antialiased=antialiased, up=direction, file_from_own=turn)
    file = read_splats(out)
    back = file.gaussians.transformed(torch.linalg.inv(turn) @ file.file_from_means)
    return file.gaussians, back.to(splats.means.device), notes


# --- the cost --------------------------------------------------------------------------------------------------------


def cost(source: Render, result: Render, cameras: Sequence[Camera], box: Float[Tensor, "2 3"]) -> Cost:
    """Compares pictures on white from all cameras; see the module's page. What lies outside the box does not count."""
    errors: list[float] = []
    box = box + 0.02 * (box[1] - box[0]) * torch.tensor([[-1.0], [1.0]])  # of a mesh it touches the surface
    clouds: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for camera in cameras:
        shrink = min(1.0, SIDE / max(camera.width, camera.height))
        camera = camera.resized(round(camera.width * shrink), round(camera.height * shrink))
        outs = [render(camera, torch.ones(3)) for render in (source, result)]
        inside = [_surface(out, camera, box) for out in outs]
        for cloud, (points, seen) in zip(clouds, inside):
            cloud.append(points[seen].numpy())
        covered = inside[0][1] | inside[1][1]
        if covered.any():
            true, got = (out.rgb.cpu().clamp(0, 1)[covered] for out in outs)
            errors.append(float(torch.nn.functional.mse_loss(got, true)))
    a, b = (np.concatenate(cloud) for cloud in clouds)
    if not len(a) or not len(b):
        raise UserError("Nothing of the source or of the result is to be seen from around it; is the source empty?")
    diagonal = float(np.linalg.norm(a.max(0) - a.min(0)))
    few = (x[np.linspace(0, len(x) - 1, min(len(x), NEAREST)).astype(int)] for x in (a, b))
    lost, added = (100 / diagonal * float(cKDTree(y).query(x)[0].mean()) for x, y in zip(few, (b, a)))
    return Cost(float(np.mean([-10 * math.log10(max(e, 1e-10)) for e in errors])), lost, added)


def _surface(out: RenderOut, camera: Camera, box: Float[Tensor, "2 3"]) -> tuple[Float[Tensor, "H W 3"], Tensor]:
    """Where each pixel's ray meets the surface, and whether it does inside the box."""
    origin, direction = camera.rays()
    along = direction @ camera.forward.float()
    points = origin + out.depth[..., 0].cpu()[..., None] / along[..., None] * direction
    inside = ((points >= box[0]) & (points <= box[1])).all(-1)
    return points, inside & (out.alpha[..., 0].cpu() > 0.5)
