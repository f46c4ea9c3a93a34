"""Runs that change while they are looked at: what is shown, what it costs, and that training does not notice."""

import signal
import subprocess
import sys
import threading
import time
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from neural3d.viewer.camera import first_eye
from neural3d.viewer.live import SHARE, Followed, Training, followed, training_subject
from neural3d.viewer.painter import painter
from neural3d.viewer.picture import Shot
from neural3d.viewer.render_thread import Frame, RenderThread
from ports import free_port, reachable
from toy import ball_capture

from neural3d.errors import UserError
from neural3d.run import configure
from neural3d.train import Trainer

CPU = torch.device("cpu")
SMALL = {
    "ngp": (
        "horizon=200",
        "log2_table=11",
        "levels=4",
        "max_resolution=32",
        "samples_per_batch=4096",
        "grid_budget=1024",
    ),
    "splat": ("random_points=300", "densify_from=20", "densify_every=10"),
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return ball_capture(tmp_path_factory.mktemp("live"), train=8, test=1, size=24)


def trainer_of(capture, out, method="ngp") -> Trainer:
    config, scene = configure(capture, method, SMALL[method])
    return Trainer.create(out, config, scene, CPU)


def watched(trainer: Trainer, steps: int) -> tuple[list, Training]:
    """Trains while a render thread shows the first view; the frames that came."""
    training, frames, versions = Training(trainer), [], []
    subject = training_subject(training)

    def show(frame: Frame) -> None:
        versions.append(thread._version if frame.done else 0)
        frames.append(frame)

    thread = RenderThread(painter(subject), show, live=training)
    thread.start()
    thread.request(Shot(first_eye(subject, 1.5).camera(60, 40), "rgb", (60, 40), torch.ones(3)))

    def between() -> None:
        training.between_steps()
        if not frames:  # however fast the steps are
            time.sleep(0.01)

    try:
        trainer.fit(steps, previews=False, between_steps=between)
    finally:
        training.end()
    until = time.monotonic() + 20
    while not any(version > trainer.step for version in versions) and time.monotonic() < until:
        time.sleep(0.05)
    thread.stop()
    return frames, training


@pytest.mark.parametrize("method", ["ngp", "splat"])
def test_the_picture_follows_the_training_which_goes_as_if_unwatched(capture, tmp_path, method):
    trainer_of(capture, tmp_path / "alone", method).fit(120, previews=False)
    trainer = trainer_of(capture, tmp_path / "watched", method)
    frames, training = watched(trainer, 120)
    alone, seen = ((tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("alone", "watched"))
    assert alone == seen
    finished = [frame for frame in frames if frame.done]
    assert len(finished) >= 2, "at rest, too, it is drawn again"
    assert np.abs(finished[0].picture.astype(int) - finished[-1].picture).mean() > 1
    last = finished[-1]
    exact = trainer.method.eval().render(last.shot.camera, torch.ones(3)).rgb.clamp(0, 1).numpy()
    assert np.abs(last.picture / 255 - exact).max() < 0.01, "the last picture is of the last step"
    assert training.status() == "step 120, trained"


def test_drawing_takes_its_share_and_no_more():
    def render(camera, background):
        time.sleep(0.02)

    method = SimpleNamespace(eval=lambda: method, train=lambda: method, render=render)
    training = Training(SimpleNamespace(method=method, step=1))
    asking = True

    def ask() -> None:
        while asking:
            training.render(None)

    thread = threading.Thread(target=ask)
    thread.start()
    begin, drawing = time.perf_counter(), 0.0
    while time.perf_counter() - begin < 2:
        before = time.perf_counter()
        training.between_steps()
        drawing += time.perf_counter() - before
        time.sleep(0.002)
    asking = False
    training.end()
    thread.join(10)
    assert not thread.is_alive() and 0.25 * SHARE < drawing / 2 < 1.2 * SHARE


def test_waiting_is_not_the_renderers_slowness(capture, tmp_path):
    """A step of a second must not make moving pictures coarser: the clock stands still meanwhile."""
    training = Training(trainer_of(capture, tmp_path / "run"))
    camera = training.trainer.scene.views[0].camera
    took = []

    def ask() -> None:
        begin = training.clock()
        training.render(camera)
        took.append(training.clock() - begin)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.7)
    training.between_steps()
    thread.join(10)
    assert 0 < took[0] < 0.5


def test_a_failure_to_draw_is_the_pictures_not_the_trainings(capture, tmp_path, monkeypatch):
    training = Training(trainer_of(capture, tmp_path / "run"))
    monkeypatch.setattr(type(training.trainer.method), "render", lambda *_: 1 / 0)
    frames: list = []
    thread = RenderThread(painter(training_subject(training)), frames.append, live=training)
    thread.start()
    thread.request(Shot(training.trainer.scene.views[0].camera, "rgb", (24, 24), torch.ones(3)))
    until = time.monotonic() + 10
    while not frames and time.monotonic() < until:
        training.between_steps()
        time.sleep(0.01)
    training.end()
    thread.stop()
    assert "division" in frames[0].note and training.trainer.method.training is False


def test_a_followed_run_shows_each_new_checkpoint(capture, tmp_path):
    trainer = trainer_of(capture, tmp_path / "run")
    trainer.fit(5, previews=False)
    subject = followed(tmp_path / "run", "cpu")
    live, camera = subject.live, trainer.scene.views[0].camera
    assert isinstance(live, Followed) and live.status() == "step 5"
    first, version = subject.render(camera, None).rgb, live.version()
    assert live.version() == version, "nothing new"
    trainer.fit(60, previews=False)
    assert live.version() != version and live.status() == "step 60"
    assert (subject.render(camera, None).rgb - first).abs().mean() > 0.01
    version = live.version()
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"half a file")
    assert live.version() == version and live.status() == "step 60"


def test_only_runs_are_followed(tmp_path):
    with pytest.raises(UserError, match="not a run"):
        followed(tmp_path, "cpu")


def test_train_serves_a_browser_and_ends_with_ctrl_c(capture, tmp_path):
    pytest.importorskip("viser", reason="viser is not installed: pip install 'neural3d[web]'")
    port = free_port()
    command = [sys.executable, "-m", "neural3d.cli", "train", str(capture), "--method", "ngp"]
    command += ["--out", str(tmp_path / "run")]
    command += ["--steps", "40", "--web", str(port), "--device", "cpu", "--set", *SMALL["ngp"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "done" in line:
                    break
            assert any(f"http://127.0.0.1:{port}" in line for line in lines), "".join(lines)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert not reachable("127.0.0.1", port)


def test_window_or_browser(capture, tmp_path, capsys):
    from neural3d.cli import main

    with pytest.raises(SystemExit):
        main(["train", str(capture), "--view", "--web", "8080"])
    assert "choose the window or the browser" in capsys.readouterr().err.replace("\n", " ")
