"""Every reader on real data: what was read must agree with what the photos show."""

import numpy as np
import torch

from neural3d.scene import load_scene


def test_fox(data_dir):
    scene = load_scene(data_dir / "fox")
    assert scene.reader == "transforms" and len(scene.views) == 50
    assert scene.split["test"] == list(range(0, 50, 8)) and len(scene.split["train"]) == 43
    camera = scene.views[0].camera
    assert (camera.model, camera.width, camera.height) == ("OPENCV", 540, 960)
    assert scene.views[0].image().shape == (960, 540, 3) and not scene.has_alpha and scene.unbounded
    assert [v.name for v in scene.views] == sorted(v.name for v in scene.views)


def test_lego(data_dir):
    scene = load_scene(data_dir / "nerf_synthetic_lego", downscale=2)
    assert scene.reader == "blender"
    assert {k: len(v) for k, v in scene.split.items()} == {"train": 81, "test": 13, "val": 6}
    assert scene.has_alpha and scene.background == "white" and not scene.unbounded
    assert scene.views[0].image().shape == (200, 200, 4)
    assert torch.isclose(scene.views[0].camera.params[0], torch.tensor(100 / np.tan(0.6911112070083618 / 2)).double())
