"""`neural3d export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neural3d.cli.console import Device, RunFolder, console, option, progress_bar
from neural3d.cli.written import Up, print_mesh, units_of
from neural3d.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from neural3d.fields.gaussians import Gaussians
    from neural3d.geometry.mesh import Mesh
    from neural3d.run import Run
    from neural3d.scene import Scene, View

FACES = 50_000  # with a texture: what xatlas unwraps in a minute; detail of colour lies in the texture
SMALLEST, LARGEST = 64, 8192  # texels: GPUs take 8192; below 64 charts have no room


@dataclass
class Export:
    """A mesh with vertex colours or a texture, or the splats of a splat run, in the capture's own units."""

    path: RunFolder
    """The run folder."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Mesh: FILE.glb, .usdz, .ply, .obj or .stl. Splats: FILE.ply (INRIA's layout), .splat or .spz."""
    resolution: int = 256
    """Cells along the longest side of the bounds."""
    crop: Annotated[tuple[float, float, float, float, float, float] | None, option("x0 y0 z0 x1 y1 z1")] = None
    """Box to keep, x0 y0 z0 x1 y1 z1 in the capture's frame; default: the scene's bounds."""
    texture: Annotated[int | None, option("SIZE")] = None
    """A texture of SIZE × SIZE texels, such as 2048, instead of vertex colours: .glb, .usdz or .obj (+ .mtl, .png)."""
    bake: Annotated[Literal["photos", "field"] | None, option("photos|field")] = None
    """What the texture shows: the training photos, or the colours learnt; default: photos, if they are still there."""
    faces: Annotated[int | None, option("N")] = None
    """Simplify to at most N faces; default: all of them, with a texture 50,000."""
    up: Up = None
    device: Device = "auto"

    def run(self) -> None:
        import torch

        from neural3d.export import check_format, write_mesh
        from neural3d.geometry.unwrap import simplified
        from neural3d.run import load

        if self.texture is not None or self.out.suffix.lower() not in (".splat", ".spz"):
            check_format(self.out, textured=self.texture is not None)
        if self.texture is not None:
            if not SMALLEST <= self.texture <= LARGEST:
                raise UserError(f"--texture must be from {SMALLEST} to {LARGEST} texels, not {self.texture}; try 2048.")
        elif self.bake is not None:
            raise UserError(f"--bake {self.bake} makes a texture; say how large with --texture 2048.")
        run = load(self.path, self.device)
        crop = None if self.crop is None else torch.tensor(self.crop).reshape(2, 3)
        splats = getattr(run.method, "splats", None)
        if self.out.suffix.lower() in (".splat", ".spz") or (splats and self.out.suffix.lower() == ".ply"):
            return self.write_splats(run, splats, crop)
        if self.texture is not None:
            mesh = self.textured(run, self.texture, crop)
        else:
            mesh = run.method.mesh(self.resolution, crop)
            mesh = mesh if self.faces is None else simplified(mesh, self.faces)
        mesh = mesh.transformed(run.capture_from_scene)
        mesh = write_mesh(mesh, self.out, up=self.up, native_up=run.up_in_capture)
        print_mesh(self.out, mesh, self.up, units_of(run.scene))

    def textured(self, run: Run, size: int, crop: Tensor | None) -> Mesh:
        """The simplified mesh with its texture, in the scene frame. Says what it does: it may take minutes."""
        from neural3d.geometry.unwrap import Paint, simplified, unwrapped
        from neural3d.render.bake import textured
        from neural3d.scene import Scene

        if not isinstance(run.scene, Scene):
            raise UserError(
                f"{self.path}: {run.config.method} has learnt a shape without colours, so there is nothing to bake; "
                "leave --texture out."
            )
        views = self.photos(run.scene)
        console.print("extracting the surface")
        whole = run.method.mesh(self.resolution, crop)
        console.print(f"simplifying {len(whole.faces):,} faces")
        small = simplified(whole, FACES if self.faces is None else self.faces)
        console.print(f"unwrapping {len(small.faces):,} faces")
        flat = unwrapped(small, size)
        # Photos need the learnt colours only where they show nothing, and splats have no others than their mesh's.
        of_field = not views and not hasattr(run.method, "splats")
        color = run.method.surface_color if of_field else Paint(whole)
        with progress_bar() as bar:
            task = bar.add_task("baking", total=1)
            mesh, seen = textured(flat, size, views, color, lambda done, n: bar.update(task, completed=done, total=n))
            bar.update(task, total=1, completed=1)  # colours of the field come without steps
        shown = f"{len(views)} photos show {seen:.0%} of the surface" if views else "baked from the learnt colours"
        console.print(f"texture {size} × {size}: {shown}")
        return mesh

    def photos(self, scene: Scene) -> list[View]:
        """The training views to bake from; none where the field is to be baked."""
        if self.bake == "field":
            return []
        views = [scene.views[i] for i in scene.split["train"]]
        lost = [view.image_path for view in views if not view.image_path.is_file()]
        said = f"{lost[0]} is missing ({len(lost)} of {len(views)} photos are)" if lost else ""
        if lost and self.bake == "photos":
            raise UserError(f"{said}; put them back or take --bake field.")
        if lost:
            console.print(f"note: {said}; the texture shows the field.")
        return [] if lost else views

    def write_splats(self, run: Run, splats: Gaussians | None, crop: Tensor | None) -> None:
        from neural3d.fields.splat_files import write_splats
        from neural3d.scene.upright import file_from_own

        if splats is None:
            raise UserError(
                f"{self.path}: {run.config.method} makes no splats; export a mesh (.glb, .ply, .obj, .stl)."
            )
        splats = splats.transformed(run.capture_from_scene)
        if crop is not None:
            low, high = crop.to(splats.means)
            splats = splats.selected(((splats.means >= low) & (splats.means <= high)).all(1))
        turn = file_from_own(self.out, self.up, run.up_in_capture)
        up = (turn[:3, :3] @ turn.new_tensor(run.up_in_capture)).tolist()
        antialiased = getattr(run.method.config, "antialiased", False)
        notes = write_splats(splats.transformed(turn), self.out, antialiased=antialiased, up=up)
        console.print(f"{self.out}: {len(splats):,} splats")
        for note in notes:
            console.print(f"note: {note}")
