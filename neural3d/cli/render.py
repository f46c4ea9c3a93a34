"""`neural3d render`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neural3d.cli.console import NOWHERE, Device, Number, OutOption, Output, at_least, console, option, progress_bar
from neural3d.disk import require_room, require_writable, written_behind
from neural3d.errors import UserError

if TYPE_CHECKING:
    from neural3d.render.splat_view import SplatView
    from neural3d.run import Run


PNG_BYTES, FILM_BYTES = 0.2, 0.005  # that a pixel takes on disk, at least


@dataclass
class Render:
    """Pictures or a film along a camera path: colours, depth and normals."""

    path_: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE")]
    """The run folder, or a file of splats (.ply, .splat, .spz, .sog, .glb, .ksplat)."""
    out: Output = NOWHERE
    """A folder for PNGs, or FILE.mp4."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    path: Annotated[str, tyro.conf.arg(metavar="PATH")] = "auto"
    """orbit (for photos from all around), spiral (from one side), walk (past the cameras); auto: the one that suits
    the photos. train, test: the captured views. FILE.json: a path in nerfstudio's layout, as the viewer records it."""
    frames: Number = 120
    """Frames of an orbit, a spiral or a walk."""
    fps: Annotated[float | None, option("F")] = None
    """Frames per second of a film; default: the path's own, 24 for an orbit."""
    show: tuple[Literal["rgb", "depth", "normal"], ...] = ("rgb",)
    """What a film shows side by side, and a folder gets; with depth also its 16-bit PNGs."""
    background: Annotated[Literal["white", "black", "transparent"] | None, option("{white,black,transparent}")] = None
    """Default: the scene's. transparent: PNGs with alpha, for folders."""
    up: Literal["x", "-x", "y", "-y", "z", "-z"] | None = None
    """Of a file of splats, which axis points up; default: what the file says, else -y. Runs know."""
    device: Device = "auto"

    def run(self) -> None:
        import numpy as np
        import torch

        from neural3d.evaluate.views import background_color
        from neural3d.files.splats import is_splat_file
        from neural3d.methods.abilities import Renderable
        from neural3d.render.images import picture_of, save_film, save_render
        from neural3d.render.paths import camera_path, depth_span, suited_path
        from neural3d.render.splat_view import open_splats
        from neural3d.run import load, resolve_device
        from neural3d.scene.readers import holds_capture

        transparent = self.background == "transparent"
        film = self.out.suffix.lower() == ".mp4"
        if film and transparent:
            raise UserError(f"{self.out}: an .mp4 film cannot be transparent; give a folder, for PNGs with alpha.")
        if self.out.suffix.lower() in (".mov", ".avi", ".mkv", ".webm", ".gif", ".png", ".jpg"):
            raise UserError(f"{self.out}: films are written as .mp4, pictures into a folder; choose one of the two.")
        if not film and self.out.is_dir() and holds_capture(self.out):
            raise UserError(f"{self.out} is a capture; pictures go into a folder of their own, lest they replace its.")
        at_least(frames=(self.frames, 1), fps=(1 if self.fps is None else self.fps, 0.1))
        require_writable(self.out, folder=not film)
        if is_splat_file(self.path_):
            run: Run | SplatView = open_splats(self.path_, resolve_device(self.device), self.up)
        else:
            run = load(self.path_, self.device)
            run.able(Renderable)
        kind = self.path
        if kind == "auto":
            kind, why = suited_path(run.scene)
            console.print(f"path: {kind}; {why} (--path takes another)")
        path = camera_path(run.scene, kind, count=self.frames)
        pixels = sum(camera.width * camera.height for camera in path.cameras) * len(self.show)
        require_room(self.out, int(pixels * (FILM_BYTES if film else PNG_BYTES)))
        color = background_color(run.scene, "black" if transparent else self.background)
        unit = 1 / float(torch.linalg.det(run.scene.scene_from_capture[:3, :3])) ** (1 / 3)
        span = depth_span(run.scene)

        def frames() -> Iterator[Any]:
            with progress_bar() as bar:
                for camera in bar.track(path.cameras, description="rendering"):
                    yield run.render(camera, color)

        if film:
            rows = (np.concatenate([picture_of(out, kind, span) for kind in self.show], 1) for out in frames())
            save_film(self.out, rows, self.fps or path.fps)
        else:
            with written_behind() as later:
                for out, name in zip(frames(), path.names):  # frames first: their bar sees its end
                    later(save_render, out, self.out, name, unit, show=self.show, transparent=transparent)
        console.print(f"{len(path.cameras)} frames written to {self.out}")
