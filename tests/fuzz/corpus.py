"""One small good input for every reader of the project, as its own tests write it.

A new reader of captures is one line of CAPTURES, a new format of meshes, points or splats one word: the fuzzers (the
test beside and benchmarks/fuzz.py) take all that is here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import captures
import numpy as np
import torch
import trimesh
from body.clips import written
from dng import write_dng
from files import test_clouds, test_ksplat
from neural3d.viewer.open import open_subject
from PIL import Image
from scene.readers import (
    test_bundler,
    test_metashape,
    test_openmvg,
    test_opensfm,
    test_phones,
    test_realitycapture,
    test_scannetpp,
)
from splats import synthetic_gaussians
from toy import ball_capture

from neural3d.body.clips import read_motion
from neural3d.cli.console import console
from neural3d.cli.info import describe_run
from neural3d.cli.process import print_report
from neural3d.data.object_rays import ObjectSource
from neural3d.files.splats import describe_splats, read_splats, write_splats
from neural3d.images.reading import read_image, read_mask
from neural3d.images.video import write_sharpest_frames
from neural3d.loading import load_data, load_scene
from neural3d.render.images import save_film
from neural3d.render.path_files import read_camera_path, write_camera_path
from neural3d.run import configure, load
from neural3d.scene.doctor import describe, warnings
from neural3d.scene.objects import meshes_of, shots_of, write_captures
from neural3d.sfm.footage import find_footage, require_footage
from neural3d.sfm.footage_doctor import describe_footage
from neural3d.sfm.solve import read_report
from neural3d.shapes.category import ShapeSet
from neural3d.train import Trainer

BOX = np.array([[0.2, -3.0, -0.3], [1.8, -1.0, 1.3]])
PINHOLE = ("PINHOLE", (60.0, 60.0, 24.0, 18.0))


@dataclass(frozen=True)
class Input:
    """write: makes the good input in a new folder. read: as a command would. files: which of them are damaged."""

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    files: str = "*"


def ring():
    return captures.ring(count=5)


CAPTURES: dict[str, Callable[[Path], object]] = {  # "reader", or "reader: variant"
    "transforms": lambda folder: captures.write_transforms(folder, ring()),
    "blender": lambda folder: captures.write_blender(folder, captures.ring(*PINHOLE, count=6, centre=(0, 0, 0))),
    "idr": lambda folder: captures.write_idr(folder, ring(), "pixels"),
    "idr: DVR": lambda folder: captures.write_idr(folder, ring(), "extrinsics"),
    "middlebury": lambda folder: captures.write_middlebury(folder, ring(), BOX),
    "colmap": lambda folder: captures.write_colmap(folder, ring(), captures.cloud(count=30), binary=True),
    "polycam": lambda folder: test_phones.write_polycam(folder, test_phones.arkit_ring(4)),
    "record3d": lambda folder: test_phones.write_record3d(folder, test_phones.arkit_ring(4)),
    "scanner3d": lambda folder: test_phones.write_scanner3d(folder, test_phones.arkit_ring(4)),
    "stray": lambda folder: test_phones.write_stray(folder, test_phones.arkit_ring(4, test_phones.FILM)),
    "arkitscenes": lambda folder: test_phones.write_arkitscenes(folder, test_phones.turned_ring(4)[0]),
    "scannetpp": lambda folder: test_scannetpp.write_scene(folder, ring()),
    "metashape": test_metashape.write,
    "realitycapture": test_realitycapture.write,
    "opensfm": lambda folder: test_opensfm.write(folder, test_opensfm.model()),
    "openmvg": test_openmvg.write,
    "bundler": test_bundler.write,
    "colmap: text": lambda folder: captures.write_colmap(folder, ring(), captures.cloud(count=30), binary=False),
}
MESHES = (".glb", ".obj", ".off", ".ply", ".stl")
CLOUDS = (".pcd", ".ply", ".pts", ".xyz", ".xyzn")
LAS = tuple(end for end, name in ((".las", "laspy"), (".laz", "lazrs")) if find_spec(name))
SPLATS = (".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".gs.glb")
PICTURES = (".png", ".jpg", ".tif", ".webp", ".bmp")


def read_capture(folder: Path) -> None:
    """As `info` and training do."""
    scene = load_scene(folder)
    describe(scene)
    warnings(scene)
    scene.views[0].image()
    scene.views[0].mask()


def write_mesh(path: Path) -> None:
    trimesh.creation.icosphere(2).export(path)


def write_cloud(path: Path) -> None:
    import open3d

    mesh = trimesh.creation.icosphere(2)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(mesh.vertices.copy()))
    cloud.normals = open3d.utility.Vector3dVector(mesh.vertex_normals.copy())
    open3d.io.write_point_cloud(str(path), cloud)


def write_table(path: Path) -> None:
    test_clouds.write(path, test_clouds.POINTS, test_clouds.NORMALS, header="x,y,z,nx,ny,nz\n", delimiter=",")


def write_las(path: Path) -> None:
    if path.suffix == ".las":
        test_clouds.write_las(path)
    else:
        import laspy

        laspy.read(test_clouds.write_las(path.with_suffix(".las"))).write(path)
        path.with_suffix(".las").unlink()


def write_e57(path: Path) -> None:
    import pye57

    file = pye57.E57(str(path), mode="w")
    data = {f"cartesian{a}": test_clouds.POINTS[:, k] for k, a in enumerate("XYZ")}
    data |= {f"color{c}": test_clouds.BYTES[:, k].astype(np.uint16) for k, c in enumerate(("Red", "Green", "Blue"))}
    file.write_scan_raw(data)
    file.close()


def write_painted(path: Path) -> None:
    """With a texture: inside the file, or beside it."""
    mesh = trimesh.creation.box()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    mesh.visual = trimesh.visual.TextureVisuals(mesh.vertices[:, :2] + 0.5, image=picture)
    mesh.export(path)


def write_dng_picture(path: Path) -> None:
    write_dng(path, np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))


def write_heic(path: Path) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    write_picture(path)


def write_picture(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def read_picture(path: Path) -> None:
    read_image(path, 25, 20, False)
    read_mask(path, 50, 40)


def write_run(folder: Path) -> None:
    capture = ball_capture(folder / "capture", train=4, test=1, size=12)
    small = ["log2_table=8", "levels=2", "max_resolution=16", "samples_per_batch=256", "grid_budget=64"]
    Trainer.create(folder / "run", *configure(capture, "ngp", small), torch.device("cpu")).fit(2, previews=False)
    (folder / "run" / "eval.json").write_text('{"results": {"psnr": 20.0, "per_image": []}}')


def read_run(folder: Path) -> None:
    describe_run(folder / "run")
    load(folder / "run", "cpu")
    Trainer.resume(folder / "run", torch.device("cpu"))


def write_photos(folder: Path) -> None:
    """With EXIF, a mask and a K.txt."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model"
    exif.get_ifd(0x8769)[0x920A] = 4.2
    for i in range(3):
        captures.write_picture(folder / f"{i}.jpg", i)
        Image.open(folder / f"{i}.jpg").save(folder / f"{i}.jpg", exif=exif)
    captures.write_picture(folder / "1.mask.png", 9)
    (folder / "K.txt").write_text("60 0 24\n0 60 18\n0 0 1\n")


