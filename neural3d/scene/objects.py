"""Folders of captures of many objects: photos of each, with cameras, all in one frame.

python -m neural3d.scene.objects SHAPES OUT [--views 24] [--side 64]

photographs each mesh of a folder (`neural3d.shapes.shots`) and writes
    OUT/category.json               {"aabb": the box that holds all objects}, in the frame of all files; +z is up
    OUT/train/NAME/transforms.json  pinhole cameras in nerfstudio's layout, and beside it the photos, cut out by alpha
    OUT/test/NAME/…                 the same of objects held out
    …/NAME/shape.ply                the true mesh, where it is known: only evaluation reads it
Folders of other origin are read just so. Each object's folder is also a capture by itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from neural3d.disk import replacing, write_whole
from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.images.reading import read_header, read_image
from neural3d.scene.capture import Frame, read_json
from neural3d.scene.readers.transforms import OPENCV_FROM_OPENGL, read_transforms
from neural3d.shapes.category import SPLITS, ShapeSet, frame_of, kind_of, load_shape_set, read_member
from neural3d.shapes.shots import SIDE, VIEWS, Shots, take_shots

CATEGORY, CAMERAS, TRUTH = "category.json", "transforms.json", "shape.ply"


def holds_captures(folder: Path) -> bool:
    return (folder / CATEGORY).is_file()


def load_captures(folder: Path) -> ShapeSet:
    """The set without its photos, which `shots_of` reads. Raises UserError where the box or objects are missing."""
    where = folder / CATEGORY
    content = read_json(where)
    try:
        low, high = np.asarray(content["aabb"], np.float64)
        if not ((low < high) & np.isfinite(low) & np.isfinite(high)).all() or low.shape != (3,):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f'{where}: needs "aabb": [[x, y, z], [x, y, z]], the box of all objects, lower corner first.'
        ) from None
    members = {
        split: sorted(str(file.parent.relative_to(folder)) for file in (folder / split).rglob(CAMERAS))
        for split in SPLITS
    }
    if len(members["train"]) < 2:
        raise UserError(
            f"{folder}: holds {len(members['train'])} captures in train/ (folders with {CAMERAS}); it needs more."
        )
    matrix, aabb = frame_of(low, high, np.eye(3))
    counts = ", ".join(f"{len(names)} {split}" for split, names in members.items())
    return ShapeSet(
        name=folder.name, path=folder, aabb=aabb, scene_from_capture=torch.from_numpy(matrix), members=members,
        captures=True, notes=[f"{folder.name}: captures of objects: {counts}"],
    )  # fmt: skip


def shots_of(shapes: ShapeSet, split: str, side: int) -> Shots:
    """Pictures of a split's members, side × side: photos of captures; of meshes, photographed now, always the same.

    Raises UserError where a photo is missing, of another size, not cut out, or its camera is no pinhole.
    """
    if not shapes.captures:
        return take_shots(meshes_of(shapes, split), SPLITS.index(split), radius=_reach(shapes), side=side)
    read = [_read_object(shapes.path / name, shapes, side) for name in shapes.members[split]]
    least = min(len(pixels) for pixels, _, _ in read)
    return Shots(*(torch.stack([part[:least] for part in parts]) for parts in zip(*read)))


def _reach(shapes: ShapeSet) -> float:
    """From the scene frame's origin to the farthest vertex of any split: all pictures are taken from one distance."""
    return max(float(np.linalg.norm(m.vertices, axis=1).max()) for split in SPLITS for m in meshes_of(shapes, split))


