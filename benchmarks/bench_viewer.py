"""The viewer's frame rate while the camera moves, and its first picture: python benchmarks/bench_viewer.py NAME=PATH …

A real window of 1280 × 800 under Xvfb with Mesa's software Vulkan. The camera is moved a hundred times a second for
five seconds, as a hand at the mouse does, through the handlers of the mouse. Counted are frames that reach the screen:
Xvfb's framebuffer is read every 4 ms and compared with what it held before. `first` is from the start of the process,
`open` from having the subject, to the first picture on the screen, `sharp` to the finished one.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

SECONDS, WARM = 5.0, 2.0
WIDTH, HEIGHT = 1280, 800


class Framebuffer:
    """Xvfb's screen, as the file it keeps it in (XWD)."""

    def __init__(self, path: Path):
        head = struct.unpack(">25I", path.read_bytes()[:100])
        self.stride, self.height = head[12], head[5]
        self.pixels = np.memmap(path, np.uint8, "r", head[0] + 12 * head[19], (self.height, self.stride // 4, 4))

    def sample(self) -> bytes:
        """A few thousand pixels of the picture's middle."""
        return self.pixels[100 : HEIGHT - 100 : 7, 100 : WIDTH - 400 : 11, :3].tobytes()


def measure(name: str, path: str) -> None:
    """In a process of its own, in a display of its own: prints one row of the table."""
    from neural3d.viewer.app import Viewer
    from neural3d.viewer.open import open_subject
    from neural3d.viewer.quiet import quiet

    born = float(os.environ["BENCH_BORN"])
    screen = Framebuffer(Path(os.environ["BENCH_SCREEN"]))
    blank = screen.sample()
    subject = open_subject(path)
    opened = time.time()
    with quiet():
        viewer = Viewer(subject, WIDTH, HEIGHT)
        figures: dict[str, float] = {}
        thread = threading.Thread(target=_drive, args=(viewer, screen, blank, figures), daemon=True)
        thread.start()
        viewer.run()
    first, sharp, fps = figures["first"], figures["sharp"], figures["fps"]
    times = " | ".join(f"{x:.1f}" for x in (first - born, first - opened, sharp - opened))
    print(f"| {name} | {fps:.1f} | {figures['scale']:.0%} | {times} |")


def _drive(viewer, screen: Framebuffer, blank: bytes, figures: dict[str, float]) -> None:
    while screen.sample() == blank:
        time.sleep(0.01)
    figures["first"] = time.time()
    until = time.time() + 120
    while not (viewer.frame and viewer.frame.done) and time.time() < until:
        time.sleep(0.05)
    figures["sharp"] = time.time()

    def drag(down: int, step: int) -> None:
        event = SimpleNamespace(
            type=_mouse_types()[down], x=500 + 2 * step, y=400 + step % 40,
            is_button_down=lambda _: True, is_modifier_down=lambda _: False,
        )  # fmt: skip
        viewer.on_mouse(event)

    def post(down: int, step: int) -> None:
        viewer.app.post_to_main_thread(viewer.window, lambda: drag(down, step))

    post(0, 0)
    start, step, frames, last, scales = time.time(), 0, 0, b"", []
    while (now := time.time()) < start + WARM + SECONDS:
        if now > start + 0.01 * step:
            step += 1
            post(1, step)
        if (seen := screen.sample()) != last:
            last = seen
            frames += now > start + WARM
            scales.append(viewer.frame.scale)
        time.sleep(0.004)
    figures["fps"], figures["scale"] = frames / SECONDS, float(np.median(scales))
    viewer.app.post_to_main_thread(viewer.window, viewer.window.close)


def _mouse_types() -> list:
    from open3d.visualization import gui

    return [gui.MouseEvent.Type.BUTTON_DOWN, gui.MouseEvent.Type.DRAG]


def main() -> None:
    print(
        "| subject | frames/s moving | side while moving | first, s | open, s | sharp, s |\n|---|---|---|---|---|---|"
    )
    for word in sys.argv[1:]:
        name, _, path = word.partition("=")
        with tempfile.TemporaryDirectory() as folder:
            number = 100 + os.getpid() % 400
            command = ["Xvfb", f":{number}", "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-fbdir", folder]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
                try:
                    while not (file := Path(folder) / "Xvfb_screen0").exists() or file.stat().st_size < WIDTH * HEIGHT:
                        time.sleep(0.05)
                    environment = {"DISPLAY": f":{number}", "BENCH_BORN": str(time.time()), "BENCH_SCREEN": str(file)}
                    subprocess.run([sys.executable, __file__, "--one", name, path], env=os.environ | environment)
                finally:
                    server.terminate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(*sys.argv[2:4])
    else:
        main()