def read_photos(folder: Path) -> None:
    if (footage := find_footage(folder)) is not None:
        describe_footage(footage)


def write_objects(folder: Path) -> None:
    shapes = folder.parent / f"{folder.name}-shapes"
    for name in ("train/a_0", "train/a_1", "test/a_2"):
        (shapes / name).parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box((1, 1, 1 + int(name[-1]) / 10)).export(shapes / f"{name}.ply")
    write_captures(load_data(shapes), folder, views=2, side=16)
    shutil.rmtree(shapes)


def read_objects(folder: Path) -> None:
    objects = load_data(folder)
    assert isinstance(objects, ShapeSet)
    ObjectSource(shots_of(objects, "train", 16), objects.members["train"], objects.aabb, torch.device("cpu"), 4, 4)
    meshes_of(objects, "test")


def write_film(path: Path) -> None:
    rng = np.random.default_rng(0)
    save_film(path, [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(6)])


def read_film(path: Path) -> None:
    """As `info` and then `process` do."""
    describe_footage(require_footage(path))
    with tempfile.TemporaryDirectory() as frames:
        write_sharpest_frames(path, Path(frames), 3, lambda *_: None)


def write_path(folder: Path) -> None:
    scene = load_scene(captures.write_transforms(folder / "capture", ring()))
    write_camera_path(folder / "path.json", scene.cameras()[:3], scene, fps=4, seconds=2.0)


