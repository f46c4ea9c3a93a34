"""The import doctor: what a scene holds, in words, and what about it looks wrong. `neural3d info` prints both."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural3d.errors import UserError
from neural3d.files.clouds import is_cloud_file, read_cloud
from neural3d.geometry.bounds import every_nth, in_picture, seen_by
from neural3d.geometry.cameras import Camera, project, unproject
from neural3d.geometry.lenses import lens_of
from neural3d.images.reading import read_image
from neural3d.scene.exposure import exposure_spread, small_size
from neural3d.scene.observed import Observed, observed_points
from neural3d.scene.photos import available_memory
from neural3d.scene.plausible import implausible
from neural3d.scene.readers import READERS
from neural3d.scene.scene import Scene, View
from neural3d.shapes.shape import load_parts, read_shape

FEW_VIEWS = 20  # training views below which radiance fields need regularisation to generalise
SAMPLE = 16  # photos decoded for a judgement


def describe(scene: Scene) -> list[tuple[str, str]]:
    """Label and value of everything worth knowing; reads a few photos' headers, no pixels."""
    units = 1 / _scale(scene)
    distances = torch.stack([v.camera.centre.norm() for v in scene.views])
    corners = (scene.aabb.double() - scene.scene_from_capture[:3, 3]) @ torch.linalg.inv(
        scene.scene_from_capture[:3, :3]
    ).T
    extent = (scene.aabb[1] - scene.aabb[0]).double() * units
    rows = [
        ("scene", f"{scene.name} ({scene.path})"),
        ("read as", f"{scene.reader}: {READERS[scene.reader].programs}" if scene.reader in READERS else scene.reader),
        ("views", ", ".join(f"{len(indices)} {name}" for name, indices in scene.split.items())),
        ("photo size", _sizes(scene)),
        ("cameras", _lenses(scene)),
        ("distortion", _distortion(scene)),
        ("cut out", _cut_out(scene)),
        ("space", "unbounded: photos show more than the bounds" if scene.unbounded else "bounded"),
        ("bounds", f"{_numbers(extent)} around {_numbers(corners.mean(0))} in the capture's units"),
        ("scene unit", f"{units:.4g} of the capture's"),
        ("camera distances", f"{distances.min():.2f}–{distances.max():.2f} scene units from the middle of the bounds"),
        ("depth range", f"{scene.near:.2f}–{scene.far:.4g} scene units"),
        ("points", _points(scene)),
        ("memory", _memory(scene)),
    ]
    return rows + [("note", note) for note in scene.notes]


def warnings(scene: Scene) -> list[str]:
    """One sentence for each thing that looks wrong, the gravest first. Decodes up to SAMPLE photos."""
    observed = observed_points(scene)
    found = [
        *implausible(scene),
        *_looking_away(scene),
        *_points_unseen(scene),
        *_reprojection(scene, observed),
        *_twins(scene),
        *_odd_lenses(scene),
        *_inside_bounds(scene),
        *(_pixels(scene) or _exposure(scene, observed)),
    ]
    train = len(scene.split["train"])
    if train < FEW_VIEWS:
        found.append(
            f"Only {train} training views: expect poor new views; take more photos, from between these, and "
            "`neural3d process` them all."
        )
    if not scene.split["test"]:
        found.append('No views are held out, so `neural3d eval` cannot score: set split = "every:8" in a scene .toml.')
    return found


# --- description -----------------------------------------------------------------------------------------------------


def _scale(scene: Scene) -> float:
    return torch.linalg.det(scene.scene_from_capture[:3, :3]).item() ** (1 / 3)


def _numbers(values: Tensor) -> str:
    return "(" + ", ".join(f"{v:.3g}" for v in values.tolist()) + ")"


def _unique(cameras: list[Camera]) -> list[Camera]:
    """One camera of each lens and picture size."""
    return list({(c.model, c.width, c.height, *c.params.tolist()): c for c in cameras}.values())


