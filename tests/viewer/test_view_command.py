"""`neural3d view` where there is no window."""

import os
import subprocess
import sys

import numpy as np
import pytest
from balls import ball_mesh, overlap, silhouette
from neural3d.viewer import screen
from neural3d.viewer.offscreen import save_screenshot
from neural3d.viewer.open import open_subject
from neural3d.viewer.state import State
from PIL import Image

from neural3d.errors import UserError


def view(*arguments, **environment):
    command = [sys.executable, "-m", "neural3d.cli", "view", *map(str, arguments)]
    settings = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")} | environment
    return subprocess.run(command, capture_output=True, text=True, env=settings, timeout=100)


def test_a_screenshot_shows_the_subject_on_white(tmp_path):
    ball_mesh().export(tmp_path / "ball.glb")
    done = view(tmp_path / "ball.glb", "--screenshot", tmp_path / "out.png", "--size", 320, 200)
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    assert picture.shape == (200, 320, 3) and (picture[0, 0] == 255).all()
    camera = State.of(open_subject(tmp_path / "ball.glb"), 1.6).eye.camera(320, 200)
    assert overlap((picture < 250).any(-1), silhouette(camera, 0.9)) > 0.95


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a display")
def test_without_a_display_it_says_what_else_there_is(tmp_path):
    ball_mesh().export(tmp_path / "ball.glb")
    done = view(tmp_path / "ball.glb", DISPLAY=":4711")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "no display" in done.stderr and "--screenshot" in done.stderr and "--web" in done.stderr


def test_missing_vulkan_names_the_packages(monkeypatch):

    from neural3d.errors import UserError

    monkeypatch.setattr(screen, "_loads", lambda library: False)
    with pytest.raises(UserError, match="apt-get install -y libvulkan1 mesa-vulkan-drivers xvfb"):
        screen.check_vulkan()


def test_bad_input_leaves_no_picture(tmp_path):
    ball_mesh().export(tmp_path / "ball.glb")
    subject = open_subject(tmp_path / "ball.glb")
    for name, size in (("out.jpg", (4, 4)), ("out.png", (0, 4))):
        with pytest.raises(UserError):
            save_screenshot(subject, tmp_path / name, size, "rgb", (1, 1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["ball.glb"]
