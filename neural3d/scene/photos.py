"""Checks of a capture's photos by their headers, and the size at which they fit in memory."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from neural3d.errors import UserError
from neural3d.geometry.lenses import lens_of
from neural3d.images.reading import lies_on_its_side, read_header
from neural3d.scene.capture import Capture, Frame
from neural3d.scene.options import SceneOptions

SHORTEST, FARTHEST = 1e-3, 1e15  # focal length in widths of a photo; distance of a camera from the origin
HALVES = (2, 4, 8, 16)  # how many times smaller than described a photo may be
LONGEST = 1600  # pixels of a photo's longer side, about: as many as 3D Gaussian Splatting (Kerbl et al. 2023) takes


def check_photos(capture: Capture, options: SceneOptions) -> None:
    """Every photo exists, opens and has its camera's size; names are unique; silhouettes are where they should be.

    Sets capture.silhouettes and each frame's `alpha` and `mask_as_alpha`.
    """
    doubled = [name for name, n in Counter(f.name for f in capture.frames).items() if n > 1]
    if doubled:
        source = next(f.source for f in capture.frames if f.name == doubled[0])
        raise UserError(f"{source}: photo '{doubled[0]}' is listed twice; keep one of its frames.")
    described = [(f.camera.width, f.camera.height) for f in capture.frames]
    alpha = [_check_size(frame) for frame in capture.frames]
    _note_halves(capture, described)
    for frame in capture.frames:
        if frame.mask_path:
            _check_mask(frame)
    if any(alpha):
        for frame in capture.frames:
            frame.alpha = True
        if _opaque(capture.frames):
            capture.notes.append("Photos have an alpha channel that is opaque everywhere; it is ignored.")
            for frame in capture.frames:
                frame.alpha = False
    elif options.masks == "alpha" or (options.masks is None and capture.mask_as_alpha):
        _masks_to_alpha(capture, wanted=options.masks == "alpha")
    capture.silhouettes = any(f.alpha for f in capture.frames)


def check_cameras(capture: Capture) -> None:
    """Raises UserError where numbers are such that nothing can be computed with them."""
    for frame in capture.frames:
        camera = frame.camera
        focal = camera.params[: lens_of(camera.model).focals]
        if not (focal > SHORTEST * max(camera.width, camera.height)).all():
            raise UserError(
                f"{frame.source}: the camera of '{frame.name}' has a focal length of {min(focal.tolist()):.3g} pixels; "
                "calibrate it again, or remove the photo."
            )
        if not (camera.centre.abs() < FARTHEST).all():
            raise UserError(f"{frame.source}: the camera of '{frame.name}' is at {camera.centre.tolist()}; remove it.")


def _check_size(frame: Frame) -> bool:
    """Whether the photo has alpha, after its size was found to be right."""
    width, height, alpha = read_header(frame.image_path)
    expected = (frame.camera.width, frame.camera.height)
    if (width, height) == expected:
        return alpha
    reduced = frame.any_size and abs(width / expected[0] * expected[1] / height - 1) < 2 / min(width, height)
    if reduced or _halved((width, height), expected):
        frame.camera = frame.camera.resized(width, height)  # a reduced copy, to within rounding of its size
        return alpha
    message = f"{frame.image_path} is {width}×{height} but {frame.source} describes {expected[0]}×{expected[1]}"
    if (height, width) == expected and lies_on_its_side(frame.image_path):
        raise UserError(f"{message}: its EXIF data turns it by 90°; store it upright, without EXIF.")
    raise UserError(f"{message}; restore the photo's size or recalibrate.")


def _halved(size: tuple[int, int], described: tuple[int, int]) -> bool:
    """Whether a photo is exactly ½, ¼, … of the described size; sides may be rounded either way."""
    return any(all(n in (d // k, -(-d // k)) for n, d in zip(size, described)) for k in HALVES)


def _note_halves(capture: Capture, described: list[tuple[int, int]]) -> None:
    """Says which photos of a capture that describes their size are smaller, and what followed from that."""
    smaller = [(f, d) for f, d in zip(capture.frames, described) if not f.any_size and d[0] > f.camera.width]
    if smaller:
        frame, (width, height) = smaller[0]
        capture.notes.append(
            f"{len(smaller)} of {len(capture.frames)} photos are smaller than {frame.source.name} describes "
            f"({frame.name}: {frame.camera.width}×{frame.camera.height} instead of {width}×{height}): focal lengths "
            "and principal points were scaled to the photos."
        )


def _check_mask(frame: Frame) -> None:
    """A mask has its photo's shape; its size may differ, as where images_4 go with masks of full size."""
    assert frame.mask_path is not None
    width, height, _ = read_header(frame.mask_path)
    size = (frame.camera.width, frame.camera.height)
    if abs(width / size[0] * size[1] / height - 1) > 2 / min(width, height, *size):
        raise UserError(
            f"Mask {frame.mask_path} is {width}×{height} but its photo {size[0]}×{size[1]}; make it the photo's size."
        )


def _opaque(frames: list[Frame]) -> bool:
    """Whether the alpha of a few of the pictures hides nothing."""
    return all(f.view().image()[..., 3].min() == 255 for f in frames[:: max(1, len(frames) // 3)])


def _masks_to_alpha(capture: Capture, wanted: bool) -> None:
    bare = [f.name for f in capture.frames if not f.mask_path]
    if not wanted and len(bare) == len(capture.frames):
        return
    if bare:
        raise UserError(f"{capture.path}: photo '{bare[0]}' has no mask; add it, or set masks = \"ignore\" in [scene].")
    for frame in capture.frames:
        frame.alpha = frame.mask_as_alpha = True


def choose_downscale(capture: Capture, train: list[Frame], options: SceneOptions, max_gib: float | None) -> int:
    """The option, or the smallest number at which photos are about LONGEST and fit in the budget; told if not 1."""
    if options.downscale:
        smallest = min(min(f.camera.width, f.camera.height) for f in capture.frames)
        if options.downscale > smallest:
            raise UserError(f"downscale = {options.downscale} leaves nothing of {smallest}-pixel photos; lower it.")
        return options.downscale
    budget = available_memory() / 4 if max_gib is None else max_gib * 2**30
    size = (4 if capture.silhouettes else 3) * sum(f.camera.width * f.camera.height for f in train)
    longest = max(max(f.camera.width, f.camera.height) for f in capture.frames)
    downscale = handy = max(1, round(longest / LONGEST))
    while size / downscale**2 > budget and downscale < 64:
        downscale += 1
    if 1 < downscale == handy:
        capture.notes.append(
            f"Photos are reduced {downscale}×, to {longest // downscale} px: training sees too little of larger ones "
            "in its time. A downscale of your own (1: as they are) overrides this."
        )
    elif downscale > 1:
        capture.notes.append(
            f"Photos are reduced {downscale}× so that {len(train)} training views take "
            f"{size / downscale**2 / 2**30:.1f} GiB instead of {size / 2**30:.1f} of the {budget / 2**30:.1f} GiB "
            "allowed; a downscale of your own overrides this."
        )
    return downscale


def available_memory() -> int:
    """Bytes this process may still take: what the machine has free, or less where a container limits it."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines.get("MemAvailable", lines["MemTotal"]).split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, max(0, int(most) - int(used.read_text())))
    return free
