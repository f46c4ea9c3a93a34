"""The tutorials' commands and programs run as they stand, on small data and for fewer steps than they say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import textured
import trimesh

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
STEPS = {"photos_to_glb": 60, "splats_to_the_web": 60, "points_to_mesh": 200}  # instead of --minutes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """photos/, scan.ply and true.ply, as the tutorials name them; what one makes the next one finds."""
    folder = tmp_path_factory.mktemp("tutorials")
    textured.write_photos(folder / "photos", textured.orbit(10), (320, 240))
    ball = trimesh.creation.icosphere(4)
    trimesh.PointCloud(ball.vertices).export(folder / "scan.ply")
    ball.export(folder / "true.ply")
    return folder


def blocks(name: str) -> list[tuple[str, str]]:
    """(language, text) of those that are to be run: a title says that a block is not."""
    return re.findall(r"^```(sh|python)\n(.*?)^```", (FOLDER / f"{name}.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["photos_to_glb", "splats_to_the_web", "points_to_mesh", "kernels", "from_gsplat"]
)  # in this order: the second needs the first's capture
def test_it_runs(place, name):
    if name == "photos_to_glb":
        pytest.importorskip("pycolmap")
    for language, text in blocks(name):
        if language == "python":
            commands = [[sys.executable, "-c", text]]
        else:
            text = re.sub(r"--minutes \d+", f"--steps {STEPS.get(name)}", text)
            lines = [shlex.split(line, comments=True) for line in text.splitlines()]
            commands = [[sys.executable, "-m", "neural3d.cli", *line[1:]] for line in lines if line]
            assert all(line[0] == "neural3d" for line in lines if line)
        for command in commands:
            done = subprocess.run(command, cwd=place, capture_output=True, text=True)
            assert done.returncode == 0, f"{command[1:]}: {done.stdout[-2000:]} {done.stderr[-2000:]}"


def test_all_are_run():
    (names,) = (mark.args[1] for mark in test_it_runs.pytestmark if mark.name == "parametrize")
    assert sorted(names) == sorted(path.stem for path in FOLDER.glob("*.md"))
