"""Hours of all commands in turns, in one process: memory, open files and threads must stay level.

    python benchmarks/soak.py --hours 8 --methods splat ngp

Each round trains a run for a minute, renders a film and pictures, exports a mesh, evaluates, and views it: once drawn
without a window, once served to a browser. Every round a line: what the process holds after it. At the end the slope of
each column over the later half, where all that is loaded once has been loaded; exit code 1 where one still grows.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np

from neural3d.cli import main as neural3d
from neural3d.synthetic.demo import make_demo_scene

COLUMNS = {"memory MiB": 2.0, "files": 0.05, "threads": 0.05}  # what each may grow a round, by the slope of all rounds
TRAINING = 1.0  # minutes a round


def held() -> list[float]:
    """Resident memory in MiB, open files, threads of the system's and Python's own."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    return [resident, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))]


def commands(capture: Path, out: Path, method: str, minutes: float) -> list[list[str]]:
    run = str(out / "run")
    return [
        ["train", str(capture), "--method", method, "--out", run, "--minutes", str(minutes)],
        ["render", run, "--frames", "24", "--out", str(out / "film.mp4")],
        ["render", run, "--path", "test", "--show", "rgb", "depth", "--out", str(out / "pictures")],
        ["eval", run],
        ["export", run, str(out / "mesh.glb"), "--resolution", "128"],
        ["view", run, "--screenshot", str(out / "view.png"), "--size", "640", "400"],
    ]


def browse(run: Path, port: int) -> None:
    """Serves the run to a browser that looks in once."""
    from neural3d.viewer.open import open_subject
    from neural3d.viewer.web import Page

    page = Page(open_subject(run), port)
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{page.port}/", timeout=30).read()
    finally:
        page.stop()


def slopes(rows: list[list[float]]) -> list[float]:
    """Growth per round of each column, by a line through the later half."""
    later = np.array(rows[len(rows) // 2 :])
    return [] if len(later) < 3 else np.polyfit(np.arange(len(later)), later, 1)[0].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--minutes", type=float, default=TRAINING, help="of training in each round")
    parser.add_argument("--methods", nargs="+", default=["splat", "ngp"], help="in turns")
    asked = parser.parse_args()
    until = time.monotonic() + 3600 * asked.hours
    rows: list[list[float]] = []
    print(f"| round | method | {' | '.join(COLUMNS)} | s |\n|---|---|" + "---:|" * (len(COLUMNS) + 1))
    with tempfile.TemporaryDirectory() as scratch:
        capture = make_demo_scene(Path(scratch) / "capture") / "scene.toml"
        while not rows or time.monotonic() < until:
            out, method = Path(scratch) / "round", asked.methods[len(rows) % len(asked.methods)]
            begun, said = time.monotonic(), io.StringIO()
            for words in commands(capture, out, method, asked.minutes):
                with contextlib.redirect_stdout(said):
                    neural3d(words)
            browse(out / "run", 8090)
            shutil.rmtree(out)
            rows.append(held())
            shown = " | ".join(f"{x:.0f}" for x in rows[-1])
            print(f"| {len(rows)} | {method} | {shown} | {time.monotonic() - begun:.0f} |", flush=True)
    growing = False
    for (name, most), slope in zip(COLUMNS.items(), slopes(rows)):
        growing |= slope > most
        print(f"{name}: {slope:+.3f} a round over the later half{', GROWING' if slope > most else ''}")
    print(f"Python's threads at the end: {', '.join(t.name for t in threading.enumerate())}")
    sys.exit(growing)


if __name__ == "__main__":
    main()
