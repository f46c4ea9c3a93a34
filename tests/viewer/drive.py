"""Drives a real window, in a process of its own: python drive.py FOLDER, under a display. Prints what it saw as JSON.

Open3D's application is one for each process and does not start twice, so one window goes through everything. Events
enter through the window's own handlers, on its thread.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from balls import ball_field, ball_mesh, overlap, silhouette
from neural3d.viewer import app
from neural3d.viewer.app import Viewer
from neural3d.viewer.live import train_in_window
from neural3d.viewer.open import open_subject
from neural3d.viewer.quiet import quiet
from open3d.visualization import gui
from toy import ball_capture

from neural3d.run import configure
from neural3d.train import Trainer

SMALL = ["log2_table=11", "levels=4", "max_resolution=32", "samples_per_batch=4096", "grid_budget=1024"]
seen: dict[str, object] = {}
DOWN, DRAG, UP, WHEEL = (getattr(gui.MouseEvent.Type, name) for name in ("BUTTON_DOWN", "DRAG", "BUTTON_UP", "WHEEL"))


class Driver:
    def __init__(self, viewer: Viewer):
        self.viewer = viewer

    def do(self, act):
        """Runs on the window's thread; its result."""
        done, result = threading.Event(), []

        def run():
            try:
                result.append(act())
            except Exception:
                seen.setdefault("errors", []).append(traceback.format_exc())
            done.set()

        self.viewer.app.post_to_main_thread(self.viewer.window, run)
        assert done.wait(20), "the window does not answer"
        return result[0] if result else None

    def mouse(self, kind, x=0, y=0, button=gui.MouseButton.LEFT, wheel=0):
        event = SimpleNamespace(
            type=kind, x=x, y=y, wheel_dy=wheel,
            is_button_down=lambda b: b == button, is_modifier_down=lambda _: False,
        )  # fmt: skip
        self.do(lambda: self.viewer.on_mouse(event))

    def key(self, name):
        event = SimpleNamespace(type=gui.KeyEvent.Type.DOWN, key=getattr(gui.KeyName, name))
        self.do(lambda: self.viewer.on_key(event))

    def finished(self):
        """The finished picture of the state as it is now."""
        until = time.time() + 20
        while time.time() < until:
            frame = self.viewer.frame
            if frame and frame.done and frame.shot.turn == self.viewer.worker._turn:
                return frame
            time.sleep(0.02)
        raise TimeoutError("no finished picture")

    def overlap(self):
        """Of the ball on the window's picture with where it should be, seen from the state's eye."""
        frame = self.finished()
        camera = self.viewer.state.eye.camera(*self.viewer.size)
        return overlap((frame.picture != frame.picture[0, 0]).any(-1), silhouette(camera))


def field(folder: Path) -> None:
    subject = ball_field(folder / "capture", seconds=0.02)
    viewer = Viewer(subject, 640, 480)
    drive = Driver(viewer)

    def script():
        seen["first"] = drive.overlap()
        seen["size"] = list(viewer.size)

        distance, height = viewer.state.eye.distance, float(viewer.state.eye.centre[2])
        drive.mouse(DOWN, 100, 100)
        for step in range(1, 11):
            drive.mouse(DRAG, 100 + 4 * step, 100 + step)
        drive.mouse(UP, 140, 110)
        seen["dragged"] = [drive.overlap(), float(viewer.state.eye.centre[2]) - height]
        drive.mouse(DOWN, 100, 100, gui.MouseButton.RIGHT)
        drive.mouse(DRAG, 150, 100, gui.MouseButton.RIGHT)
        drive.mouse(UP, 150, 100)
        seen["panned"] = drive.overlap()
        drive.mouse(WHEEL, wheel=1)
        seen["zoomed"] = [drive.overlap(), viewer.state.eye.distance / distance]
        drive.key("R")
        seen["reset"] = [drive.overlap(), viewer.state.eye.distance / distance]

        for key, kind in (("TWO", "depth"), ("THREE", "normal"), ("FOUR", "error"), ("ONE", "rgb")):
            drive.key(key)
            drive.finished()
            seen[kind] = [viewer.state.kind, viewer.panel.score.text]
        drive.key("K")
        drive.mouse(WHEEL, wheel=-2)
        drive.key("K")
        drive.do(viewer.save_path)
        drive.do(viewer.play)
        time.sleep(0.3)
        seen["playing"] = viewer._playing is not None
        drive.key("P")
        drive.finished()
        drive.key("S")
        drive.key("R")
        drive.key("X")
        middle = float(viewer.state.clip_box[:, 2].mean())
        drive.do(lambda: viewer.set_side(0, 2, middle))
        frame = drive.finished()
        drawn = (frame.depth > 0) & (frame.picture != frame.picture[0, 0]).any(-1)
        seen["clipped"] = overlap(drawn, silhouette(frame.shot.camera, above=0.0))
        seen["middle"] = middle
        seen["words"] = viewer.panel.words.text
        drive.key("X")
        for key in ("C", "O", "B", "H"):
            drive.key(key)
        drive.finished()
        seen["help"] = viewer.help.visible
        drive.key("H")

        shutil.rmtree(folder / "capture")  # the photos go; the window stays
        drive.do(lambda: viewer.choose(1))
        drive.key("FOUR")
        drive.finished()
        time.sleep(0.1)
        seen["without photos"] = viewer.panel.status.text
        drive.key("ONE")

        drive.do(lambda: setattr(viewer.window, "size", gui.Size(1, 1)))
        time.sleep(0.5)
        drive.finished()
        seen["tiny"] = list(viewer.size)
        drive.do(lambda: setattr(viewer.window, "size", gui.Size(500, 400)))
        until = time.time() + 5
        while viewer.size[1] < 300 and time.time() < until:
            time.sleep(0.05)
        drive.do(lambda: [viewer.set_frustums(False), viewer.set_bounds(False)])
        drive.do(lambda: viewer.state.keyframes.clear())
        drive.key("R")
        seen["large again"] = drive.overlap()

        drive.mouse(WHEEL, wheel=1)  # closed while rendering
        viewer.app.post_to_main_thread(viewer.window, viewer.window.close)

    run(viewer, script)
    seen["worker ended"] = not viewer.worker.is_alive()


