"""What is implausible about where a capture's cameras and its bounds are: part of the import doctor."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from neural3d.geometry.bounds import ENOUGH, convergence, subject_box
from neural3d.scene.scene import Scene

PLACED = 0.5  # share of the photos beside that have a camera, under which most could not be placed
CHOSEN = ("record3d", "scannetpp")  # readers of films, of which some frames are taken
ASTRAY = 20.0  # times the median distance from the middle of all cameras beyond which one is lost
WIDE = 3.0  # times the cameras' extent from which bounds guessed without a common subject hold mostly background
STILL = 0.005  # of the points' median distance: cameras that move less show no depth


def implausible(scene: Scene) -> list[str]:
    """One sentence for each thing that is; the gravest first."""
    centres = torch.stack([view.camera.centre for view in scene.views])
    return [*_unplaced(scene), *_one_place(scene, centres), *_astray(scene, centres), *_guessed_bounds(scene, centres)]


def _unplaced(scene: Scene) -> list[str]:
    """Photos in the same folders without a camera; what is named after a photo (its mask, its depth) is none."""
    placed = {view.image_path for view in scene.views}
    folders = {path.parent for path in placed if path.parent.is_dir()}
    companions = {f: tuple(f"{p.stem}{c}" for p in placed if p.parent == f for c in "._") for f in folders}
    suffixes = {path.suffix.lower() for path in placed}
    beside = [
        path
        for folder in folders
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and path not in placed and not path.name.startswith(companions[folder])
    ]
    count = len(placed) + len(beside)
    if scene.reader in CHOSEN or len(placed) >= PLACED * count:
        return []
    where = Path(min(map(str, folders)))
    return [
        f"Only {len(placed)} of the {count} photos in {where} have a camera: the others could not be placed. Find the "
        "cameras again (neural3d process), with photos that overlap more, or take the others out of the folder."
    ]


def _one_place(scene: Scene, centres: Tensor) -> list[str]:
    reach = 0.0
    if scene.points is not None and len(scene.points[0]):
        reach = STILL * (torch.from_numpy(scene.points[0]).double() - centres.mean(0)).norm(dim=-1).median().item()
    if (centres - centres.mean(0)).norm(dim=-1).max().item() > max(reach, 1e-6):
        return []
    return ["All cameras stand in one place: turning shows no depth. Walk around the subject, or past it."]


def _astray(scene: Scene, centres: Tensor) -> list[str]:
    distances = (centres - centres.median(0).values).norm(dim=-1)
    lost = (distances > ASTRAY * distances.median().clamp(min=1e-9)).nonzero()[:, 0].tolist()
    if not lost or distances.median() < 1e-9:
        return []
    names = ", ".join(scene.views[i].name for i in lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    times = (distances.max() / distances.median()).item()
    return [f"{len(lost)} cameras stand up to {times:.0f} times farther off than is usual ({names}): wrong poses?"]


def _guessed_bounds(scene: Scene, centres: Tensor) -> list[str]:
    """Bounds of all there is, where cameras look at no common subject: a walk, a room, a failed reconstruction."""
    cameras = [view.camera for view in scene.views]
    points = None if scene.points is None else torch.from_numpy(scene.points[0]).double()
    if scene.has_alpha or convergence(cameras) is not None:
        return []
    if not torch.allclose(subject_box(cameras, points).float(), scene.aabb, atol=1e-2):
        return []  # they were given
    remedy = "give the part that matters as scene.aabb"
    if points is None or len(points) < ENOUGH:
        return [
            "The cameras look at no common subject and there are no points, so that nothing says how far the scene "
            f"reaches: the bounds are a guess; {remedy}, or give sparse points."
        ]
    width = (scene.aabb[1] - scene.aabb[0]).max().item()
    apart = (centres.amax(0) - centres.amin(0)).norm().item()
    if width <= WIDE * apart:
        return []
    unit = torch.linalg.det(scene.scene_from_capture[:3, :3]).item() ** (-1 / 3)
    return [
        f"The bounds are guessed, {width * unit:.3g} of the capture's units wide though its cameras stand "
        f"{apart * unit:.3g} apart and look at no common subject: {remedy}."
    ]