TOML = """path = "capture"
[scene]
aabb = [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]
split = "every:3"
[method.ngp]
lr = 0.01
"""


def write_toml(folder: Path) -> None:
    captures.write_transforms(folder / "capture", ring())
    (folder / "scene.toml").write_text(TOML)


def write_report(path: Path) -> None:
    text = '{"source": "p", "photos_hash": "h", "options": {}, "photos": 9, "registered": 8, "cameras": 1, "error": 0.6'
    path.write_text(text + ', "points": 99, "missing": {"9.jpg": "dark"}, "doubts": [], "tried": ["a", "b"]}')


def show_report(path: Path) -> None:
    """As `train` does of photos whose cameras it has found earlier."""
    if report := read_report(path.parent):
        with console.capture():
            print_report(report)
        assert report.under_half in (True, False)


def one(name: str, write: Callable[[Path], object], read: Callable[[Path], object]) -> Input:
    """An input of one file."""
    return Input(lambda folder: write(folder / name), lambda folder: read(folder / name))


CORPUS: dict[str, Input] = {
    **{f"capture {name}": Input(write, read_capture) for name, write in CAPTURES.items()},
    **{f"mesh {end}": one(f"mesh{end}", write_mesh, load_data) for end in MESHES},
    **{f"cloud {end}": one(f"cloud{end}", write_cloud, load_data) for end in CLOUDS},
    **{
        f"splats {end}": one(
            f"splats{end}",
            lambda path: write_splats(synthetic_gaussians(40), path),
            lambda path: describe_splats(path, read_splats(path)),
        )
        for end in SPLATS
    },
    **{f"cloud {end}": one(f"cloud{end}", write_table, load_data) for end in (".csv", ".txt")},
    **{f"cloud {end}": one(f"cloud{end}", write_las, load_data) for end in LAS},
    **({"cloud .e57": one("cloud.e57", write_e57, load_data)} if find_spec("pye57") else {}),
    **{
        f"painted {end}": Input(
            lambda folder, end=end: write_painted(folder / f"mesh{end}"),
            lambda folder, end=end: open_subject(folder / f"mesh{end}", "cpu"),
        )
        for end in (".glb", ".gltf", ".obj")
    },
    "splats .ksplat": one(
        "splats.ksplat",
        lambda path: path.write_bytes(test_ksplat.by_hand(1, 1)),
        lambda path: describe_splats(path, read_splats(path)),
    ),
    **({"picture .heic": one("picture.heic", write_heic, read_picture)} if find_spec("pillow_heif") else {}),
    **({"picture .dng": one("picture.dng", write_dng_picture, read_picture)} if find_spec("rawpy") else {}),
    **{f"picture {end}": one(f"picture{end}", write_picture, read_picture) for end in PICTURES},
    "run config.json": Input(write_run, read_run, "config.json"),
    "run scene.json": Input(write_run, read_run, "scene.json"),
    "run checkpoint": Input(write_run, read_run, "checkpoint.safetensors"),
    "run eval, metrics": Input(write_run, read_run, "[em]*.json*"),
    "scene.toml": Input(write_toml, lambda folder: load_data(folder / "scene.toml"), "scene.toml"),
    "camera path": Input(
        write_path, lambda folder: read_camera_path(folder / "path.json", torch.eye(4).double()), "path.json"
    ),
    "photos": Input(write_photos, read_photos),
    "captures of objects": Input(write_objects, read_objects),
    "film": one("film.mp4", write_film, read_film),
    "clip .bvh": one("clip.bvh", written.write_bvh, read_motion),
    "clip .txt": one("clip.txt", written.write_deepmimic, read_motion),
    "clip .npz": one("clip.npz", written.write_amass, read_motion),
    "clip .glb": one("clip.glb", written.write_gltf, read_motion),
    "clip .gltf": one("clip.gltf", written.write_gltf, read_motion),
    "process.json": one("process.json", write_report, show_report),
}
