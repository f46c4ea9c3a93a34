"""occupancy and dvr of a category by one picture, and by class: near unseen shapes, resumed exactly, by command."""

import json

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.evaluate.category import evaluate_category
from neural3d.reconstruct import reconstruct
from neural3d.run import build_method, configure, load
from neural3d.scene.objects import write_captures
from neural3d.shapes.category import load_shape_set
from neural3d.synthetic.furniture import box, joined
from neural3d.train import Trainer

SMALL = ["side=32", "channels=8", "code=32", "field_width=32", "blocks=2", "points=64", "lr=5e-3"]
SETTINGS = {
    "image": ("occupancy", ["condition=image", "horizon=250", "shapes=12", *SMALL]),
    "class": ("occupancy", ["condition=class", "horizon=150", "shapes=12", *SMALL]),
    "dvr": ("dvr", ["horizon=80", "objects=6", "rays=16", "steps=16", *SMALL]),
}


def tower(rng) -> trimesh.Trimesh:
    """A board on a post: seen from any side, the height of the post and the width of the board show."""
    height, width = rng.uniform(0.3, 1.2), rng.uniform(0.6, 1.6)
    low, half = height - 0.01, width / 2
    parts = [box((-0.3, -0.3, 0), (0.3, 0.3, height)), box((-half, -half, low), (half, half, height + 0.4))]
    mesh = joined(parts)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def cube(rng) -> trimesh.Trimesh:
    mesh = box((-0.5, -0.5, 0), (0.5, 0.5, rng.uniform(0.9, 1.1)))
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Meshes, and captures of the same."""
    where, rng = tmp_path_factory.mktemp("towers"), np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 2)):
        (where / "shapes" / split).mkdir(parents=True)
        for i in range(count):
            tower(rng).export(where / "shapes" / split / f"tower_{i:02d}.ply")
            if i % 4 == 0:
                cube(rng).export(where / "shapes" / split / f"cube_{i:02d}.ply")
    write_captures(load_shape_set(where / "shapes"), where / "captures", views=12, side=32)
    return where


def train(folders, name, out, steps):
    method, settings = SETTINGS[name]
    config, shapes = configure(folders / ("captures" if name == "dvr" else "shapes"), method, settings)
    trainer = Trainer.create(out, config, shapes, torch.device("cpu"))
    trainer.fit(steps, previews=False)
    return trainer


@pytest.fixture(scope="module", params=SETTINGS)
def run(request, folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / request.param
    train(folders, request.param, out, int(next(s for s in SETTINGS[request.param][1] if "horizon" in s)[8:]))
    return load(out, "cpu")


@pytest.fixture(scope="module")
def photo(folders):
    return folders / "captures" / "test" / "tower_00" / "003.png"


def test_unseen_shapes_come_out_right(run):
    report = evaluate_category(run, resolution=32)
    results = report["results"]
    least = {"image": 0.65, "class": 0.45, "dvr": 0.35}[run.directory.name]
    assert results["kinds"].keys() == {"tower", "cube"}
    assert results["mean"]["iou"] > least, results["mean"]
    if run.method.sees == "image":
        assert all(0 < row["alike_iou"] <= 1 for row in results["per_shape"])
    assert (run.directory / "eval" / f"category_{run.method.sees}.png").exists()
    assert json.loads((run.directory / f"eval_category_{run.method.sees}.json").read_text()) == report
    with pytest.raises(UserError, match="cannot be asked by cloud"):
        evaluate_category(run, seen="cloud")


def test_the_command_makes_a_mesh_of_a_picture_or_a_class(run, folders, photo, tmp_path):
    seen = "tower" if run.method.sees == "class" else str(photo)
    main(["reconstruct", str(run.directory), seen, str(tmp_path / "a.ply"), "--resolution", "32"])
    mesh = trimesh.load(tmp_path / "a.ply")
    truth = trimesh.load(folders / "shapes" / "test" / "tower_00.ply")
    assert mesh.is_watertight and mesh.volume > 0
    if run.directory.name == "image":  # in the frame and units of the shapes
        assert np.abs(mesh.bounds - truth.bounds).max() < 0.35
    if run.directory.name == "dvr":  # in the colours of the picture
        pixels = np.asarray(Image.open(photo)).reshape(-1, 4)
        mean = pixels[pixels[:, 3] == 255, :3].mean(0)
        assert np.abs(mesh.visual.vertex_colors[:, :3].mean(0) - mean).max() < 90


def test_what_the_run_has_not_learnt_from_is_refused(run, folders, photo, tmp_path):
    cloud = folders / "shapes" / "test" / "tower_00.ply"
    if run.method.sees == "class":
        with pytest.raises(UserError, match="unknown class 'towr'; did you mean 'tower'"):
            reconstruct(run, "towr")
    else:
        with pytest.raises(UserError, match="give a picture"):
            reconstruct(run, cloud)
        with pytest.raises(UserError, match="no such file; expected a picture"):
            reconstruct(run, tmp_path / "none.png")
    with pytest.raises(SystemExit) as stop:
        main(["reconstruct", str(run.directory), "--samples", "2", str(tmp_path / "out")])
    assert stop.value.code == 2


def test_objects_that_are_marched_together_keep_their_own_codes(folders):
    config, shapes = configure(folders / "captures", "dvr", SETTINGS["dvr"][1])
    method = build_method(config, shapes, torch.device("cpu")).eval()
    for block in method.net.blocks:  # they begin as identities
        torch.nn.init.normal_(block.linear2.weight, std=0.3)
    code, owner = torch.randn(4, 32), torch.tensor([0, 0, 0, 2, 3, 3])  # nothing of object 1
    x = torch.rand(6, 3) * 2 - 1
    alone = torch.stack([method.net(x[None, k : k + 1], code[i : i + 1])[0, 0, 0] for k, i in enumerate(owner)])
    assert torch.allclose(method._logits(x, owner, code), alone, atol=1e-5)
    assert method._logits(x[:0], owner[:0], code).shape == (0,)


@pytest.mark.parametrize("name", SETTINGS)
def test_resuming_gives_the_same_bytes(folders, name, tmp_path):
    for parts in ([6], [4, 6]):
        trainer = train(folders, name, tmp_path / str(len(parts)), parts[0])
        for steps in parts[1:]:
            trainer = Trainer.resume(trainer.directory, torch.device("cpu"))
            trainer.fit(steps, previews=False)
    a, b = ((tmp_path / n / "checkpoint.safetensors").read_bytes() for n in "12")
    assert a == b


def test_settings_and_data_that_do_not_fit(folders, tmp_path):
    with pytest.raises(UserError, match="must be one of points, image, class"):
        configure(folders / "shapes", "occupancy", ["condition=photo"])
    for data, method, settings, words in (
        ("shapes", "occupancy", ["condition=image", "side=20"], "side must be a multiple of 16"),
        ("captures", "dvr", ["side=32", "channels=4"], "channels must be a multiple of 8"),
        ("captures", "dvr", ["side=64"], "32 × 32 pixels"),
        ("captures", "occupancy", [], "--method dvr learns from photos"),
    ):
        config, shapes = configure(folders / data, method, settings)
        with pytest.raises(UserError, match=words):
            Trainer.create(tmp_path / "run", config, shapes, torch.device("cpu"))
