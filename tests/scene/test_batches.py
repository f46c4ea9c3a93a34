"""Whole photos: every one once per epoch, resumable anywhere, masks and alpha with them."""

import numpy as np
import torch
from PIL import Image
from toy import ball_capture

from neural3d.scene import load_scene
from neural3d.scene.batches import PhotoSource

CPU = torch.device("cpu")


def test_every_photo_once_per_epoch_in_a_new_order(tmp_path):
    source = PhotoSource(load_scene(ball_capture(tmp_path, train=7, test=1, size=8)), CPU)
    generator = torch.Generator().manual_seed(0)
    order = [source.draw(1, generator).view for _ in range(21)]
    epochs = [order[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(e) == list(range(7)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_resumes_in_its_middle(tmp_path):
    scene = load_scene(ball_capture(tmp_path, train=7, test=1, size=8))
    source, generator = PhotoSource(scene, CPU), torch.Generator().manual_seed(0)
    for _ in range(4):
        source.draw(1, generator)
    state, random = source.state(), generator.get_state()
    state = {"left": list(state["left"])}
    rest = [source.draw(1, generator).view for _ in range(12)]
    resumed, generator = PhotoSource(scene, CPU), torch.Generator()
    resumed.load_state(state)
    generator.set_state(random)
    assert [resumed.draw(1, generator).view for _ in range(12)] == rest


def test_a_photo_brings_its_pixels_alpha_and_mask(tmp_path):
    folder = ball_capture(tmp_path, train=3, test=1, size=8)
    scene = load_scene(folder)
    batch = PhotoSource(scene, CPU).photo(1)
    image = scene.views[scene.split["train"][1]].image()
    assert np.abs(np.concatenate([batch.rgb, batch.alpha], -1) - image / 255).max() < 1e-6
    assert batch.kept is None and len(batch) == 64

    mask = np.zeros((8, 8), np.uint8)
    mask[:, :3] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    scene.views[scene.split["train"][1]].mask_path = tmp_path / "mask.png"
    source = PhotoSource(scene, CPU)
    assert source.photo(0).kept is None
    assert torch.equal(source.photo(1).kept[..., 0], torch.from_numpy(mask > 0))
