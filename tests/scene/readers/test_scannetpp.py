"""ScanNet++'s folders, written here from known cameras: fisheye photos, the split, masks, photos marked as bad."""

import json

import numpy as np
import torch
from captures import HEIGHT, WIDTH, cloud, names, ring, write_colmap
from PIL import Image

from neural3d.loading import load_scene

FISHEYE = (30.0, 31, 25, 17, 0.02, -0.003, 0.001, 0)


def write_scene(root, cameras):
    """A COLMAP model in dslr/colmap, its photos and masks as ScanNet++ calls them."""
    dslr = root / "dslr"
    write_colmap(dslr, cameras, cloud(), binary=False, model="colmap")
    (dslr / "images").rename(dslr / "resized_images")
    (dslr / "resized_anon_masks").mkdir()
    for name in names(cameras):
        pixels = np.full((HEIGHT, WIDTH), 255, np.uint8)
        pixels[:5] = 0
        Image.fromarray(pixels).save(dslr / "resized_anon_masks" / name)
    lists = {"train": names(cameras)[3:], "test": names(cameras)[:3], "has_masks": True}
    (dslr / "train_test_lists.json").write_text(json.dumps(lists))
    entries = [{"file_path": name, "is_bad": i in (1, 5)} for i, name in enumerate(names(cameras))]
    (dslr / "nerfstudio").mkdir()
    (dslr / "nerfstudio/transforms.json").write_text(json.dumps({"frames": entries[3:], "test_frames": entries[:3]}))
    return root


def test_scannetpp(tmp_path):
    """The scene's folder or dslr/: the model's cameras, in the laser scan's frame, +z up."""
    cameras = ring("OPENCV_FISHEYE", FISHEYE, count=12)
    write_scene(tmp_path, cameras)
    points = torch.from_numpy(cloud())
    for path in (tmp_path, tmp_path / "dslr"):
        scene = load_scene(path)
        assert scene.reader == "scannetpp" and [v.name for v in scene.views] == [
            n for n in names(cameras) if n != "005.png"
        ]
        s = scene.scene_from_capture
        for view in scene.views:
            seen = view.camera.project(points @ s[:3, :3].T + s[:3, 3])[0]
            torch.testing.assert_close(seen, cameras[int(view.name[:3])].project(points)[0], atol=1e-4, rtol=0)
            assert (view.mask()[:5] == 0).all() and (view.mask()[5:] == 255).all()
        assert [scene.views[i].name for i in scene.split["test"]] == ["000.png", "001.png", "002.png"]
        assert len(scene.split["train"]) == 8 and any("1 photos that ScanNet++ marks as bad" in n for n in scene.notes)
        torch.testing.assert_close(s[:3, :3] / s[0, 0], torch.eye(3).double())
        assert len(scene.points[0]) == 300


def test_the_phone_s_frames(tmp_path):
    cameras = ring("OPENCV", (60.0, 61, 25, 17, 0.05, -0.02, 0.001, -0.002), count=9)
    phone = tmp_path / "iphone"
    write_colmap(phone, cameras, cloud(), binary=False, model="colmap")
    (phone / "images").rename(phone / "rgb")
    scene = load_scene(tmp_path)
    assert scene.reader == "scannetpp" and len(scene.views) == 9
