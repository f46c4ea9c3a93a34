"""Small synthetic captures of known cameras, written in every format the readers know."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import LENSES

WIDTH, HEIGHT = 48, 36
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
OPENCV_PARAMS = [60.0, 61.0, 25.0, 17.0, 0.05, -0.02, 0.001, -0.002]


def look_at(eye, target, up) -> np.ndarray:
    """world_from_camera of a level camera, OpenCV frame."""
    z = np.subtract(target, eye).astype(float)
    z /= np.linalg.norm(z)
    x = np.cross(z, np.asarray(up, float))
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.column_stack([x, np.cross(z, x), z]), eye
    return pose


def ring(model="PINHOLE", params=(60.0, 61.0, 25.0, 17.0), count=10, centre=(1.0, -2.0, 0.5), up=(0, 0, 1), radius=4.0):
    """Cameras on a tilted ring around `centre`, looking at it, level with respect to `up`."""
    up = np.asarray(up, float) / np.linalg.norm(up)
    a = np.cross(up, [0.3, 0.5, 0.8])
    a /= np.linalg.norm(a)
    b = np.cross(up, a)
    cameras = []
    for i in range(count):
        angle = 2 * math.pi * i / count
        around = radius * (math.cos(angle) * a + math.sin(angle) * b)
        eye = np.asarray(centre) + around + (1 + 0.5 * math.sin(3 * i)) * up
        pose = look_at(eye, centre, up)
        cameras.append(Camera(model, WIDTH, HEIGHT, torch.tensor(params).double(), torch.from_numpy(pose)))
    return cameras


def cloud(centre=(1.0, -2.0, 0.5), count=300, radius=0.8, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(centre) + rng.uniform(-radius, radius, (count, 3))


def write_picture(path: Path, seed: int = 0, size=(WIDTH, HEIGHT), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], len(mode)), np.uint8), mode).save(path)


def write_silhouette(path: Path, camera: Camera, centre, radius: float, colour=(200, 100, 50)) -> None:
    """A cut-out picture of a ball."""
    path.parent.mkdir(parents=True, exist_ok=True)
    origins, directions = (t.double() for t in camera.rays())
    offset = torch.as_tensor(centre).double() - origins
    miss = torch.linalg.cross(offset, directions).norm(dim=-1)
    pixels = np.zeros((camera.height, camera.width, 4), np.uint8)
    pixels[(miss < radius).numpy()] = (*colour, 255)
    Image.fromarray(pixels, "RGBA").save(path)


def names(cameras: list[Camera], suffix=".png") -> list[str]:
    return [f"{i:03d}{suffix}" for i in range(len(cameras))]


def intrinsics(camera: Camera) -> dict:
    """transforms.json's keys for PINHOLE, OPENCV and OPENCV_FISHEYE cameras."""
    keys = dict(zip(LENSES[camera.model].names, camera.params.tolist()))
    keys = {{"fx": "fl_x", "fy": "fl_y"}.get(k, k): v for k, v in keys.items()}
    return {**keys, "w": camera.width, "h": camera.height, "camera_model": camera.model}


def opengl(camera: Camera) -> list:
    return (camera.world_from_camera.numpy() @ OPENGL).tolist()


def write_transforms(root: Path, cameras: list[Camera], shared: bool = True, extension: bool = True, **extra) -> Path:
    content: dict = {**(intrinsics(cameras[0]) if shared else {}), **extra, "frames": []}
    for i, (camera, name) in enumerate(zip(cameras, names(cameras))):
        write_picture(root / "images" / name, i, (camera.width, camera.height))
        entry = {"file_path": f"./images/{name}" if extension else f"images/{Path(name).stem}"}
        entry |= {} if shared else intrinsics(camera)
        content["frames"].append({**entry, "transform_matrix": opengl(camera)})
    (root / "transforms.json").write_text(json.dumps(content))
    return root