def native(folder: Path) -> None:
    ball_mesh().export(folder / "ball.ply")
    viewer = Viewer(open_subject(folder / "ball.ply"), 480, 360)
    drive = Driver(viewer)

    def script():
        drive.finished()
        drive.do(lambda: viewer.set_native(True))
        images: list[np.ndarray] = []
        scene = viewer._scene.scene.scene
        until = time.time() + 20
        while not images and time.time() < until:
            drive.do(lambda: scene.render_to_image(lambda image: images.append(np.asarray(image).copy())))
            time.sleep(0.3)
        picture = images[-1][..., :3].astype(int)
        camera = viewer.state.eye.camera(picture.shape[1], picture.shape[0])
        seen["native"] = overlap(np.abs(picture - picture[0, 0]).max(-1) > 20, silhouette(camera, 0.9))
        drive.do(lambda: viewer.set_native(False))
        drive.finished()
        viewer.app.post_to_main_thread(viewer.window, viewer.window.close)

    run(viewer, script)


def training(folder: Path) -> None:
    """Trains in a window until it is told to stop; somebody turns the camera meanwhile."""
    config, scene = configure(ball_capture(folder / "capture", train=6, test=1, size=24), "ngp", SMALL)
    trainer = Trainer.create(folder / "run", config, scene, torch.device("cpu"))
    viewers, stopped = [], threading.Event()

    class Watched(Viewer):
        def __init__(self, subject):
            super().__init__(subject, 480, 360)
            viewers.append(self)

    app.Viewer = Watched

    def look() -> None:
        while not viewers or viewers[0].frame is None:
            time.sleep(0.02)
        drive = Driver(viewers[0])
        first, until = viewers[0].frame.picture.astype(int), time.time() + 60
        while time.time() < until and seen.get("changed", 0.0) < 1:  # nobody moves the camera
            time.sleep(0.1)
            seen["changed"] = float(np.abs(first - viewers[0].frame.picture).mean())
        drive.mouse(WHEEL, wheel=1)
        seen["status"] = drive.do(lambda: viewers[0].panel.status.text)
        stopped.set()

    def guarded() -> None:
        try:
            look()
        except Exception:
            seen.setdefault("errors", []).append(traceback.format_exc())
            stopped.set()

    threading.Thread(target=guarded, daemon=True).start()
    train_in_window(
        trainer,
        lambda between: trainer.fit(10**6, stop=stopped.is_set, previews=False, between_steps=between),
        stopped.is_set,
    )
    seen["saved"] = (folder / "run" / "checkpoint.safetensors").exists()
    seen["closed"] = viewers[0]._closed and not viewers[0].worker.is_alive()


def run(viewer: Viewer, script) -> None:
    def guarded():
        try:
            script()
        except Exception:
            seen.setdefault("errors", []).append(traceback.format_exc())
            viewer.app.post_to_main_thread(viewer.window, viewer.window.close)

    threading.Thread(target=guarded, daemon=True).start()
    viewer.run()


if __name__ == "__main__":
    os.chdir(sys.argv[2])
    with quiet():
        {"field": field, "native": native, "training": training}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(seen), flush=True)
    os._exit(0)  # Open3D's threads need not be waited for
