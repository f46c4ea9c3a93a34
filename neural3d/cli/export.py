"""`neural3d export`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from neural3d.cli.console import (
    NOWHERE,
    Device,
    Number,
    OutOption,
    Output,
    RunFolder,
    Seed,
    StageProgress,
    at_least,
    coloured,
    console,
    option,
)
from neural3d.cli.written import Up, print_mesh, units_of
from neural3d.disk import require_writable
from neural3d.errors import UserError, command_line

if TYPE_CHECKING:
    from torch import Tensor

    from neural3d.geometry.mesh import Mesh
    from neural3d.meshing import Surface
    from neural3d.progress import Progress
    from neural3d.render.retouch import Fill
    from neural3d.run import Run
    from neural3d.scene import Scene, View
    from neural3d.upscale import Upscale

SMALLEST, LARGEST = 64, 8192  # texels: GPUs take 8192; below 64 charts have no room
WHOLE = (0.0,) * 6  # of a crop that was not given
BYTES_A_FACE = 20  # on disk, at least, as a texel takes one


@dataclass
class Export:
    """A mesh with vertex colours or a texture, or the splats of a splat run, in the capture's own units."""

    path: RunFolder
    """The run folder."""
    out: Output = NOWHERE
    """Mesh: FILE.glb, .usdz, .ply, .obj or .stl. Splats: FILE.ply (INRIA's layout), .2dgs.ply (flat splats),
    .compressed.ply, .splat, .spz, .sog or .gs.glb (glTF with KHR_gaussian_splatting)."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    resolution: Number = 256
    """Cells along the longest side of the bounds."""
    crop: Annotated[tuple[float, float, float, float, float, float], option("x0 y0 z0 x1 y1 z1")] = WHOLE
    """Box to keep, x0 y0 z0 x1 y1 z1 in the capture's frame; default: the scene's bounds."""
    texture: Annotated[int | None, option("SIZE")] = None
    """A texture of SIZE × SIZE texels, such as 2048, instead of vertex colours: .glb, .usdz or .obj (+ .mtl, .png)."""
    bake: Annotated[Literal["photos", "field"] | None, option("photos|field")] = None
    """What the texture shows: the training photos, or the colours learnt; default: photos, if they are still there."""
    fill: Annotated[Path | None, option("RUN")] = None
    """A prior of colour patches (pixelcnn, pixelrnn or transformer with --set patch=16 values=levels) that draws detail
    where no photo shows the texture; default: smooth colours."""
    upscale: Annotated[Path | None, option("RUN")] = None
    """A prior of large pictures given small ones (srflow): the texture is baked at half its size and doubled by it."""
    temperature: Annotated[float, option("T")] = 0.0
    """Of --upscale: 0, the default: its middle answer; up to 1: more detail, more varied, less exact."""
    samples: Number = 1
    """How many answers of --upscale; more than one are numbered."""
    seed: Seed = 0
    faces: Annotated[int | None, option("N")] = None
    """At most N faces, 0: as many as come; default 200,000, since vertices carry the colours; with a texture 50,000."""
    keep_largest: bool = False
    """Keep only the largest piece; default: all with at least 1 % of its area."""
    fill_holes: Annotated[float, option("SIZE")] = 0.02
    """Fill holes up to this width, as a share of the diagonal of the mesh's box, 0: none; default 0.02."""
    smooth: Annotated[int, option("N")] = 0
    """Rounds of smoothing that keep the volume (Taubin's filter); default 0."""
    open: Annotated[Literal["yes", "no"] | None, option("yes|no")] = None
    """Trim a surface fitted to points (igr) where there are none, or do not; default: if it looked open in training."""
    tiles: bool = False
    """Splats as 3D Tiles with levels of detail, for the web: OUT is a folder, with tileset.json."""
    tile_splats: Number = 50_000
    """Of --tiles: splats that a tile holds at most."""
    up: Up = None
    device: Device = "auto"

    def run(self) -> None:
        import torch

        from neural3d.files.meshes import check_format, write_mesh
        from neural3d.files.splats import WRITTEN, ending_of
        from neural3d.methods.abilities import Splatted, Trimmable
        from neural3d.run import load

        if self.tiles:
            return self.write_tiles()
        only_splats = ending_of(self.out) in set(WRITTEN) - {".ply"}
        if self.texture is not None or not only_splats:
            check_format(self.out, textured=self.texture is not None)
        if self.texture is not None:
            if not SMALLEST <= self.texture <= LARGEST:
                raise UserError(f"--texture must be from {SMALLEST} to {LARGEST} texels, not {self.texture}; try 2048.")
        else:
            for name in ("bake", "fill", "upscale"):
                if (value := getattr(self, name)) is not None:
                    raise UserError(f"--{name} {value} makes a texture; say how large with --texture 2048.")
        at_least(
            resolution=(self.resolution, 2), faces=(self.faces or 0, 0), smooth=(self.smooth, 0),
            temperature=(self.temperature, 0), samples=(self.samples, 1),
        )  # fmt: skip
        if self.samples > 1 and self.upscale is None:
            raise UserError(f"--samples {self.samples} asks for answers of a prior; say which with --upscale RUN.")
        if self.samples > 1 and self.temperature == 0:
            raise UserError(f"--samples {self.samples} are all the same at temperature 0; try --temperature 0.5.")
        require_writable(self.out, BYTES_A_FACE * (self.faces or 0) + (self.texture or 0) ** 2)
        run = load(self.path, self.device)
        if self.open is not None:
            run.able(Trimmable).trim(self.open == "yes")
        crop = None if self.crop == WHOLE else torch.tensor(self.crop, dtype=torch.float64).reshape(2, 3)
        if only_splats or (isinstance(run.method, Splatted) and self.out.suffix.lower() == ".ply"):
            return self.write_splats(run, crop)
        fill, larger = self.priors()
        with StageProgress() as shown:
            mesh = self.mesh(run, crop, shown.update, fill)
        mesh = mesh.transformed(run.capture_from_scene)
        for i in range(self.samples):
            out = self.out if self.samples == 1 else self.out.with_stem(f"{self.out.stem}_{i}")
            painted = mesh if mesh.texture is None else replace(mesh, texture=larger(mesh.texture))
            written = write_mesh(painted, out, up=self.up, native_up=run.up_in_capture)
            print_mesh(out, written, self.up, units_of(run.scene))

    def priors(self) -> tuple[Fill | None, Upscale]:
        """What the priors do that are named, in the order of work: what fills textures, and what makes them larger."""
        from neural3d.inpaint import filler
        from neural3d.run import load
        from neural3d.upscale import upscaler

        fill = None if self.fill is None else filler(load(self.fill, self.device), self.seed)
        if self.upscale is None:
            return fill, lambda texture: texture
        assert self.texture is not None
        larger, unit = upscaler(load(self.upscale, self.device), self.temperature, self.seed)
        if self.texture % (2 * unit):
            raise UserError(f"--texture must be a multiple of {2 * unit} to be doubled by {self.upscale}; try 2048.")
        return fill, larger

    def mesh(self, run: Run, crop: Tensor | None, progress: Progress, fill: Fill | None = None) -> Mesh:
        """The mesh to write, in the scene frame, a texture not yet made larger. Says what was done and is covered."""
        from neural3d.geometry.unwrap import load_xatlas
        from neural3d.meshing import FACES, TEXTURED, surface
        from neural3d.methods.abilities import Meshable
        from neural3d.scene import Scene

        run.able(Meshable)
        if self.texture is not None and not isinstance(run.scene, Scene):
            raise UserError(
                f"{self.path}: {run.config.method} has learnt a shape without colours, so there is nothing to bake; "
                "leave --texture out."
            )
        if self.texture is not None:
            load_xatlas()  # missing: told before the work
        views = self.photos(run.scene) if self.texture is not None and isinstance(run.scene, Scene) else []
        if fill is not None and not views:
            raise UserError(f"--fill {self.fill} draws what no photo shows, but the texture is not made of photos.")
        faces = (FACES if self.texture is None else TEXTURED) if self.faces is None else self.faces
        made = surface(
            run, self.resolution, crop, faces=faces, keep_largest=self.keep_largest, fill_holes=self.fill_holes,
            smooth=self.smooth, progress=progress,
        )  # fmt: skip
        console.print(f"{made.whole:,} faces extracted; {made.cleaning}")
        self.report_coverage(made, run.config.method)
        if self.texture is None:
            return made.colored(progress)
        size = self.texture if self.upscale is None else self.texture // 2
        mesh, seen = made.textured(size, views, progress, fill)
        shown = f"{len(views)} photos show {seen:.0%} of the surface" if views else "baked from the learnt colours"
        drawn = "" if fill is None or seen == 1 else f"; the rest by {self.fill}"
        doubled = "" if self.upscale is None else f", doubled by {self.upscale}"
        console.print(f"texture {size} × {size}: {shown}{drawn}{doubled}")
        return mesh

    def report_coverage(self, made: Surface, method: str) -> None:
        if made.coverage is None:
            return
        console.print(f"the mesh {made.coverage}, by {made.coverage.views} of them")
        if not made.coverage.good:
            console.print(
                coloured("the surface is missing or foggy:"),
                f"train longer ({command_line('train', '--resume', self.path, '--minutes', '10')}), or by --method "
                f"{'neus, for smooth surfaces' if method == 'splat' else 'splat'}; if the box cuts the subject off, "
                "give another --crop",
            )

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

    def write_tiles(self) -> None:
        from neural3d.files.tiles import INDEX, require_tiles, write_tiles
        from neural3d.geometry.upright import file_from_own
        from neural3d.methods.abilities import Splatted
        from neural3d.run import load

        if self.texture is not None or self.crop != WHOLE or self.up is not None:
            raise UserError("--tiles are of all splats, +z up as 3D Tiles ask; leave --texture, --crop and --up out.")
        if self.out.suffix:
            raise UserError(f"--tiles writes a folder, and {self.out} is named like a file; leave the ending out.")
        at_least(tile_splats=(self.tile_splats, 100))
        require_tiles(self.out)
        require_writable(self.out, folder=True)
        run = load(self.path, self.device)
        splats, _ = run.able(Splatted).gaussians()
        turn = file_from_own(Path("tile.glb"), None, run.up_in_capture)
        with StageProgress() as shown:
            many = 4 * len(splats) // self.tile_splats
            tiles, levels = write_tiles(
                splats, self.out, turn @ run.capture_from_scene, self.tile_splats,
                lambda done: shown.update("tiles", done, max(done, many)),
            )  # fmt: skip
        size = sum(path.stat().st_size for path in self.out.glob("*.glb")) / 2**20
        depth = "1 level" if levels == 1 else f"{levels} levels"
        console.print(
            f"{self.out / INDEX}: {len(splats):,} splats in {tiles} tiles of {depth}, {size:.1f} MiB", soft_wrap=True
        )

    def write_splats(self, run: Run, crop: Tensor | None) -> None:
        from neural3d.files.splats import write_splats
        from neural3d.geometry.upright import file_from_own
        from neural3d.methods.abilities import Splatted

        splats, antialiased = run.able(Splatted).gaussians()
        if crop is not None:
            means = splats.means.detach().cpu().double() @ run.capture_from_scene[:3, :3].T
            means += run.capture_from_scene[:3, 3]
            splats = splats.selected(((means >= crop[0]) & (means <= crop[1])).all(1).to(splats.means.device))
        turn = file_from_own(self.out, self.up, run.up_in_capture)
        up = (turn[:3, :3] @ turn.new_tensor(run.up_in_capture)).tolist()
        own = turn @ run.capture_from_scene
        notes = write_splats(splats, self.out, antialiased=antialiased, up=up, file_from_own=own)
        console.print(f"{self.out}: {len(splats):,} splats")
        for note in notes:
            console.print(f"note: {note}")