def _sizes(scene: Scene) -> str:
    sizes = sorted({(v.camera.width, v.camera.height) for v in scene.views})
    text = ", ".join(f"{w}×{h}" for w, h in sizes[:4]) + (" and others" if len(sizes) > 4 else "")
    return text + (f" (stored {scene.downscale}× larger)" if scene.downscale > 1 else "")


def _lenses(scene: Scene) -> str:
    lenses = _unique([v.camera for v in scene.views])
    fields = torch.tensor([_field_of_view(c) for c in lenses])
    low, high = fields.amin(0).tolist(), fields.amax(0).tolist()
    angles = " × ".join(f"{a:.0f}°" if b - a < 1 else f"{a:.0f}–{b:.0f}°" for a, b in zip(low, high))
    models = ", ".join(sorted({c.model for c in lenses}))
    return f"{models}, {len(lenses)} {'lens' if len(lenses) == 1 else 'lenses'}, field of view {angles}"


def _field_of_view(camera: Camera) -> tuple[float, float]:
    """Horizontal and vertical angle through the picture's middle, in degrees."""
    middles = torch.tensor([[0.0, 0.5], [1.0, 0.5], [0.5, 0.0], [0.5, 1.0]]).double()
    rays = camera.rays(middles * torch.tensor([camera.width, camera.height]))[1].double() @ camera.forward
    angles = rays.clamp(-1, 1).arccos() * (180 / math.pi)
    return (angles[0] + angles[1]).item(), (angles[2] + angles[3]).item()


def _border(camera: Camera) -> Tensor:
    """Pixels along the picture's border."""
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    sides = torch.cat([torch.stack(s, -1) for s in ((t, zero), (t, one), (zero, t), (one, t))])
    return sides * torch.tensor([camera.width, camera.height], dtype=torch.float64)


def _distortion(scene: Scene) -> str:
    lenses = _unique([v.camera for v in scene.views])
    if not any(lens_of(c.model).distorts or lens_of(c.model).projection != "perspective" for c in lenses):
        return "none"
    most = 0.0
    for camera in lenses:
        if lens_of(camera.model).projection in ("equidistant", "equirectangular"):
            return "fisheye or panorama"
        border, names = _border(camera), lens_of(camera.model).names
        directions = unproject(camera.model, camera.params, border)
        a = dict(zip(names, camera.params.tolist()))
        focal = torch.tensor([a.get("fx", a.get("f", 1.0)), a.get("fy", a.get("f", 1.0))], dtype=torch.float64)
        straight = directions[:, :2] / directions[:, 2:] * focal + torch.tensor([a["cx"], a["cy"]], dtype=torch.float64)
        most = max(most, (straight - border).norm(dim=-1).max().item())
    return f"up to {most:.1f} px at the border, handled on the rays"


def _cut_out(scene: Scene) -> str:
    masked = sum(v.mask_path is not None for v in scene.views)
    if scene.has_alpha:
        source = "masks" if scene.views[0].mask_as_alpha else "alpha channel"
        return f"by {source}, composited on {scene.background}"
    return f"masks of {masked} of {len(scene.views)} photos say which pixels count" if masked else "no masks, no alpha"


def _points(scene: Scene) -> str:
    if scene.points is None:
        return "none"
    points = torch.from_numpy(scene.points[0])
    inside = ((points > scene.aabb[0]) & (points < scene.aabb[1])).all(-1).float().mean().item()
    return f"{len(points)} sparse points, {100 * inside:.0f} % of them in the bounds"


def _memory(scene: Scene) -> str:
    pixels = sum(scene.views[i].camera.width * scene.views[i].camera.height for i in scene.split["train"])
    gib = pixels * (4 if scene.has_alpha else 3) / 2**30
    return f"{gib:.2f} GiB for {pixels / 1e6:.1f} M training pixels, {available_memory() / 2**30:.1f} GiB are free"


# --- warnings --------------------------------------------------------------------------------------------------------


