"""Ctrl-C and kill, at the worst moments: 130 and 143, no traceback, nothing half-written; what there was is kept."""

import importlib.util
import os
import signal

import pytest
import textured
import torch
from PIL import Image
from toy import ball_capture

from neural3d.checkpoint import load_state
from neural3d.cli import main
from neural3d.run import configure
from neural3d.train import Trainer

SMALL = ["log2_table=11", "levels=4", "max_resolution=32", "samples_per_batch=4096", "grid_budget=1024"]


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return ball_capture(tmp_path_factory.mktemp("capture"), train=4, test=2, size=16)


@pytest.fixture(scope="module")
def run(capture, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    Trainer.create(run, *configure(capture, "ngp", SMALL), torch.device("cpu")).fit(60, previews=False)
    return run


def interrupt(monkeypatch, function: str, at: int = 1, number: int = signal.SIGINT, times: int = 1) -> None:
    """The process gets the signal, or several, when `function`, named in full, is called for the `at`-th time."""
    module, _, name = function.rpartition(".")
    try:
        holder = importlib.import_module(module)
    except ModuleNotFoundError:
        module, _, owner = module.rpartition(".")
        holder = getattr(importlib.import_module(module), owner)
    original, calls = getattr(holder, name), []

    def interrupted(*arguments, **named):
        calls.append(name)
        for _ in range(times if len(calls) == at else 0):
            os.kill(os.getpid(), number)
        return original(*arguments, **named)

    monkeypatch.setattr(holder, name, interrupted)


def stopped(words, capsys) -> tuple[int, str]:
    """Exit code of a command, and what it said on stderr."""
    capsys.readouterr()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert signal.getsignal(signal.SIGINT) is handler
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said and "stopped; " in said
    return stop.value.code, said


def parts(folder) -> list:
    return [p for p in folder.rglob(".*") if f".{os.getpid()}.part" in p.name]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_training_saves_and_says_how_to_go_on(capture, tmp_path, monkeypatch, capsys, number, code):
    interrupt(monkeypatch, "neural3d.train.learning_rate", 7, number)
    words = ["train", capture, "--method", "ngp", "--out", tmp_path / "run", "--device", "cpu", "--set", *SMALL]
    ended, said = stopped(words, capsys)
    step = load_state(tmp_path / "run" / "checkpoint.safetensors")["step"]
    assert ended == code and 0 < step < 10
    assert f"saved at step {step}; next: neural3d train --resume {tmp_path / 'run'}" in said
    assert not parts(tmp_path)


def test_a_second_ctrl_c_does_not_wait(capture, tmp_path, monkeypatch, capsys):
    interrupt(monkeypatch, "neural3d.train.learning_rate", 2, times=2)
    words = ["train", capture, "--method", "ngp", "--out", tmp_path / "run", "--device", "cpu", "--set", *SMALL]
    code, said = stopped(words, capsys)
    assert code == 130 and "saved" not in said and not (tmp_path / "run" / "checkpoint.safetensors").exists()


EXPORT = ["export", "{run}", "{tmp}/mesh.glb", "--resolution", "48"]
COMMANDS = {
    "film": (["render", "{run}", "--out", "{tmp}/film.mp4"], "neural3d.run.Run.render", 3),
    "pictures": (["render", "{run}", "--out", "{tmp}/pictures"], "neural3d.run.Run.render", 5),
    "export": (EXPORT, "neural3d.meshing.simplified", 1),
    "export, when it writes": (EXPORT, "neural3d.disk.os.replace", 1),
    "eval": (["eval", "{run}"], "neural3d.evaluate.views.truth", 2),
    "demo": (["demo", "--out", "{tmp}/demo"], "neural3d.synthetic.demo.render_view", 2),
    "demo, when it trains": (["demo", "--out", "{tmp}/demo"], "neural3d.train.learning_rate", 2),
    "process": (["process", "{photos}", "{tmp}/garden"], "neural3d.sfm.solve.solve", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_leaves_nothing_half_written(run, tmp_path, monkeypatch, capsys, name):
    words, function, at = COMMANDS[name]
    if name == "process":
        if importlib.util.find_spec("pycolmap") is None:
            pytest.skip("pycolmap, which finds the cameras, is not installed")
        textured.write_photos(tmp_path / "photos", textured.orbit(3), (80, 60))
    if name.startswith("demo"):
        monkeypatch.setattr("neural3d.cli.demo.SECONDS", 3.0)
    interrupt(monkeypatch, function, at)
    code, said = stopped([w.format(run=run, tmp=tmp_path, photos=tmp_path / "photos") for w in words], capsys)
    assert code == 130
    assert not parts(tmp_path) and not parts(run)
    assert not (tmp_path / "film.mp4").exists() and not (tmp_path / "mesh.glb").exists()
    assert not (run / "eval.json").exists()
    for picture in [*tmp_path.glob("pictures/**/*.png"), *run.glob("eval/*.png")]:
        Image.open(picture).load()
    if name == "demo, when it trains":
        assert (tmp_path / "demo" / "checkpoint.safetensors").exists() and "--resume" in said
        assert not (tmp_path / "demo" / "mesh.glb").exists()
    if name == "process":
        assert "the same command goes on" in said and not (tmp_path / "garden").exists()
