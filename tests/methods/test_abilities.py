"""What a run cannot do it says in one sentence, with what it can do: every command, on runs of every kind."""

import numpy as np
import pytest
import torch
import trimesh
from methods.test_players import RingGan

from neural3d.cli import main
from neural3d.methods import METHODS
from neural3d.methods.abilities import DEEDS, Conditional, Generative, Meshable, Reconstructive, Renderable, cannot
from neural3d.run import configure
from neural3d.train import Trainer

SMALL = {
    "sdf": ["levels=2", "log2_table=8", "batch=64"],
    "occupancy": ["shapes=2", "points=32", "width=8", "layers=1", "cloud=32"],
    "deepsdf": ["shapes=2", "points=32", "width=16", "hidden_layers=1", "latent=4"],
    "ring-gan": [],
}


@pytest.fixture(scope="module", autouse=True)
def known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "ring-gan", f"{RingGan.__module__}:RingGan")
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each method, of one step."""
    folder = tmp_path_factory.mktemp("runs")
    for i in range(3):
        (folder / "boxes").mkdir(exist_ok=True)
        trimesh.creation.box((1, 1 + i / 3, 2)).export(folder / "boxes" / f"box_{i}.ply")
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(100, 3))).export(folder / "cloud.ply")
    data = {"sdf": "boxes/box_0.ply", "ring-gan": "cloud.ply", "occupancy": "boxes", "deepsdf": "boxes"}
    for method, settings in SMALL.items():
        config, loaded = configure(folder / data[method], method, settings)
        Trainer.create(folder / method, config, loaded, torch.device("cpu")).fit(1, previews=False)
    return folder


SHAPE = "make a shape of what is seen of it (neural3d reconstruct RUN FILE shape.glb)"
TEACH = "be learnt from by a prior (neural3d train RUN --method realnvp)"
NEW = "make new shapes, or shapes between two (neural3d reconstruct RUN --samples 5 --out shapes)"
SDF = "render pictures (neural3d render RUN), give a mesh (neural3d export RUN mesh.glb)"
NOTHING = "only be trained further: no command asks for what it has learnt"


@pytest.mark.parametrize(
    ("words", "cannot", "can"),
    [
        (["render", "occupancy", "out"], "render pictures", SHAPE),
        (["view", "deepsdf"], "render pictures", f"{SHAPE}, {TEACH}, {NEW}"),
        (["export", "occupancy", "out.glb"], "give a mesh", SHAPE),
        (["export", "occupancy", "out.glb", "--texture", "64"], "give a mesh", SHAPE),
        (["export", "sdf", "out.spz"], "give splats", SDF),
        (["export", "sdf", "out.ply", "--open", "yes"], "trim its surface where it has no points", SDF),
        (["convert", "sdf", "out.glb"], "give splats", SDF),
        (["convert", "occupancy", "out.glb"], "give splats", SHAPE),
        (["reconstruct", "sdf", "cloud.ply", "out.ply"], "make a shape of what is seen of it", SDF),
        (
            ["reconstruct", "occupancy", "--samples", "1", "--out", "out"],
            "make new shapes, or shapes between two",
            SHAPE,
        ),
        (["eval", "ring-gan"], "give a mesh", NOTHING),
        (["render", "ring-gan", "out"], "render pictures", NOTHING),
    ],
)
def test_a_command_says_what_the_run_can_do_instead(runs, monkeypatch, capsys, words, cannot, can):
    monkeypatch.chdir(runs)
    if words[0] == "view":
        words = [*words, "--screenshot", "out.png"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{words[1]}: this run cannot {cannot}; it can {can.replace('RUN', words[1])}." in said


def test_each_method_declares_what_it_can():
    """By its bases, so that a reader sees it in the class's first line; and each ability has its words."""
    from neural3d.methods import method_class

    of = {name: {a.__name__ for a in method_class(name).__mro__ if a in (*DEEDS, Conditional)} for name in METHODS}
    one, category = {"Renderable", "Meshable"}, {"Conditional", "Reconstructive"}
    assert of.pop("splat") == one | {"Splatted"} and of.pop("igr") == one | {"Trimmable"}
    assert of.pop("deepsdf") == category | {"Generative", "Teaching"} and of.pop("ring-gan") == set()
    for name, abilities in of.items():
        assert abilities == (category if name.endswith("-category") else one), name


def test_whatever_has_the_methods_is_able(tmp_path):
    class Stub:
        def render(self, camera, background=None): ...

    assert isinstance(Stub(), Renderable) and not isinstance(Stub(), (Meshable, Reconstructive, Generative))
    run = tmp_path / "my run"
    assert str(cannot(run, Stub(), Meshable)) == (
        f"{run}: this run cannot give a mesh; it can render pictures (neural3d render '{run}')."
    )
