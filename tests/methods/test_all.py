"""What holds of every method in the table: the same bytes in one go, or stopped and resumed, on any threads."""

import json
import re
import shutil

import pytest
import torch
import trimesh
from toy import ball_capture

from neural3d.checkpoint import load_state, save_state
from neural3d.errors import UserError
from neural3d.fields.mlp import MLP
from neural3d.geometry.solid import open_edges
from neural3d.methods import METHODS, OF_CATEGORY
from neural3d.methods.abilities import Meshable, Reconstructive
from neural3d.ops.mlp import has_tensor_cores
from neural3d.run import configure, read_config
from neural3d.scene.objects import write_captures
from neural3d.shapes.category import load_shape_set
from neural3d.shapes.shape import load_shape
from neural3d.train import Trainer

CPU = torch.device("cpu")
GRID = ["log2_table=10", "levels=4", "max_resolution=32"]
FIELD = [*GRID, "batch=256", "hidden_layers=1"]
NERF = ["width=32", "depth=3", "skip=2", "color_width=16", "samples_coarse=8", "samples_fine=8", "batch=64"]
VECTOR = ["side=16", "channels=8", "code=16", "field_width=16", "blocks=1", "points=32"]
SMALL = {  # horizons so short that what happens late happens in the steps taken here
    "deepsdf": ("shapes", ["shapes=2", "points=32", "width=16", "hidden_layers=1", "latent=4"]),
    "dvr": ("photos", ["horizon=20", "rays=128", "levels=4", "log2_table=10", "color_levels=4", "steps=16"]),
    "dvr-category": ("captures", [*VECTOR, "objects=2", "rays=8", "steps=8"]),
    "igr": ("mesh", [*GRID, "horizon=20", "batch=64"]),
    "nerf": ("photos", [*NERF, "horizon=20", "anneal=0.9", "occlusion=0.01", "grid_resolution=16", "grid_every=3"]),
    "neus": (
        "photos",
        [*GRID, "horizon=20", "color_log2_table=10", "samples_per_batch=1024", "grid_resolution=32"],
    ),
    "ngp": (
        "photos",
        [*GRID, "horizon=20", "samples_per_batch=1024", "grid_every=3", "grid_budget=2048", "exposure=true",
         "refine_poses=true"],
    ),
    "occupancy": ("mesh", FIELD),
    "occupancy-category": ("shapes", ["shapes=2", "points=32", "width=8", "layers=1", "cloud=32"]),
    "sdf": ("mesh", FIELD),
    "splat": (
        "photos",
        ["horizon=20", "random_points=100", "densify_from=2", "densify_every=2", "sh_every=3", "grow_gradient=1e-9",
         "exposure=true", "refine_poses=true"],
    ),
}  # fmt: skip

