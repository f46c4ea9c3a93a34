"""Options and scene files: what they change, and what is refused."""

import pytest
import torch
from captures import HEIGHT, WIDTH, ring, write_blender, write_transforms

from neural3d.errors import UserError
from neural3d.loading import load_scene, ready_scenes
from neural3d.scene.options import make_options, read_toml
from neural3d.scene.readers import OPTIONS


def blender(path, count=20):
    return write_blender(path, ring("PINHOLE", (60.0, 60.0, WIDTH / 2, HEIGHT / 2), count=count, centre=(0, 0, 0)))


def toml(path, text):
    file = path / "my.toml"
    file.write_text(text)
    return file


def test_scene_file(tmp_path, monkeypatch):
    write_transforms(tmp_path / "capture", ring())
    monkeypatch.setenv("MY_CAPTURES", str(tmp_path))
    text = '[scene]\ndownscale = 2\nbackground = "black"\n\n[method.ngp]\nlearning_rate = 0.5\n'
    for path in ("capture", "${MY_CAPTURES}/capture", str(tmp_path / "capture")):
        scene = load_scene(toml(tmp_path, f'path = "{path}"\n{text}'))
        assert scene.name == "my" and scene.downscale == 2 and scene.background == "black"
        assert scene.method_settings == {"ngp": {"learning_rate": 0.5}}
    assert load_scene(tmp_path / "my.toml", downscale=3).downscale == 3  # what is said in the call wins


