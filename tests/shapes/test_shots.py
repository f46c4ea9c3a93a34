"""Pictures of shapes: the cameras see what the geometry says, on any path, and bad pictures are named."""

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.errors import UserError
from neural3d.shapes.shots import HEIGHTS, read_shot, take_shots
from neural3d.synthetic.furniture import box, joined

BAR = box((-0.5, -0.1, -0.2), (0.5, 0.1, 0.2))


def test_pictures_show_what_their_cameras_see():
    """The silhouette is that of the hull of the projected corners, to a pixel; the rest is transparent."""
    shots = take_shots([BAR], 0, radius=0.6, views=6, side=32)
    corners = torch.from_numpy(BAR.vertices).float()
    for pixels, (fx, fy, cx, cy), pose in zip(shots.pixels[0], shots.lens[0], shots.world_from_camera[0]):
        local = (corners - pose[:3, 3]) @ pose[:3, :3]
        assert (local[:, 2] > 0).all() and torch.allclose(torch.linalg.det(pose[:3, :3]), torch.tensor(1.0))
        x, y = local[:, 0] / local[:, 2] * fx + cx, local[:, 1] / local[:, 2] * fy + cy
        rows, columns = (pixels[..., 3] > 127).nonzero().T
        assert abs(columns.min() - x.min()) < 1 and abs(columns.max() + 1 - x.max()) < 1
        assert abs(rows.min() - y.min()) < 1 and abs(rows.max() + 1 - y.max()) < 1


def test_cameras_stand_all_around_and_upright():
    pose = take_shots([BAR], 0, radius=0.6, views=12, side=16).world_from_camera[0]
    eye = pose[:, :3, 3]
    angle = torch.rad2deg(torch.atan2(eye[:, 1], eye[:, 0])).sort().values
    assert angle.diff().max() < 60 and (pose[:, 2, 1] < 0).all()  # the picture's y points down
    height = torch.rad2deg(torch.asin(eye[:, 2] / eye.norm(dim=1)))
    assert height.min() > HEIGHTS[0] - 0.01 and height.max() < HEIGHTS[1] + 0.01 and height.max() - height.min() > 20
    assert torch.allclose(eye.norm(dim=1), eye.norm(dim=1)[:1])


def test_light_comes_from_above_and_pieces_have_colours():
    two = joined([BAR, box((-0.1, -0.1, 0.3), (0.1, 0.1, 0.5))])
    shots = take_shots([two], 0, radius=0.6, views=8, side=32)
    high = (shots.world_from_camera[0, :, 2, 3] > 0.5).nonzero()[0, 0]  # sees the tops
    seen = shots.pixels[0, high][shots.pixels[0, high, ..., 3] == 255][:, :3]
    assert len(torch.unique(seen, dim=0)) >= 4


def test_equal_seeds_give_equal_pictures_whatever_comes_after():
    a, b = take_shots([BAR, BAR], 3, radius=0.6, views=2, side=16), take_shots([BAR], 3, radius=0.6, views=2, side=16)
    assert torch.equal(a.pixels[0], b.pixels[0]) and not torch.equal(a.pixels[0], a.pixels[1])
    assert not torch.equal(a.pixels[0], take_shots([BAR], 4, radius=0.6, views=2, side=16).pixels[0])


def test_drawn_pictures_are_on_white_and_follow_the_generator():
    shots = take_shots([BAR, BAR], 0, radius=0.6, views=3, side=16)
    picture, view = shots.draw(torch.tensor([1, 0]), torch.Generator().manual_seed(0))
    again, _ = shots.draw(torch.tensor([1, 0]), torch.Generator().manual_seed(0))
    assert torch.equal(picture, again) and picture.shape == (2, 3, 16, 16)
    clear = shots.pixels[torch.tensor([1, 0]), view][..., 3] == 0
    assert (picture.permute(0, 2, 3, 1)[clear] == 1).all() and picture.min() < 0.9


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (64, 64)])
def test_a_photo_of_any_shape_is_padded_and_shrunk(tmp_path, size):
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    pixels[size[1] // 4 : -(size[1] // 4), size[0] // 4 : -(size[0] // 4)] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    seen = read_shot(tmp_path / "a.png", 16)
    assert seen.shape == (3, 16, 16) and (seen[:, 0, 0] == 1).all()
    assert torch.allclose(seen[:, 8, 8], torch.tensor([1.0, 0, 0]))
    red = (seen[1] < 0.5).float()
    assert torch.allclose(red.sum() / 256, torch.tensor(size[0] * size[1] / max(size) ** 2 / 4), atol=0.05)


def test_pictures_that_cannot_be_told_from(tmp_path):
    grey = np.full((32, 32, 3), 90, np.uint8)
    Image.fromarray(grey).save(tmp_path / "wall.png")
    Image.fromarray(grey[:8, :8]).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.fromarray(np.full((16, 64, 3), 90, np.uint8)).save(
        tmp_path / "long.png"
    )  # what pads it is no white of its own
    background = "before a background"
    for name, words in {
        "wall": background,
        "long": background,
        "small": "8 × 8 pixels",
        "broken": "no readable",
    }.items():
        with pytest.raises(UserError, match=words) as error:
            read_shot(tmp_path / f"{name}.png", 16)
        assert name in str(error.value)