def _names(views: list[View]) -> str:
    return ", ".join(v.name for v in views[:3]) + (f" and {len(views) - 3} more" if len(views) > 3 else "")


def _looking_away(scene: Scene) -> list[str]:
    steps = torch.linspace(0, 1, 5)
    grid = torch.cartesian_prod(*(scene.aabb[0, i] + steps * (scene.aabb[1, i] - scene.aabb[0, i]) for i in range(3)))
    away = [v for v in scene.views if not in_picture(v.camera, grid.double())[0].any()]
    if not away:
        return []
    if len(away) == len(scene.views):
        return [
            "No camera sees any of the bounds: poses may be inverted, or aabb (of a scene .toml) is in another frame."
        ]
    return [
        f"{len(away)} of {len(scene.views)} cameras look past the bounds ({_names(away)}): "
        "remove them, or set aabb in a scene .toml."
    ]


def _points_unseen(scene: Scene) -> list[str]:
    """Points that were triangulated must be in at least two pictures."""
    if scene.points is None:
        return []
    cameras = [v.camera for v in scene.views]
    some = every_nth(torch.from_numpy(scene.points[0]), 2000)
    unseen = (seen_by(cameras, some) * len(cameras) < 1.5).double().mean().item()
    if unseen < 0.1:
        return []
    return [
        f"{100 * unseen:.0f} % of the points are seen by fewer than two cameras: points and poses disagree; "
        "`neural3d process` finds both anew."
    ]


def _reprojection(scene: Scene, observed: Observed) -> list[str]:
    error = reprojection_error(scene, observed)
    if error is None or error < 2:
        return []
    return [
        f"Points miss their observations by {error:.1f} px in the median (under 1 is usual); "
        "`neural3d process` calibrates anew."
    ]


def reprojection_error(scene: Scene, observed: Observed | None = None) -> float | None:
    """Median distance in loaded pixels between COLMAP's observations and its points seen by the scene's cameras.

    None where there is no model, or its points are in another frame than the capture's cameras.
    """
    observed = observed_points(scene) if observed is None else observed
    capture_from_scene = torch.linalg.inv(scene.scene_from_capture)
    errors = []
    for view in every_nth(scene.views, 50):
        if view.name in observed and len(observed[view.name][0]):
            xy, _, points = (torch.from_numpy(a) for a in observed[view.name])
            seen, _ = view.camera.moved(capture_from_scene).project(points)
            errors.append((seen - xy / scene.downscale).norm(dim=-1))
    return torch.cat(errors).median().item() if errors else None


def _twins(scene: Scene) -> list[str]:
    poses = torch.stack([v.camera.world_from_camera for v in scene.views])[:, :3].reshape(len(scene.views), -1)
    distances = torch.cdist(poses, poses) + 1e9 * torch.eye(len(poses), dtype=poses.dtype)
    same = distances < 1e-6
    twins = [v for v, has_twin in zip(scene.views, same.any(0)) if has_twin]
    if not twins:
        return []
    leak = same[scene.split["test"]][:, scene.split["train"]].any()
    flatters = ", and held-out views have twins to train on, so scores will flatter" if leak else ""
    return [f"{len(twins)} photos share another one's pose exactly ({_names(twins)}){flatters}."]


def _odd_lenses(scene: Scene) -> list[str]:
    found = []
    for camera in _unique([v.camera for v in scene.views]):
        horizontal, vertical = _field_of_view(camera)
        lens = lens_of(camera.model)
        if lens.projection != "equirectangular" and not 5 < max(horizontal, vertical) < 200:
            found.append(f"A {camera.model} lens sees {horizontal:.1f}° × {vertical:.1f}°: is its focal length right?")
        if lens.focals:
            at = camera.params[lens.names.index("cx") : lens.names.index("cx") + 2].tolist()
            if max(abs(at[0] / camera.width - 0.5), abs(at[1] / camera.height - 0.5)) > 0.15:
                found.append(
                    f"A principal point lies at ({at[0]:.0f}, {at[1]:.0f}) of {camera.width}×{camera.height} photos: "
                    "were they cropped after calibration?"
                )
        border = _border(camera)
        back = project(camera.model, camera.params, unproject(camera.model, camera.params, border))
        if not ((back - border).norm(dim=-1) < 0.5).all():
            found.append(f"The distortion of a {camera.model} lens turns back inside the picture: corners are wrong.")
    return list(dict.fromkeys(found))