@pytest.mark.parametrize(
    "text,message",
    [
        ('path = "x', r"my\.toml cannot be read as TOML"),
        ("[scene]\n", r"my\.toml must say where the capture is"),
        ('path = "x"\nscenes = 1\n', r"unknown key 'scenes'; did you mean 'scene'\?"),
        (
            'path = "."\n[scene]\ndownscal = 2\n',
            r"my\.toml, \[scene\]: unknown key 'downscal'; did you mean 'downscale'\?",
        ),
        ('path = "."\n[scene]\nbackground = "green"\n', r"background = 'green' must be one of white, black"),
        ('path = "${NEURAL3D_NOWHERE}/x"\n', r"variable NEURAL3D_NOWHERE is not set: export NEURAL3D_NOWHERE=FOLDER"),
        ('path = "nowhere"\n', r"nowhere does not exist"),
    ],
)
def test_broken_scene_file(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_scene(toml(tmp_path, text))


@pytest.mark.parametrize(
    "values",
    [
        {"downscale": 0},
        {"downscale": 1.5},
        {"downscale": True},
        {"split": "every:1"},
        {"split": "all"},
        {"train_views": -1},
        {"aabb": [[0, 0, 0], [1, 1]]},
        {"aabb": [[0, 0, 0], [1, -1, 1]]},
        {"aabb": "big"},
        {"unbounded": "yes"},
        {"calibration_size": [1600]},
        {"calibration_size": [1600, 0]},
        {"world_mat": "metres"},
        {"images": 4},
        {"up": "w"},
    ],
)
def test_refused_values(values):
    with pytest.raises(UserError, match=rf"here: {next(iter(values))} = .* must be"):
        make_options(values, "here", OPTIONS)


def test_what_one_reader_needs_is_no_option_of_another(tmp_path):
    write_transforms(tmp_path, ring())
    with pytest.raises(UserError, match=r"read by 'transforms', whose captures know no world_mat; leave that out"):
        load_scene(tmp_path, world_mat="pixels")


def test_ready_scenes_are_valid(monkeypatch):
    monkeypatch.setenv("NEURAL3D_DATA", "/data")
    ready = ready_scenes()
    assert {"fox", "plush", "lego", "stool", "temple", "dtu24"} <= set(ready)
    for path in ready.values():
        capture, values, _ = read_toml(path)
        assert capture.is_absolute()
        make_options(values, str(path), OPTIONS)


def test_ready_scene_by_name(data_dir, monkeypatch):
    monkeypatch.setenv("NEURAL3D_DATA", str(data_dir))
    scene = load_scene("temple")
    assert scene.name == "temple" and len(scene.views) == 16


def test_splits(tmp_path):
    write_transforms(tmp_path, ring())
    assert load_scene(tmp_path, split="every:3").split == {"train": [1, 2, 4, 5, 7, 8], "test": [0, 3, 6, 9]}
    assert load_scene(tmp_path, split="none").split == {"train": list(range(10)), "test": []}
    # Ten cameras on a ring: the first, the one opposite, then those in the widest gaps.
    assert load_scene(tmp_path, train_views=4).split == {"train": [1, 3, 6, 9], "test": [0, 8]}
    assert load_scene(tmp_path, train_views=8).split == {"train": [1, 2, 3, 4, 5, 6, 7, 9], "test": [0, 8]}
    with pytest.raises(UserError, match=r"train_views = 9 but the split has 8"):
        load_scene(tmp_path, train_views=9)


def test_own_split_and_every_nth(tmp_path):
    root = blender(tmp_path)
    assert len(load_scene(root).split["test"]) == 4
    assert len(load_scene(root, split="every:10").split["test"]) == 2
    (root / "transforms_test.json").rename(root / "transforms_val.json")
    scene = load_scene(root)
    assert len(scene.split["test"]) == 4 and any("validation views stand in" in note for note in scene.notes)
    (root / "transforms_val.json").unlink()
    scene = load_scene(root)
    assert len(scene.split["test"]) == 2 and any("every 8th training view" in note for note in scene.notes)


def test_bounds_can_be_given(tmp_path):
    """aabb is in the capture's frame and units, whatever the scene's become."""
    write_transforms(tmp_path, ring())
    scene = load_scene(tmp_path, aabb=[[0, -4, 0], [2, 0, 1]], unbounded=False)
    torch.testing.assert_close(scene.aabb, torch.tensor([[-0.5, -1, -0.25], [0.5, 1, 0.25]]))
    corner = scene.scene_from_capture @ torch.tensor([2.0, 0, 1, 1]).double()
    torch.testing.assert_close(corner, torch.tensor([0.5, 1, 0.25, 1]).double())
    assert not scene.unbounded


def test_up_can_be_given(tmp_path):
    write_transforms(tmp_path, ring())
    scene = load_scene(tmp_path, up="-y")
    turned = scene.scene_from_capture[:3, :3] @ torch.tensor([0.0, -1, 0]).double()
    torch.testing.assert_close(turned / turned.norm(), torch.tensor([0.0, 0, 1]).double())


def test_too_small(tmp_path):
    write_transforms(tmp_path, ring())
    with pytest.raises(UserError, match=r"downscale = 100 leaves nothing of 36-pixel photos"):
        load_scene(tmp_path, downscale=100)


def test_memory_budget_chooses_the_downscale(tmp_path):
    """8 training views of 48×36×3 take 41 kB; a budget of 5 kB needs 3×3, and the notes say so."""
    write_transforms(tmp_path, ring())
    whole = 8 * WIDTH * HEIGHT * 3
    scene = load_scene(tmp_path, max_gib=5000 / 2**30)
    assert scene.downscale == 3 and whole / 9 <= 5000 < whole / 4
    assert scene.views[0].image().shape == (HEIGHT // 3, WIDTH // 3, 3)
    assert any("reduced 3×" in note for note in scene.notes)
    assert load_scene(tmp_path, max_gib=5000 / 2**30, downscale=1).downscale == 1
    assert load_scene(tmp_path).downscale == 1


def test_large_photos_are_reduced_to_a_size_that_trains(tmp_path, monkeypatch):
    monkeypatch.setattr("neural3d.scene.photos.LONGEST", 20)
    write_transforms(tmp_path, ring())
    scene = load_scene(tmp_path)
    assert scene.downscale == 2 and scene.views[0].image().shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert any("reduced 2×, to 24 px" in note for note in scene.notes)
    assert load_scene(tmp_path, downscale=1).downscale == 1
