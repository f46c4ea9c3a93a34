"""`neural3d export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neural3d.cli.console import Device, RunFolder, console, option
from neural3d.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from neural3d.fields.gaussians import Gaussians
    from neural3d.run import Run


@dataclass
class Export:
    """A mesh with vertex colours, or the splats of a splat run, in the capture's own frame and units."""

    path: RunFolder
    """The run folder."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Mesh: FILE.glb, .ply, .obj or .stl. Splats: FILE.ply (INRIA's layout), .splat or .spz."""
    resolution: int = 256
    """Cells along the longest side of the bounds."""
    crop: Annotated[tuple[float, float, float, float, float, float] | None, option("x0 y0 z0 x1 y1 z1")] = None
    """Box to keep, x0 y0 z0 x1 y1 z1 in the capture's frame; default: the scene's bounds."""
    up: Literal["native", "y", "z"] = "native"
    """native: the capture's axes as they are; y or z: turned so that the scene's up is +Y (DCC tools) or +Z."""
    device: Device = "auto"

    def run(self) -> None:
        import torch

        from neural3d.export import write_mesh
        from neural3d.run import load

        run = load(self.path, self.device)
        crop = None if self.crop is None else torch.tensor(self.crop).reshape(2, 3)
        splats = getattr(run.method, "splats", None)
        if self.out.suffix.lower() in (".splat", ".spz") or (splats and self.out.suffix.lower() == ".ply"):
            return self.write_splats(run, splats, crop)
        mesh = run.method.mesh(self.resolution, crop).transformed(run.capture_from_scene)
        write_mesh(mesh, self.out, up=self.up, native_up=run.up_in_capture)
        console.print(f"{self.out}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces")

    def write_splats(self, run: Run, splats: Gaussians | None, crop: Tensor | None) -> None:
        from neural3d.export import upright
        from neural3d.fields.splat_files import write_splats

        if splats is None:
            raise UserError(
                f"{self.path}: {run.config.method} makes no splats; export a mesh (.glb, .ply, .obj, .stl)."
            )
        splats = splats.transformed(run.capture_from_scene)
        if crop is not None:
            low, high = crop.to(splats.means)
            splats = splats.selected(((splats.means >= low) & (splats.means <= high)).all(1))
        turn = upright(self.up, run.up_in_capture)
        up = (turn[:3, :3] @ turn.new_tensor(run.up_in_capture)).tolist()
        antialiased = getattr(run.method.config, "antialiased", False)
        notes = write_splats(splats.transformed(turn), self.out, antialiased=antialiased, up=up)
        console.print(f"{self.out}: {len(splats):,} splats")
        for note in notes:
            console.print(f"note: {note}")
