"""Whole photos: every one once per epoch, resumable anywhere, masks and alpha with them."""

import numpy as np
import torch
from PIL import Image
from toy import ball_capture

from neural3d.data.rays import PhotoSource
from neural3d.loading import load_scene

CPU = torch.device("cpu")


def test_every_photo_once_per_epoch_in_a_new_order(tmp_path):
    source = PhotoSource(load_scene(ball_capture(tmp_path, train=7, test=1, size=8)), CPU)
    generator = torch.Generator().manual_seed(0)
    order = [source.draw(64, generator).view for _ in range(21)]
    epochs = [order[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(e) == list(range(7)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_resumes_in_its_middle(tmp_path):
    scene = load_scene(ball_capture(tmp_path, train=7, test=1, size=8))
    source, generator = PhotoSource(scene, CPU), torch.Generator().manual_seed(0)
    for _ in range(4):
        source.draw(64, generator)
    state, random = source.state(), generator.get_state()
    state = {"left": list(state["left"])}
    rest = [source.draw(64, generator).view for _ in range(12)]
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


def test_small_photos_are_means_of_what_is_seen(tmp_path):
    """Of 5 × 4 pixels with alpha and a mask, by two: the last column is cut off, and what is clear has no say."""
    folder = ball_capture(tmp_path, train=3, test=1, size=8)
    source = PhotoSource(load_scene(folder), CPU)
    pixels = torch.zeros(4, 5, 4, dtype=torch.uint8)
    pixels[0, 0] = torch.tensor([200, 100, 50, 255])
    pixels[0, 1] = torch.tensor([0, 100, 50, 255])
    pixels[1, 0] = torch.tensor([255, 255, 255, 0])
    kept = torch.ones(4, 5, 1, dtype=torch.bool)
    kept[3, 2] = False
    source.photos[1] = pixels, kept
    batch = source.photo(1, 2)
    assert batch.rgb.shape == (2, 2, 3) and batch.shrink == 2
    np.testing.assert_allclose(batch.rgb[0, 0] * 255, [100, 100, 50], atol=1e-4)
    np.testing.assert_allclose(batch.alpha[0, 0] * 255, [128], atol=1e-4)  # half of 255, rounded
    assert batch.kept[..., 0].tolist() == [[True, True], [True, False]]
    generator = torch.Generator().manual_seed(0)
    drawn = [source.draw(16, generator) for _ in range(3)]
    assert {b.view: b.shrink for b in drawn} == {0: 2, 1: 2, 2: 2}
    assert source.photo(1).rgb.shape == (4, 5, 3) and 1 not in source.small  # whole again, the copy is dropped