def write_blender(root: Path, cameras: list[Camera], centre=(0.0, 0.0, 0.0), radius: float = 0.6) -> Path:
    """Camera i goes to train, and every fifth to test; a ball cut out."""
    for split in ("train", "test"):
        mine = [c for i, c in enumerate(cameras) if (i % 5 == 0) == (split == "test")]
        frames = []
        for i, camera in enumerate(mine):
            write_silhouette(root / split / f"r_{i}.png", camera, centre, radius)
            frames.append({"file_path": f"./{split}/r_{i}", "rotation": 0.01, "transform_matrix": opengl(camera)})
        angle = 2 * math.atan(mine[0].width / 2 / mine[0].params[0].item())
        (root / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    return root


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """wxyz, from the eigenvector of Bar-Itzhack's symmetric matrix."""
    m = rotation
    k = np.array([
        [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
        [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
        [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], 0],
        [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
    ])  # fmt: skip
    x, y, z, w = np.linalg.eigh(k)[1][:, 3]  # eigh reads the lower triangle
    return np.array([w, x, y, z])


MODEL_NUMBERS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "OPENCV": 4, "OPENCV_FISHEYE": 5}


def write_colmap(root: Path, cameras: list[Camera], points: np.ndarray, binary: bool, model="sparse/0") -> Path:
    """One COLMAP camera per view; every point observed in the first two views."""
    folder = root / model
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names(cameras)):
        write_picture(root / "images" / name, i, (cameras[i].width, cameras[i].height))
    poses = [np.linalg.inv(c.world_from_camera.numpy()) for c in cameras]
    seen = [
        [(x, y, j) for j, (x, y) in enumerate(c.project(torch.from_numpy(points))[0].tolist())] for c in cameras[:2]
    ]
    seen += [[] for _ in cameras[2:]]
    (write_binary_model if binary else write_text_model)(folder, cameras, poses, seen, points)
    return root


def write_binary_model(folder, cameras, poses, seen, points):
    with open(folder / "cameras.bin", "wb") as f:
        f.write(struct.pack("<Q", len(cameras)))
        for i, c in enumerate(cameras):
            f.write(struct.pack("<iiQQ", i + 1, MODEL_NUMBERS[c.model], c.width, c.height))
            f.write(struct.pack(f"<{len(c.params)}d", *c.params.tolist()))
    with open(folder / "images.bin", "wb") as f:
        f.write(struct.pack("<Q", len(cameras)))
        for i, (pose, name) in enumerate(zip(poses, names(cameras))):
            f.write(struct.pack("<i7di", i + 1, *quaternion(pose[:3, :3]), *pose[:3, 3], i + 1) + name.encode() + b"\0")
            f.write(struct.pack("<Q", len(seen[i])) + b"".join(struct.pack("<ddq", *o) for o in seen[i]))
    with open(folder / "points3D.bin", "wb") as f:
        f.write(struct.pack("<Q", len(points)))
        for j, p in enumerate(points):
            f.write(struct.pack("<Q3d3BdQ4i", j, *p, 10, 20, 30, 0.5, 2, 1, j, 2, j))


def write_text_model(folder, cameras, poses, seen, points):
    def line(*values):
        return " ".join(str(v) for v in values) + "\n"

    text = "# Camera list\n" + "".join(
        line(i + 1, c.model, c.width, c.height, *c.params.tolist()) for i, c in enumerate(cameras)
    )
    (folder / "cameras.txt").write_text(text)
    text = "# Image list\n"
    for i, (pose, name) in enumerate(zip(poses, names(cameras))):
        text += line(i + 1, *quaternion(pose[:3, :3]), *pose[:3, 3], i + 1, name)
        text += line(*(v for o in seen[i] for v in o))
    (folder / "images.txt").write_text(text)
    text = "# 3D point list\n" + "".join(line(j, *p, 10, 20, 30, 0.5, 1, j, 2, j) for j, p in enumerate(points))
    (folder / "points3D.txt").write_text(text)


def projection(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """K for pixel centres at whole numbers, and camera_from_world, both 4×4."""
    k = np.eye(4)
    fx, fy, cx, cy = camera.params.tolist()
    k[:2, :3] = [[fx, 0, cx - 0.5], [0, fy, cy - 0.5]]
    return k, np.linalg.inv(camera.world_from_camera.numpy())


def write_idr(root: Path, cameras: list[Camera], kind: str, centre=(1.0, -2.0, 0.5), radius=1.5, masks=False) -> Path:
    """kind: pixels (IDR) | normalised | extrinsics (DVR)."""
    content = {}
    for i, (camera, name) in enumerate(zip(cameras, names(cameras))):
        write_picture(root / "image" / name, i)
        if masks:
            write_silhouette(root / "mask" / f"{i:06d}.png", camera, centre, 0.7)
            alpha = Image.open(root / "mask" / f"{i:06d}.png").getchannel("A")
            alpha.save(root / "mask" / f"{i:06d}.png")
        k, extrinsics = projection(camera)
        to_unit = np.diag([2 / (camera.width - 1), 2 / (camera.height - 1), 1, 1])
        to_unit[:2, 2] = -1
        content[f"scale_mat_{i}"] = np.block([[radius * np.eye(3), np.array(centre)[:, None]], [np.zeros((1, 3)), 1]])
        if kind == "pixels":
            content[f"world_mat_{i}"] = k @ extrinsics * 2.5  # a projection's scale means nothing
            content[f"world_mat_{i}"][3] = 0, 0, 0, 1
        elif kind == "normalised":
            content[f"world_mat_{i}"] = to_unit @ k @ extrinsics
        else:
            content[f"world_mat_{i}"], content[f"camera_mat_{i}"] = extrinsics, to_unit @ k
    np.savez(root / "cameras.npz", **content)
    return root


def write_middlebury(root: Path, cameras: list[Camera], box: np.ndarray) -> Path:
    lines = [str(len(cameras))]
    for i, (camera, name) in enumerate(zip(cameras, names(cameras))):
        write_picture(root / name, i)
        k, extrinsics = projection(camera)
        numbers = [*k[:3, :3].ravel(), *extrinsics[:3, :3].ravel(), *extrinsics[:3, 3]]
        lines.append(" ".join([name, *(repr(float(n)) for n in numbers)]))
    (root / "toy_par.txt").write_text("\n".join(lines) + "\n")
    corners = "\n".join("(" + " ".join(f"{v:.6f}" for v in corner) + ")" for corner in box)
    text = f"toy data set\n\nThe (tight) bounding box for the toy is\n{corners}\n\nmore text (1 2 3)\n"
    (root / "README.txt").write_text(text)
    return root