def _read_object(folder: Path, shapes: ShapeSet, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    frames = read_transforms(folder / CAMERAS).frames
    parts = zip(*(_read_photo(frame, shapes, side) for frame in frames))
    pixels, lens, poses = (torch.stack(part) for part in parts)
    return pixels, lens.float(), poses.float()


def _read_photo(frame: Frame, shapes: ShapeSet, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    path, camera = frame.image_path, frame.camera
    width, height, alpha = read_header(path)
    if width != height or width < side or width % side:
        raise UserError(
            f"{path}: has {width} × {height} pixels; photos of objects must be square and as large as "
            f"--set side={side}, or 2, 3, … times that."
        )
    if not alpha:
        raise UserError(f"{path}: has no alpha, which cuts the object out; write it as a PNG with alpha.")
    if camera.model != "PINHOLE":
        raise UserError(f"{path}: its camera is {camera.model}; undistort the photos of objects, for pinhole cameras.")
    camera = camera.resized(side, side).moved(shapes.scene_from_capture)
    pixels = read_image(path, side, side, alpha=True)
    return torch.from_numpy(np.array(pixels)), camera.params, camera.world_from_camera


def meshes_of(shapes: ShapeSet, split: str) -> list[Mesh]:
    """The true shapes, in the scene frame. Raises UserError where captures come without."""
    if shapes.meshes is not None:
        return shapes.meshes[split]
    files = [shapes.path / name / TRUTH for name in shapes.members[split]]
    if missing := next((file for file in files if not file.is_file()), None):
        raise UserError(f"{missing} is missing: the true shape, to measure against; in the frame of the cameras.")
    return [read_member(file).mesh.transformed(shapes.scene_from_capture.numpy()) for file in files]


def write_captures(shapes: ShapeSet, out: Path, *, views: int = VIEWS, side: int = SIDE) -> Path:
    """See the module's docstring. The same shapes give the same bytes."""
    import trimesh

    scale = torch.linalg.det(shapes.scene_from_capture[:3, :3]) ** (1 / 3)
    back = torch.eye(4, dtype=torch.float64)  # to the units of the meshes, +z up as in the scene frame
    back[:3, :3], back[:3, 3] = back[:3, :3] / scale, -shapes.scene_from_capture[:3, 3] / scale
    for number, split in enumerate(SPLITS):
        meshes = meshes_of(shapes, split)
        shots = take_shots(meshes, number, radius=_reach(shapes), views=views, side=side) if meshes else None
        for i, mesh in enumerate(meshes):
            assert shots is not None
            name = Path(shapes.members[split][i])
            kind = "" if name.parent.name in ("", *SPLITS) else f"{kind_of(str(name))}_"
            folder = out / split / f"{kind}{name.stem}"
            frames = []
            for view, pixels in enumerate(shots.pixels[i]):
                with replacing(folder / f"{view:03d}.png") as part:
                    Image.fromarray(pixels.numpy()).save(part, "PNG")
                pose = back @ shots.world_from_camera[i, view].double()
                pose[:3, :3] *= scale
                frames.append(
                    {"file_path": f"{view:03d}.png", "transform_matrix": (pose @ OPENCV_FROM_OPENGL).tolist()}
                )
            focal = float(shots.lens[i, 0, 0])
            lens = {"fl_x": focal, "fl_y": focal, "cx": side / 2, "cy": side / 2, "w": side, "h": side}
            write_whole(folder / CAMERAS, json.dumps({**lens, "frames": frames}).encode())
            truth = mesh.transformed(back.numpy())
            with replacing(folder / TRUTH) as part:
                trimesh.Trimesh(truth.vertices, truth.faces, process=False).export(part, file_type="ply")
    everything = [m for split in SPLITS for m in meshes_of(shapes, split)]
    corners = np.stack([f([f(m.vertices, axis=0) for m in everything], axis=0) for f in (np.min, np.max)])
    aabb = corners / scale.numpy() + back[:3, 3].numpy()
    write_whole(out / CATEGORY, json.dumps({"aabb": aabb.tolist()}).encode())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Photograph each mesh of a folder: captures of many objects.")
    parser.add_argument("shapes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--views", type=int, default=VIEWS)
    parser.add_argument("--side", type=int, default=SIDE, help="pixels along the pictures' sides")
    given = parser.parse_args()
    try:
        shapes = load_shape_set(given.shapes)
        write_captures(shapes, given.out, views=given.views, side=given.side)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{sum(map(len, shapes.members.values()))} captures of {given.views} photos written to {given.out}")


if __name__ == "__main__":
    main()
