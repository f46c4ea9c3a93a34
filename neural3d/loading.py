"""load_data: what lies at a path. load_scene: find the reader, check the photos, split, choose a size, normalise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neural3d.errors import UserError
from neural3d.scene.cell import part_of
from neural3d.scene.normalise import depth_range, normalise, transform
from neural3d.scene.objects import holds_captures, load_captures
from neural3d.scene.options import make_options, read_toml
from neural3d.scene.panorama import cut_panoramas
from neural3d.scene.photos import check_cameras, check_photos, choose_downscale
from neural3d.scene.readers import OPTIONS, open_capture
from neural3d.scene.scene import Data, Scene
from neural3d.scene.splits import make_split
from neural3d.sfm.poses import with_poses
from neural3d.shapes.category import holds_shapes, load_shape_set
from neural3d.shapes.shape import is_shape_file, load_shape


def load_data(path: str | Path, **overrides: Any) -> Data:
    """Photos of a scene, a mesh or point cloud by the file's ending, a folder of meshes without photos, or one of
    captures of many objects.

    Of a TOML, that is what its `path` names.

    overrides: as in `load_scene`; shapes take none. Raises UserError for anything wrong with the data or the options.
    """
    target = resolve(path)
    settings: dict[str, dict] = {}
    if target.suffix == ".toml":
        target, options, settings = read_toml(target)
        of_shapes = is_shape_file(target) or holds_captures(target) or holds_shapes(target)
        overrides = {**options, **overrides} if of_shapes else overrides
    captures = holds_captures(target)
    if not captures and not is_shape_file(target) and not holds_shapes(target):
        return load_scene(path, **overrides)
    if not target.exists():
        raise UserError(f"{path}: its path {target} does not exist; correct it there.")
    if given := [key for key, value in overrides.items() if value is not None]:
        raise UserError(f"{path}: {', '.join(given)} cannot be set: these options are for photos.")
    shape = load_captures(target) if captures else load_shape_set(target) if target.is_dir() else load_shape(target)
    shape.method_settings = settings
    return shape


def load_scene(path: str | Path, *, max_gib: float | None = None, **overrides: Any) -> Scene:
    """A capture folder, a JSON or _par.txt file, a scenes/*.toml file, or the bare name of a ready scene ("fox").

    Of photos without poses, or a video, the cameras are found first: that takes minutes, once, and leaves a capture
    beside them (PHOTOS-capture).

    overrides: fields of SceneOptions; they win over the TOML's [scene]. Photos are only looked at by their headers (and
    a few silhouettes, where there are any); pixels are decoded when `View.image` is called.
    max_gib: memory in GiB that all training pixels may take as uint8, from which the downscale follows unless it is
    given; default a quarter of what is free.

    Raises UserError for anything wrong with the capture or the options.
    """
    path = resolve(path)
    name = path.stem if path.is_file() else path.name
    values: dict[str, Any] = {}
    methods: dict[str, dict] = {}
    if path.suffix == ".toml":
        toml = path
        path, values, methods = read_toml(toml)
        make_options(values, f"{toml}, [scene]", OPTIONS)
        if not path.exists():
            raise UserError(f"{toml}: its path {path} does not exist; correct it there.")
    given = {key: value for key, value in overrides.items() if value is not None}
    options = make_options({**values, **given}, "load_scene", OPTIONS)
    path = with_poses(path, path.parent)
    capture = open_capture(path, options)
    check_cameras(capture)
    check_photos(capture, options)
    cut_panoramas(capture)
    split = make_split(capture, options)
    train = [capture.frames[i] for i in split["train"]]
    downscale = choose_downscale(capture, train, options, max_gib)
    scene_from_capture, aabb, outline = normalise(capture, train, options)
    if not (scene_from_capture.isfinite().all() and aabb.isfinite().all()):
        raise UserError(f"{path}: its box or points are so far away that nothing can be computed; correct them.")
    known = (options.unbounded, capture.unbounded, not capture.silhouettes)
    unbounded = next(u for u in known if u is not None)
    points = None
    if capture.points is not None:
        points = (transform(scene_from_capture, capture.points[0]).astype(np.float32), capture.points[1])
    cameras = [f.camera.moved(scene_from_capture) for f in capture.frames]
    near, far = depth_range(cameras, aabb, unbounded, None if points is None else points[0])
    scene = Scene(
        name=name,
        path=path,
        reader=capture.reader,
        views=[frame.view(camera, downscale) for frame, camera in zip(capture.frames, cameras)],
        split=split,
        aabb=aabb,
        unbounded=unbounded,
        near=near,
        far=far,
        scene_from_capture=scene_from_capture,
        outline=outline,
        points=points,
        has_alpha=capture.silhouettes,
        metric=capture.metric,
        background=options.background or capture.background or ("white" if capture.silhouettes else None),
        downscale=downscale,
        notes=capture.notes,
        method_settings=methods,
    )
    return scene if options.cell is None else part_of(scene, options.cell, options.windows)


def resolve(path: str | Path) -> Path:
    """The path itself, or the ready scene of that name."""
    path = Path(path)
    if path.exists():
        return path.resolve()
    ready = ready_scenes()
    if str(path) in ready:
        return ready[str(path)]
    names = f" and is no ready scene (those are {', '.join(ready)})" if ready else ""
    raise UserError(f"{path} does not exist{names}; check the path.")


def ready_scenes() -> dict[str, Path]:
    """scenes/*.toml by name: as installed with the package, or of the checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "scenes", here.parent / "scenes"):
        if folder.is_dir():
            return {p.stem: p for p in sorted(folder.glob("*.toml"))}
    return {}
