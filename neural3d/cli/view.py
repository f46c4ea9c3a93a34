"""`neural3d view`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from neural3d.cli.console import Device, console, option


@dataclass
class View:
    """Look at a run, a mesh, points, splats or a capture in a window: turn it, compare it with the photos, clip it."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE|SCENE")]
    """A run folder, a mesh, point cloud or splat file, a motion clip, a body model (anny: the free one), a capture, or
    a ready scene's name."""
    screenshot: Annotated[Path | None, option("FILE.png")] = None
    """Save one picture instead of opening a window; needs no display."""
    size: Annotated[tuple[int, int], tyro.conf.arg(metavar="W H")] = (1280, 800)
    """Pixels of the screenshot."""
    view: Literal["rgb", "depth", "normal"] = "rgb"
    """What the screenshot shows."""
    background: Literal["white", "black"] = "white"
    """Behind the screenshot's subject."""
    web: Annotated[int | None, option("PORT")] = None
    """Serve to a browser at http://127.0.0.1:PORT instead, also through an SSH tunnel."""
    follow: bool = False
    """Of a run that another process trains: show each new checkpoint."""
    device: Device = "auto"

    def run(self) -> None:
        from neural3d.loading import resolve
        from neural3d.viewer.live import followed
        from neural3d.viewer.open import Subject, open_subject
        from neural3d.viewer.playing import open_body

        def subject() -> Subject:
            if self.follow:
                return followed(Path(self.path), self.device)
            return open_body(Path(self.path)) or open_subject(self.path, self.device)

        if self.path != "anny":
            resolve(self.path)
        if self.screenshot is not None:
            from neural3d.viewer.offscreen import check_screenshot, save_screenshot

            check_screenshot(self.screenshot, self.size)
            color = (1.0, 1.0, 1.0) if self.background == "white" else (0.0, 0.0, 0.0)
            save_screenshot(subject(), self.screenshot, self.size, self.view, color)
            console.print(f"{self.screenshot}: {self.size[0]} × {self.size[1]} pixels")
        elif self.web is not None:
            from neural3d.viewer.web import serve

            serve(subject(), self.web)
        else:
            from neural3d.viewer.screen import check_screen

            check_screen()
            opened = subject()
            from neural3d.viewer.app import show

            show(opened)