def _inside_bounds(scene: Scene) -> list[str]:
    inside = [v for v in scene.views if ((v.camera.centre > scene.aabb[0]) & (v.camera.centre < scene.aabb[1])).all()]
    if scene.unbounded or not inside:
        return []
    return [
        f"{len(inside)} cameras stand inside the bounds of a bounded scene ({_names(inside)}): "
        "set its aabb, or unbounded = true, in a scene .toml."
    ]


def _pixels(scene: Scene) -> list[str]:
    """What a look at small copies of some photos shows: damage, or nothing at all."""
    empty = []
    for view in every_nth(scene.views, SAMPLE):
        try:
            pixels = read_image(view.image_path, *small_size(view), alpha=True)
        except UserError as error:
            return [str(error)]
        if pixels[..., 3].max() == 0:
            empty.append(view)
    return [f"Photos are completely transparent ({_names(empty)})."] if empty else []


def _exposure(scene: Scene, observed: Observed) -> list[str]:
    try:
        stops = exposure_spread(scene, observed)
    except UserError as error:
        return [str(error)]
    if stops is None:
        return []
    return [f"Exposure varies by {stops:.1f} stops between photos: splat and ngp give each a gain; lock it next time."]


def describe_shape(path: Path) -> list[tuple[str, str]]:
    """Label and value of what a mesh or cloud file holds. Raises UserError where it cannot be read as one."""
    import trimesh

    parts = [] if is_cloud_file(path) else load_parts(path)
    parts = [part for part in parts if len(getattr(part, "faces", ()))]
    if not parts:
        return _describe_cloud(path)
    mesh: Any = trimesh.util.concatenate(parts) if len(parts) > 1 else parts[0]
    points, faces = np.asarray(mesh.vertices), mesh.faces
    kinds = {"vertex": "per vertex", "face": "per face", "texture": "texture"}
    rows = [("vertices", f"{len(points):,}"), ("faces", f"{len(faces):,}")]
    rows += [("colours", kinds.get(mesh.visual.kind or "", "none")), _bounds(points)]
    joined = mesh.copy()
    joined.merge_vertices(merge_tex=True, merge_norm=True)  # STL has corners only, textures cut meshes along seams
    pieces = trimesh.graph.connected_component_labels(joined.face_adjacency, node_count=len(joined.faces)).max() + 1
    closed = joined.is_watertight
    rows += [("closed", "yes" if closed else "no"), ("pieces", str(pieces)), ("area", f"{mesh.area:.4g}")]
    if closed:
        rows.append(("volume", f"{abs(joined.volume):.4g}"))
    return rows + [("note", note) for note in read_shape(path).notes]


def _describe_cloud(path: Path) -> list[tuple[str, str]]:
    cloud = read_cloud(path)
    rows = [("vertices", f"{len(cloud.points):,}"), ("faces", "none: a point cloud"), _bounds(cloud.points)]
    rows += [
        (what, "none" if v is None else "yes") for what, v in (("normals", cloud.normals), ("colours", cloud.colors))
    ]
    return rows + [("note", note) for note in cloud.notes]


def _bounds(points: np.ndarray) -> tuple[str, str]:
    low, high = points.min(0), points.max(0)
    digits = 3 if np.abs(points).max() < 1e4 else 9  # UTM to a centimetre
    return "bounds", " to ".join("(" + ", ".join(f"{v:.{digits}g}" for v in corner) + ")" for corner in (low, high))