TORCHS = {"dvr-category", "occupancy-category"}  # of torch's own layers, whose sums are split by threads


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One small input of each kind."""
    folder = tmp_path_factory.mktemp("data")
    trimesh.creation.icosphere(2).export(folder / "ball.ply")
    (folder / "boxes").mkdir()
    for i in range(3):
        trimesh.creation.box((1, 1 + i / 3, 2)).export(folder / "boxes" / f"box_{i}.ply")
    write_captures(load_shape_set(folder / "boxes"), folder / "captures", views=4, side=16)
    photos = ball_capture(folder / "photos", train=6, test=1, size=24)
    return {"photos": photos, "mesh": folder / "ball.ply", "shapes": folder / "boxes", "captures": folder / "captures"}


def test_no_method_is_left_out():
    assert SMALL.keys() == METHODS.keys()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_bytes_in_one_go_or_resumed(data, tmp_path, method):
    kind, settings = SMALL[method]
    name = {special: plain for plain, special in OF_CATEGORY.items()}.get(method, method)
    threads = torch.get_num_threads()
    try:
        for out, count in (("whole", 1), ("half", 1 if method in TORCHS else 2)):
            torch.set_num_threads(count)
            config, loaded = configure(data[kind], name, settings)
            assert config.method == method
            trainer = Trainer.create(tmp_path / out, config, loaded, CPU)
            trainer.fit(9 if out == "whole" else 5, previews=False)
        Trainer.resume(tmp_path / "half", CPU).fit(9, previews=False)
    finally:
        torch.set_num_threads(threads)
    whole, half = ((tmp_path / out / "checkpoint.safetensors").read_bytes() for out in ("whole", "half"))
    assert whole == half


@pytest.mark.parametrize("method", ["neus", "ngp"])
def test_bfloat16_is_refused_where_it_is_slow(data, tmp_path, device, method):
    """Where it is not, the networks take it, but for the one whose slope is trained too."""
    settings = [*SMALL[method][1], "scene.unbounded=true", "precision=bfloat16"]
    config, loaded = configure(data["photos"], method, settings)
    if not has_tensor_cores(device):
        with pytest.raises(UserError, match=r"8\.0 or higher.*anew with --set precision=float32"):
            Trainer.create(tmp_path / "run", config, loaded, device)
        assert not (tmp_path / "run" / "config.json").exists()
        return
    parts = Trainer.create(tmp_path / "run", config, loaded, device).method.named_modules()
    chosen = {name: part.precision for name, part in parts if isinstance(part, MLP)}
    assert chosen == {name: "float32" if name == "field.net" else "bfloat16" for name in chosen}
    assert len(chosen) == {"neus": 4, "ngp": 2}[method]
    assert read_config(tmp_path / "run").method_config().precision == "bfloat16"


SOLID = {"ngp": ["steps_per_unit=4"], "nerf": ["surface_density=1e-4"]}  # so that fog, as at the start, has a surface


@pytest.mark.parametrize("method", METHODS)
def test_meshes_are_closed(data, tmp_path, method):
    """Of whatever has been learnt in three steps."""
    kind, settings = SMALL[method]
    name = {special: plain for plain, special in OF_CATEGORY.items()}.get(method, method)
    config, loaded = configure(data[kind], name, [*settings, *SOLID.get(method, [])])
    trainer = Trainer.create(tmp_path / "run", config, loaded, CPU)
    trainer.fit(3, previews=False)
    subject, generator = trainer.method.eval(), torch.Generator().manual_seed(0)
    if isinstance(subject, Reconstructive):
        vertices = torch.from_numpy(load_shape(data["mesh"]).mesh.vertices).float()
        seen = {"points": vertices, "image": torch.rand(3, 16, 16, generator=generator)}[subject.sees]
        subject = subject.subject(subject.code_of(seen, generator))
    assert isinstance(subject, Meshable)
    mesh = subject.mesh(24)
    assert len(mesh.faces) > 10 and open_edges(mesh) == 0


@pytest.mark.parametrize("method", ["neus", "ngp"])
def test_runs_from_before_names_changed_go_on(data, tmp_path, method):
    """A run as an earlier version wrote it, of settings and parts that have other names now."""
    settings = [*SMALL[method][1], "scene.unbounded=true"]
    config, loaded = configure(data["photos"], method, settings)
    trainer = Trainer.create(tmp_path / "run", config, loaded, CPU)
    trainer.fit(3, previews=False)
    shutil.copytree(tmp_path / "run", tmp_path / "old")
    then = {new: old for old, new in type(trainer.method).renamed.items()}

    def as_then(values):
        return {re.sub("|".join(f"^{x}" for x in then), lambda m: then[m[0]], k): v for k, v in values.items()}

    state = load_state(tmp_path / "old" / "checkpoint.safetensors")
    changed = state | {"method": as_then(state["method"]), "extra": as_then(state["extra"])}
    assert changed["method"].keys() != state["method"].keys()
    save_state(tmp_path / "old" / "checkpoint.safetensors", changed)
    written = json.loads((tmp_path / "old" / "config.json").read_text())
    (tmp_path / "old" / "config.json").write_text(json.dumps(written | {"settings": as_then(written["settings"])}))
    for name in ("run", "old"):
        Trainer.resume(tmp_path / name, CPU).fit(5, previews=False)
    run, old = ((tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("run", "old"))
    assert run == old
