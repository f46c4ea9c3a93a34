import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.loading import load_scene
from neural3d.synthetic import demo, tempietto
from neural3d.synthetic.analytic import make_demo_scene

VIEWS, SIZE = 6, 200


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    return make_demo_scene(tmp_path_factory.mktemp("demo"), train_views=VIEWS, test_views=2, size=SIZE)


def on_white(path: Path) -> np.ndarray:
    rgba = np.asarray(Image.open(path)).astype(np.float64) / 255
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * np.log10(np.mean((a - b) ** 2))


def test_layout(capture):
    for split, count in (("train", VIEWS), ("test", 2)):
        layout = json.loads((capture / f"transforms_{split}.json").read_text())
        assert len(layout["frames"]) == count
        for frame in layout["frames"]:
            image = Image.open(capture / (frame["file_path"] + ".png"))
            assert image.size == (SIZE, SIZE) and image.mode == "RGBA"


def test_loads_with_its_bounds(capture):
    scene = load_scene(capture / "scene.toml")
    assert len(scene.split["train"]) == VIEWS and len(scene.split["test"]) == 2 and scene.has_alpha
    box = scene.aabb.double() @ torch.linalg.inv(scene.scene_from_capture)[:3, :3].T
    box += torch.linalg.inv(scene.scene_from_capture)[:3, 3]
    np.testing.assert_allclose(box, demo.AABB, atol=1e-6)


def test_blurred_truth_scores_under_26_db(capture):
    """Detail matters: neither 4x4 averages scaled back up nor a sliding 4x4 mean come near the truth."""
    for path in capture.glob("*/*.png"):
        truth = on_white(path)
        blocks = truth.reshape(SIZE // 4, 4, SIZE // 4, 4, 3).mean(axis=(1, 3))
        assert psnr(blocks.repeat(4, axis=0).repeat(4, axis=1), truth) < 26
        smooth = np.asarray(
            [Image.fromarray(blocks[..., k].astype(np.float32)).resize((SIZE, SIZE), Image.BILINEAR) for k in range(3)]
        )
        assert psnr(np.moveaxis(smooth, 0, -1), truth) < 26


def test_same_seed_same_bytes_and_another_seed_moves_the_cameras(tmp_path):
    def make(name: str, seed: int) -> dict[str, bytes]:
        out = make_demo_scene(tmp_path / name, train_views=2, test_views=1, size=40, seed=seed)
        return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    first = make("a", 0)
    assert first == make("b", 0)
    other = make("c", 1)
    assert first.keys() == other.keys() and all(first[k] != other[k] for k in first if k != "scene.toml")


def test_without_time_fewer_views_are_made_from_all_sides(tmp_path):
    out = make_demo_scene(tmp_path / "demo", train_views=40, test_views=1, size=16, seconds=0.0)
    frames = json.loads((out / "transforms_train.json").read_text())["frames"]
    assert len(frames) == demo.FEWEST and len(list((out / "train").iterdir())) == demo.FEWEST
    assert all((out / f"{frame['file_path']}.png").is_file() for frame in frames)
    assert len(json.loads((out / "transforms_test.json").read_text())["frames"]) == 1
    eyes = np.array([frame["transform_matrix"] for frame in frames])[:, :3, 3] - demo.TARGET
    gaps = np.diff(np.sort(np.arctan2(eyes[:, 1], eyes[:, 0])))
    assert gaps.max() < 4 * 2 * np.pi / demo.FEWEST, "a side is missing"
    assert np.ptp(eyes[:, 2]) > 0.6 * demo.DISTANCE * (np.sin(np.radians(55)) - np.sin(np.radians(4)))


def test_alpha_is_a_sharp_silhouette_with_straight_colour(capture):
    for path in capture.glob("*/*.png"):
        rgba = np.asarray(Image.open(path))
        alpha = rgba[..., 3]
        assert 0.25 < np.mean(alpha > 0) < 0.75, "the temple fills the frame without leaving it"
        for border in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
            assert not border.any()
        assert np.all(rgba[alpha == 0] == 0)
        edge = (alpha > 0) & (alpha < 255)
        assert 0 < edge.sum() < 0.2 * (alpha == 255).sum()
        inner = rgba[alpha == 255][:, :3].mean()  # premultiplied colour would make edges darker than the inside
        assert rgba[edge][:, :3].mean() > 0.6 * inner


def test_cameras_see_known_points_where_they_are(capture):
    """The marbles on the near side appear where the written cameras project them, each in its own colour."""
    layout = json.loads((capture / "transforms_train.json").read_text())
    focal = 0.5 * SIZE / np.tan(0.5 * layout["camera_angle_x"])
    colours = torch.cat(tempietto.MARBLE_COLOURS).numpy()
    checked = 0
    for frame in layout["frames"]:
        pose = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:3, :3]) > 0
        image = on_white(capture / (frame["file_path"] + ".png"))
        for k in range(tempietto.SECTORS):
            angle = 2 * np.pi * (k + 0.5) / tempietto.SECTORS
            direction = np.array([np.cos(angle), np.sin(angle), 0])
            if direction @ pose[:3, 3] < 0.5 * np.linalg.norm(pose[:2, 3]):
                continue  # on the far side
            world = np.append(tempietto.MARBLE_RING * direction, [1.0])
            world[2] = tempietto.MARBLE_Z
            x, y, z = np.linalg.inv(pose)[:3] @ world
            seen = image[int(SIZE / 2 - focal * y / -z), int(SIZE / 2 + focal * x / -z)] ** 2.2
            likeness = colours @ seen / np.linalg.norm(colours, axis=1) / np.linalg.norm(seen)
            assert likeness.argmax() == k % 4
            checked += 1
    assert checked >= 2 * VIEWS


def test_distance_never_oversteps():
    """A sphere tracer needs |d(p) - d(q)| <= |p - q|."""
    rng = torch.Generator().manual_seed(0)
    p = torch.rand(3, 100_000, generator=rng) * 2.6 - 1.3
    q = p + 0.05 * torch.randn(3, 100_000, generator=rng)
    change = (tempietto.distance(*p) - tempietto.distance(*q)).abs()
    assert torch.all(change <= (p - q).norm(dim=0) + 1e-5)


def test_the_box_holds_all_of_the_temple_and_little_else():
    low, high = np.array(demo.AABB)
    rng = np.random.default_rng(0)
    on_faces = rng.uniform(low, high, (60_000, 3))
    face = rng.integers(0, 3, len(on_faces))
    on_faces[np.arange(len(on_faces)), face] = np.where(rng.random(len(on_faces)) < 0.5, low[face], high[face])
    d = tempietto.distance(*torch.from_numpy(on_faces).float().T.contiguous())
    assert 0 < d.min() < 0.06


def test_highlights_move_with_the_eye():
    """The same surface point of the dome looks different from two sides: the demo needs view dependence."""
    points = tuple(torch.tensor([c]) for c in (0.3, -0.25, tempietto.DOME_Z + 0.61))
    toward = torch.nn.functional.normalize(torch.tensor([[0.0, 0.0, -1.0], [1.0, 0.0, -0.6]]), dim=1)
    seen = [demo.shade(points, d[None]) for d in toward]
    assert (seen[0] - seen[1]).abs().max() > 0.02
