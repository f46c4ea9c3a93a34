"""The viewer in real windows, under Xvfb with Mesa's software Vulkan; see drive.py."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from neural3d.viewer import screen

from neural3d.errors import UserError
from neural3d.render.path_files import read_camera_path

DRIVER = Path(__file__).with_name("drive.py")


def missing() -> str:
    """Which system packages are not here, or nothing."""
    if shutil.which("xvfb-run") is None:
        return f"no xvfb-run; {screen.PACKAGES}"
    try:
        screen.check_vulkan()
    except UserError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def drive(what: str, folder: Path) -> dict:
    """What the driver saw; nothing else may have been printed."""
    command = ["xvfb-run", "-a", "-s", "-screen 0 1024x768x24", sys.executable, str(DRIVER), what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert done.stderr == ""
    seen = json.loads(line)
    assert "errors" not in seen, "\n".join(seen["errors"])
    return seen


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("window")
    return drive("field", folder), folder


def test_the_first_view_shows_the_subject_whole(field):
    assert field[0]["first"] > 0.95


def test_the_mouse_turns_moves_and_zooms(field):
    seen, _ = field
    assert seen["dragged"][0] > 0.95 and seen["dragged"][1] > 0.05  # dragged down: the eye rises
    assert seen["panned"] > 0.95
    assert seen["zoomed"] == [pytest.approx(1, abs=0.05), pytest.approx(0.85)]
    assert seen["reset"] == [pytest.approx(1, abs=0.05), pytest.approx(1)]


def test_keys_choose_the_view_and_the_error_has_its_psnr(field):
    seen, _ = field
    for kind in ("rgb", "depth", "normal", "error"):
        assert seen[kind][0] == kind
    assert seen["error"][1].startswith("PSNR") and "dB" in seen["error"][1]


def test_key_frames_become_a_path_that_render_plays(field):
    seen, folder = field
    assert seen["playing"]
    path = read_camera_path(folder / "ball-path-1.json", torch.eye(4, dtype=torch.float64))
    distances = [float(camera.centre.norm()) for camera in path.cameras]
    assert len(distances) > 100 and distances[-1] > 1.2 * distances[0]


def test_screenshots_are_saved_in_the_current_folder(field):
    from PIL import Image

    seen, folder = field
    assert list(Image.open(folder / "ball-view-1.png").size) == seen["size"]


def test_the_clip_box_cuts_and_is_told_in_exports_words(field):
    seen, _ = field
    assert seen["clipped"] > 0.95
    words = seen["words"].split()
    assert words[0] == "--crop" and len(words) == 7 and float(words[3]) == pytest.approx(seen["middle"], abs=1e-4)


def test_survives_what_happens_to_windows(field):
    """Photos that disappear, a window of one pixel, closing while a picture is in work."""
    seen, _ = field
    assert seen["help"]
    assert ".png" in seen["without photos"]  # says which photo
    assert max(seen["tiny"]) < 300 and seen["large again"] > 0.95
    assert seen["worker ended"]


def test_open3d_draws_the_same_silhouette(tmp_path):
    assert drive("native", tmp_path)["native"] > 0.9


def test_a_training_is_watched_in_a_window_until_it_is_stopped(tmp_path):
    seen = drive("training", tmp_path)
    assert seen["changed"] >= 1 and "step" in seen["status"]
    assert seen["saved"] and seen["closed"]
