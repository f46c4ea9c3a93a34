"""Broken captures: one clear sentence that names the file and the remedy, and no other exception."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from captures import (
    HEIGHT,
    WIDTH,
    cloud,
    names,
    ring,
    write_blender,
    write_colmap,
    write_idr,
    write_middlebury,
    write_picture,
    write_transforms,
)
from PIL import Image

from neural3d.errors import UserError
from neural3d.loading import load_scene

BOX = np.array([[0.2, -2.9, 0.0], [1.8, -1.1, 1.0]])


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def set_pose(value):
    return lambda c: c["frames"][2].update(transform_matrix=value)


def scaled_pose(factor):
    def change(content):
        pose = np.array(content["frames"][2]["transform_matrix"])
        pose[:3, :3] = pose[:3, :3] * factor
        content["frames"][2]["transform_matrix"] = pose.tolist()

    return change


TRANSFORMS = {
    "missing photo": (lambda r: (r / "images/003.png").unlink(), r"json, frame .*003.*missing; put it back"),
    "truncated photo header": (lambda r: cut(r / "images/003.png", 0.003), r"003\.png is no readable picture"),
    "photo is text": (lambda r: (r / "images/003.png").write_text("hello"), r"003\.png is no readable picture"),
    "wrong size": (
        lambda r: write_picture(r / "images/003.png", size=(WIDTH, WIDTH)),
        r"003\.png is 48×48 but .*transforms\.json describes 48×36",
    ),
    "truncated JSON": (lambda r: cut(r / "transforms.json", 0.7), r"transforms\.json is no complete JSON"),
    "JSON list": (lambda r: (r / "transforms.json").write_text("[]"), r"transforms\.json must hold a JSON object"),
    "no frames": (lambda r: edit_json(r / "transforms.json", lambda c: c.pop("frames")), r"no list 'frames'"),
    "empty frames": (lambda r: edit_json(r / "transforms.json", lambda c: c.update(frames=[])), r"lists no frames"),
    "NaN pose": (
        lambda r: edit_json(r / "transforms.json", set_pose([[float("nan")] * 4] * 4)),
        r"frame '\./images/002\.png': the pose holds NaN",
    ),
    "pose of words": (lambda r: edit_json(r / "transforms.json", set_pose("up")), r"002\.png': the pose must be a 4×4"),
    "no pose": (
        lambda r: edit_json(r / "transforms.json", lambda c: c["frames"][2].pop("transform_matrix")),
        r"002\.png': the pose must be a 4×4",
    ),
    "left-handed pose": (
        lambda r: edit_json(r / "transforms.json", scaled_pose([[1, 1, -1]] * 3)),
        r"002\.png': the pose is left-handed .*flip one axis",
    ),
    "scaled pose": (lambda r: edit_json(r / "transforms.json", scaled_pose(1.5)), r"002\.png': .* scaled by 1\.5"),
    "sheared pose": (lambda r: edit_json(r / "transforms.json", scaled_pose([[1, 1.2, 1]] * 3)), r"is sheared"),
    "duplicate name": (
        lambda r: edit_json(r / "transforms.json", lambda c: c["frames"].append(c["frames"][1])),
        r"transforms\.json: photo '001\.png' is listed twice",
    ),
    "unknown camera model": (
        lambda r: edit_json(r / "transforms.json", lambda c: c.update(camera_model="GOPRO")),
        r"unknown camera model 'GOPRO'; write one of PINHOLE",
    ),
    "no focal length": (
        lambda r: edit_json(r / "transforms.json", lambda c: (c.pop("fl_x"), c.pop("fl_y"))),
        r"no positive focal length; add 'fl_x'",
    ),
    "focal length of words": (
        lambda r: edit_json(r / "transforms.json", lambda c: c.update(fl_x="wide")), r"'fl_x' must be a finite number"
    ),
    "photo of no frame in split": (
        lambda r: edit_json(r / "transforms.json", lambda c: c.update(train_filenames=["images/zzz.png"])),
        r"'train_filenames' names 'images/zzz\.png'",
    ),
    "empty training split": (
        lambda r: edit_json(
            r / "transforms.json", lambda c: c.update(test_filenames=[f["file_path"] for f in c["frames"]])
        ),
        r"the training split is empty",
    ),
    "one photo": (
        lambda r: edit_json(r / "transforms.json", lambda c: c.update(frames=c["frames"][:1])),
        r"the training split is empty \(1 photos in all\); name training views or add photos",
    ),
    "missing mask": (
        lambda r: edit_json(r / "transforms.json", lambda c: c["frames"][1].update(mask_path="masks/no.png")),
        r"mask .*no\.png is missing",
    ),
    "mask of another shape": (
        lambda r: write_picture(r / "masks/001.png", size=(WIDTH, WIDTH), mode="RGB"),
        r"Mask .*001\.png is 48×48 but its photo 48×36",
    ),
    "damaged mask": (
        lambda r: ((r / "masks").mkdir(), (r / "masks/001.png").write_text("?")),
        r"masks/001\.png is no readable picture",
    ),
    "damaged point cloud": (
        lambda r: (
            (r / "p.ply").write_text("ply\n"),
            edit_json(r / "transforms.json", lambda c: c.update(ply_file_path="p.ply")),
        ),
        r"Point cloud .*p\.ply cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", TRANSFORMS)
def test_transforms(tmp_path, damage):
    write_transforms(tmp_path, ring())
    change, message = TRANSFORMS[damage]
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        load_scene(tmp_path)


def test_small_scale_is_rounding(tmp_path):
    """A pose scaled by less than 10⁻³ is taken for one, and made rigid."""
    write_transforms(tmp_path, ring())
    edit_json(tmp_path / "transforms.json", scaled_pose(1.0005))
    turn = load_scene(tmp_path).views[2].camera.world_from_camera[:3, :3]
    assert abs(np.linalg.svd(turn.numpy())[1] - 1).max() < 1e-9


def test_truncated_pixels_are_found_when_decoded(tmp_path):
    """The header is whole, so loading passes; looking does not, and says which file."""
    write_transforms(tmp_path, ring())
    cut(tmp_path / "images/003.png", 0.6)
    scene = load_scene(tmp_path)
    with pytest.raises(UserError, match=r"003\.png is damaged .*copy it again"):
        scene.views[3].image()


def test_sideways_photo(tmp_path):
    """A phone photo whose EXIF turns it: its stored size is transposed, and the message says why."""
    write_transforms(tmp_path, ring())
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((WIDTH, HEIGHT, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images/003.png", exif=exif)
    with pytest.raises(UserError, match=r"EXIF data turns it by 90°"):
        load_scene(tmp_path)


def test_blender_with_empty_training_split(tmp_path):
    write_blender(tmp_path, ring("PINHOLE", (60.0, 60.0, WIDTH / 2, HEIGHT / 2), centre=(0, 0, 0)))
    edit_json(tmp_path / "transforms_train.json", lambda c: c.update(frames=[]))
    with pytest.raises(UserError, match=r"the training split is empty"):
        load_scene(tmp_path)


def colmap_nan(root: Path) -> None:
    path = root / "sparse/0/images.bin"
    data = bytearray(path.read_bytes())
    data[8 + 4 : 8 + 12] = struct.pack("<d", float("nan"))
    path.write_bytes(bytes(data))


COLMAP_BINARY = {
    "truncated cameras": (lambda r: cut(r / "sparse/0/cameras.bin", 0.5), r"cameras\.bin is cut off or garbled"),
    "truncated images": (lambda r: cut(r / "sparse/0/images.bin", 0.5), r"images\.bin is cut off or garbled"),
    "truncated in the last observation": (
        lambda r: (r / "sparse/0/images.bin").write_bytes((r / "sparse/0/images.bin").read_bytes()[:-1]),
        r"images\.bin is cut off or garbled",
    ),
    "truncated points": (lambda r: cut(r / "sparse/0/points3D.bin", 0.5), r"points3D\.bin is cut off or garbled"),
    "empty points": (lambda r: cut(r / "sparse/0/points3D.bin", 0), r"points3D\.bin is cut off or garbled"),
    "unknown model": (
        lambda r: (r / "sparse/0/cameras.bin").write_bytes(struct.pack("<QiiQQ", 1, 1, 99, 48, 36) + bytes(64)),
        r"cameras\.bin: unknown camera model number 99",
    ),
    "missing camera": (
        lambda r: (r / "sparse/0/cameras.bin").write_bytes(struct.pack("<Q", 0)),
        r"cameras\.bin lacks camera 1 of photo '000\.png'",
    ),
    "NaN pose": (colmap_nan, r"images\.bin: the pose of photo '000\.png' holds NaN"),
    "no photos": (lambda r: (r / "images").rename(r / "photos"), r"COLMAP model but no photos; looked for images/"),
    "missing photo": (lambda r: (r / "images/004.png").unlink(), r"images/004\.png is missing; put it back"),
    "wrong size": (
        lambda r: write_picture(r / "images/004.png", size=(WIDTH, WIDTH)),
        r"004\.png is 48×48 but .*cameras\.bin describes 48×36",
    ),
}
COLMAP_TEXT = {
    "unknown model": (
        lambda r: replace(r / "sparse/0/cameras.txt", "PINHOLE", "KEYHOLE"),
        r"cameras\.txt: unknown .*'KEYHOLE'",
    ),
    "too few parameters": (
        lambda r: replace(r / "sparse/0/cameras.txt", " 60.0 ", " "),
        r"cameras\.txt is cut off .*PINHOLE has 4 parameters",
    ),
    "garbled pose": (lambda r: replace(r / "sparse/0/images.txt", "1 ", "1 x"), r"images\.txt is cut off or garbled"),
    "truncated points": (lambda r: cut(r / "sparse/0/points3D.txt", 0.501), r"points3D\.txt is cut off or garbled"),
    "doubled photo": (
        lambda r: replace(r / "sparse/0/images.txt", "001.png", "000.png"),
        r"photo '000\.png' is listed twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", COLMAP_BINARY)
def test_colmap_binary(tmp_path, damage):
    write_colmap(tmp_path, ring(), cloud(), binary=True)
    change, message = COLMAP_BINARY[damage]
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        load_scene(tmp_path)


@pytest.mark.parametrize("damage", COLMAP_TEXT)
def test_colmap_text(tmp_path, damage):
    write_colmap(tmp_path, ring(), cloud(), binary=False)
    change, message = COLMAP_TEXT[damage]
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        load_scene(tmp_path)


def edit_npz(root: Path, **changes) -> None:
    content = dict(np.load(root / "cameras.npz"))
    content.update(changes)
    np.savez(root / "cameras.npz", **{k: v for k, v in content.items() if v is not None})


AMBIGUOUS = np.diag([40.0, 40.0, 1.0, 1.0])  # focal length of pixels, principal point of [-1, 1]
IDR = {
    "truncated npz": (lambda r: cut(r / "cameras.npz", 0.5), r"cameras\.npz is cut off or no \.npz file"),
    "no matrices": (lambda r: np.savez(r / "cameras.npz", a=np.eye(4)), r"holds no world_mat_0"),
    "one photo fewer": (lambda r: (r / "image/004.png").unlink(), r"describes 10 cameras but .*image holds 9 photos"),
    "NaN": (lambda r: edit_npz(r, world_mat_3=np.full((4, 4), np.nan)), r"world_mat_3 must be a 4×4 matrix of finite"),
    "singular": (lambda r: edit_npz(r, world_mat_3=np.zeros((4, 4))), r"world_mat_3 is no camera"),
    "ambiguous": (lambda r: edit_npz(r, world_mat_0=AMBIGUOUS), r"world_mat_0 .* set world_mat = \"pixels\""),
    "pose without intrinsics": (
        lambda r: edit_npz(r, world_mat_0=np.eye(4)),
        r"world_mat_0 is a pose without",
    ),
    "photos reduced": (
        lambda r: [write_picture(r / "image" / n, size=(12, 9)) for n in names(ring())],
        r"outside the 12×9 photo; set calibration_size",
    ),
    "scale_mat of NaN": (lambda r: edit_npz(r, scale_mat_0=np.full((4, 4), np.nan)), r"scale_mat_0 must be"),
    "no photos": (lambda r: (r / "image").rename(r / "pictures"), r"cameras but no photos; looked in image/"),
}


@pytest.mark.parametrize("damage", IDR)
def test_idr(tmp_path, damage):
    write_idr(tmp_path, ring(), "pixels")
    change, message = IDR[damage]
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        load_scene(tmp_path)


def test_idr_with_a_mask_missing(tmp_path):
    write_idr(tmp_path, ring(), "pixels", masks=True)
    (tmp_path / "mask" / "000004.png").unlink()
    with pytest.raises(UserError, match=r"photo '004\.png' has no mask; add it, or set masks = \"ignore\""):
        load_scene(tmp_path)


MIDDLEBURY = {
    "missing photo": (lambda r: (r / "004.png").unlink(), r"toy_par\.txt, line of '004\.png': photo .* is missing"),
    "cut off between lines": (
        lambda r: (r / "toy_par.txt").write_text("\n".join((r / "toy_par.txt").read_text().split("\n")[:5])),
        r"announces 10 photos and lists 4",
    ),
    "cut off within a line": (lambda r: cut(r / "toy_par.txt", 0.98), r"has \d+ numbers instead of 21"),
    "words for numbers": (lambda r: replace(r / "toy_par.txt", "60.0", "sixty"), r"could not convert .*21 numbers"),
    "NaN": (lambda r: replace(r / "toy_par.txt", "60.0", "nan"), r"line of '000\.png': the calibration matrix must"),
    "empty": (lambda r: (r / "toy_par.txt").write_text(""), r"lists no photos"),
}


@pytest.mark.parametrize("damage", MIDDLEBURY)
def test_middlebury(tmp_path, damage):
    write_middlebury(tmp_path, ring(), BOX)
    change, message = MIDDLEBURY[damage]
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        load_scene(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist and is no ready scene"):
        load_scene(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"neither a capture nor photos; looked for captures of .*nerfstudio.*; COLMAP"):
        load_scene(tmp_path)
    write_picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(UserError, match=r"holds one photo only; poses follow from photos that overlap"):
        load_scene(tmp_path)
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(UserError, match=r"notes\.md is no capture; give a folder"):
        load_scene(tmp_path / "notes.md")
