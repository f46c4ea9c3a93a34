"""What photos see, of a few splats whose pictures are plain."""

import torch
from captures import ring, write_transforms

from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.methods.splat import Splat, SplatConfig
from neural3d.partition.sight import STRAY, painted, window, windows


class Two:
    """An opaque splat on the left and one on the right, 4 before a camera; and one hidden behind the left one."""

    def __init__(self):
        means = torch.tensor([[-1.0, 0, 4], [1.0, 0, 4], [-2.0, 0, 8]])
        n = len(means)
        self.splats = Gaussians(
            means, torch.full((n, 3), 0.3).log(), torch.eye(4)[:1].repeat(n, 1), torch.full((n,), 20.0),
            torch.zeros(n, 3), torch.zeros(n, 0, 3),
        )  # fmt: skip
        self.near, self.config = 0.01, type("Config", (), {"antialiased": False})


CAMERA = Camera("PINHOLE", 80, 60, torch.tensor([60.0, 60, 40, 30]), torch.eye(4))


def test_a_splat_paints_what_is_seen_of_it():
    left, right, hidden = painted(Two(), [CAMERA, CAMERA]).tolist()
    assert abs(left - right) < 0.02 * right and right > 100
    assert hidden < 0.1 * left


def test_windows_hold_what_is_seen_of_the_ground():
    halves = [torch.tensor([[-9.0, -9], [0, 9]]), torch.tensor([[0.0, -9], [9, 9]]), torch.tensor([[5.0, 5], [9, 9]])]
    ((left, right, nothing),) = windows(Two(), [CAMERA], halves)
    assert nothing is None
    assert left[0] < 25 < left[2] < 40 < right[0] < 55 < right[2]
    assert left[1] == right[1] < 30 < left[3] == right[3]


def test_a_window_leaves_specks_out():
    seen = torch.zeros(60, 80, dtype=torch.bool)
    seen[20:40, 30:50] = True
    seen[0, 0] = True
    assert STRAY > 1 / 401 and window(seen) == (29, 19, 51, 41)
    assert window(torch.zeros(60, 80, dtype=torch.bool)) is None


def test_a_part_looks_once_where_its_ground_is_seen(tmp_path):
    """Blocks with its splats, and their neighbours; as pixels of the photo at any size."""
    scene = load_scene(write_transforms(tmp_path, ring()))
    name = scene.views[scene.split["train"][0]].name
    part = load_scene(tmp_path, cell=[[-1e9, -1e9], [1e9, 1e9]], windows=[[name, 0, 0, 48, 36]])
    method = Splat(SplatConfig(densify="none"), part)
    everywhere = method._look()
    assert everywhere.shape == (1, 3, 3) and method.seen.all()
    part.cell = torch.tensor([[1e8, 1e8], [1e9, 1e9]])
    assert not method._look().any()
    method.seen = torch.tensor([[[True, False, False], [False] * 3, [False, False, True]]])
    pixels = method._shown(0, 48, 36)[..., 0]
    assert pixels[0, 0] and pixels[-1, -1] and pixels.sum() == 2 * 16 * 12
    assert method._shown(0, 24, 18).sum() == 2 * 8 * 6
