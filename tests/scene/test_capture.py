"""What other systems do to text and names: encodings, and letters of another case."""

import json

import pytest
import torch
from captures import cloud, names, ring, write_colmap, write_transforms

from neural3d.errors import UserError
from neural3d.loading import load_scene
from neural3d.scene.capture import find_picture, in_any_case, read_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_in_any_unicode(tmp_path, encoding):
    content = {"frames": [], "name": "Straße 北"}
    (tmp_path / "a.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert read_json(tmp_path / "a.json") == content


@pytest.mark.parametrize("damage", [b"\xff\xfe{\x00", b"\xef\xbb\xbf", b"\x80{}", b"[" * 200_000, b""])
def test_damaged_json_is_named(tmp_path, damage):
    (tmp_path / "a.json").write_bytes(damage)
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_byte_order_marks_everywhere(tmp_path):
    """transforms.json, COLMAP's text and a scene's TOML as Windows' editors save them: the same cameras."""
    cameras = ring()
    root = write_transforms(tmp_path / "a", cameras)
    plain = load_scene(root)
    model = write_colmap(tmp_path / "b", cameras, cloud(), binary=False)
    (tmp_path / "c.toml").write_text('path = "a"\n')
    for path in (root / "transforms.json", *(model / "sparse/0").glob("*.txt"), tmp_path / "c.toml"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    for marked in (load_scene(root), load_scene(tmp_path / "c.toml")):
        for old, new in zip(plain.views, marked.views, strict=True):
            assert old.name == new.name and torch.equal(old.camera.world_from_camera, new.camera.world_from_camera)
    assert [v.name for v in load_scene(model).views] == names(cameras) and load_scene(model).points is not None


def test_names_in_another_case(tmp_path):
    """Photos and folders as another system or a phone wrote them: found, but never where the exact one is."""
    for name in ("Images/DSC01.JPG", "Images/dsc02.jpg", "Images/a.png", "Images/A.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find_picture(tmp_path / "images/dsc01.jpg") == tmp_path / "Images/DSC01.JPG"
    assert find_picture(tmp_path / "images/DSC02") == tmp_path / "Images/dsc02.jpg"
    assert find_picture(tmp_path / "Images/a.png") == tmp_path / "Images/a.png"
    assert find_picture(tmp_path / "images/A.PNG").name in ("A.png", "a.png")
    assert find_picture(tmp_path / "images/dsc03.jpg") is None and in_any_case(tmp_path / "photos/1.jpg") is None
    (tmp_path / "Images/DSC03.jpg").write_bytes(b"")  # a listing that is remembered must not be an old one
    assert find_picture(tmp_path / "images/dsc03.jpg") == tmp_path / "Images/DSC03.jpg"


@pytest.mark.parametrize("kind", ["transforms", "colmap"])
def test_captures_with_photos_in_another_case(tmp_path, kind):
    cameras = ring()
    write = write_transforms if kind == "transforms" else lambda *a: write_colmap(*a, cloud(), binary=True)
    root = write(tmp_path, cameras)
    (root / "masks").mkdir()
    for i, photo in enumerate(sorted((root / "images").iterdir())):
        (root / "masks" / f"{i:03d}.PNG").write_bytes(photo.read_bytes())
        photo.rename(photo.with_suffix(".PNG"))
    for view in load_scene(root).views:
        assert view.image_path.suffix == ".PNG" and view.image().shape == (36, 48, 3)
        assert view.mask_path == root / "masks" / view.image_path.name
