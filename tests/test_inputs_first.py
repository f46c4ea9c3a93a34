"""Bad input is refused before work starts: nothing is loaded, rendered or trained when the place or a name is wrong."""

import json

import pytest
import torch
from toy import ball_capture

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.run import configure, load
from neural3d.train import Trainer

SMALL = ["log2_table=11", "levels=4", "max_resolution=32", "samples_per_batch=4096", "grid_budget=1024"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    capture = ball_capture(folder / "capture", train=4, test=1, size=16)
    Trainer.create(folder / "a run", *configure(capture, "ngp", SMALL), torch.device("cpu")).fit(1, previews=False)
    (folder / "file").write_text("mine")
    (folder / "film.mp4").write_bytes(b"")
    return folder / "a run"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("log2_table=1000000", "log2_table must be 3 to 28"),
        ("width=2000", "hidden widths up to 128"),
        ("features=3", "features must be 1, 2, 4 or 8"),
        ("grid_resolution=2000000", "ngp cannot be made with these settings"),
        ("steps_per_unit=0", "ngp cannot be made with these settings"),
        ("samples_per_batch=0", "samples_per_batch must be 1 or more"),
    ],
)
def test_absurd_settings_are_a_sentence(run, tmp_path, capsys, setting, message):
    capture = run.parent / "capture"
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(capture), "--method", "ngp", "--set", *SMALL, setting, "--out", str(tmp_path / "run")])
    assert message in " ".join(capsys.readouterr().err.split())
    changed = json.loads((run / "config.json").read_text())
    key, value = setting.split("=")
    changed["settings"][key] = int(value)
    (tmp_path / "damaged").mkdir()
    for name in ("scene.json", "checkpoint.safetensors"):
        (tmp_path / "damaged" / name).write_bytes((run / name).read_bytes())
    (tmp_path / "damaged" / "config.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=message):
        load(tmp_path / "damaged", "cpu")


def test_the_end_of_memory_is_a_sentence(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Trainer, "fit", lambda *args, **options: torch.empty(1 << 46))
    words = ["train", str(run.parent / "capture"), "--method", "ngp", "--set", *SMALL]
    with pytest.raises(SystemExit, match="3"):
        main([*words, "--out", str(tmp_path / "run")])
    assert "not enough memory" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "{run}", "{tmp}/x.fbx"], "x.fbx"),
        (["export", "{run}", "/proc/x.glb"], "/proc/x.glb cannot be written"),
        (["export", "{run}", "{run}/../file/x.glb"], "cannot be written"),
        (["export", "{run}", "{tmp}/x.glb", "--resolution", "0"], "--resolution must be at least 2"),
        (["export", "{run}", "{tmp}/x.glb", "--faces", "-1"], "--faces must be at least 0"),
        (["render", "{run}", "--out", "/proc/x.mp4"], "/proc/x.mp4 cannot be written"),
        (["render", "{run}", "--out", "{run}/../file"], "is a file already"),
        (["render", "{run}", "--out", "{tmp}/x.mp4", "--frames", "0"], "--frames must be at least 1"),
        (["render", "{run}", "--out", "{tmp}/x.mp4", "--fps", "nan"], "--fps must be at least"),
        (["render", "{run}", "{run}/../capture"], "capture is a capture; pictures go into a folder of their own"),
        (["eval", "{run}", "--mesh", "{tmp}/no.ply"], "no.ply is no file"),
        (["eval", "{run}", "--lpips", "{tmp}/no.pt"], "no.pt is no file"),
        (["reconstruct", "{run}", "{tmp}/no.ply", "--out", "{tmp}/x.glb"], "no.ply does not exist"),
        (["convert", "{run}/../file", "/proc/x.glb"], "cannot"),
        (["demo", "--out", "/proc/x"], "/proc/x cannot be written"),
        (["demo", "{run}/../capture"], "holds other things (test); the demo makes a scene of its own"),
        (["process", "{run}/..", "{tmp}/x"], "Of a film, give the file itself: {run}/../film.mp4"),
        (["info", "{run}/.."], "Of a film, give the file itself"),
        (["train", "{run}", "{tmp}/x"], "It is a run; to go on with it: neural3d train --resume '{run}'."),
        (["eval", "{run}/../film.mp4"], "film.mp4: not a run"),
        (["train", "--resume", "{run}/../film.mp4"], "film.mp4: not a run"),
        (["train", "{run}/../capture", "--out", "/proc/x"], "/proc/x cannot be written"),
        (["train", "{run}/../capture", "--out", "{run}"], "already holds a run"),
        (["train", "{run}/../capture", "--out", "{tmp}/x", "--seed", "-1"], "a seed must be from 0"),
        (["view", "{tmp}/WRONG"], "WRONG does not exist"),
        (["view", "{tmp}/WRONG", "--screenshot", "x.png"], "WRONG does not exist"),
        (["view", "{run}", "--screenshot", "{tmp}/x.jpg"], "screenshots are PNG files"),
        (["view", "{run}", "--screenshot", "/proc/x.png"], "/proc/x.png cannot be written"),
        (["process", "{tmp}", "/proc/x"], "photos"),
    ],
)
def test_before_anything_is_loaded(run, tmp_path, monkeypatch, capsys, words, message):
    def worked(*_, **__):
        raise AssertionError("work has begun")

    for work in ("neural3d.run.build_method", "neural3d.train.Trainer.__init__", "neural3d.synthetic.demo.render_view"):
        monkeypatch.setattr(work, worked)
    with pytest.raises(SystemExit) as stop:
        main([word.format(run=run, tmp=tmp_path) for word in words])
    assert stop.value.code == 2
    assert message.format(run=run) in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
