"""From a run to the mesh that is exported: extracted, cleaned, simplified, compared with the photos, coloured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.clean import HOLE, Cleaned, cleaned, simplified
from neural3d.geometry.mesh import Colors, Mesh
from neural3d.geometry.solid import load_open3d
from neural3d.methods.abilities import Exposed, Meshable
from neural3d.progress import Progress, silent
from neural3d.render.coverage import Coverage, coverage
from neural3d.render.extraction import mesh_box
from neural3d.render.retouch import Fill
from neural3d.run import Run
from neural3d.scene import Scene, View

FACES = 200_000  # of colours at vertices, which want many; with a texture TEXTURED
TEXTURED = 50_000  # what xatlas unwraps in a minute; detail of colour lies in the texture


@dataclass(frozen=True)
class Surface:
    """A run's surface in the scene frame, without colours, and where these come from.

    whole: how many faces it was extracted with. coverage: of what the photos show; None where the run has none.
    gains: see `methods.abilities.Exposed`.
    """

    mesh: Mesh
    color: Colors | None
    whole: int
    cleaning: Cleaned
    coverage: Coverage | None
    gains: Float[Tensor, "V 3"] | None = None

    def colored(self, progress: Progress = silent) -> Mesh:
        """With colours at its vertices, if the method knows any."""
        return self.mesh if self.color is None else self.mesh.colored(self.color, progress)

    def textured(
        self, size: int, views: Sequence[View], progress: Progress = silent, fill: Fill | None = None
    ) -> tuple[Mesh, float]:
        """(unwrapped, with a texture of size × size, the share of it that photos show)

        views: the training photos, to paint from; without any, all shows the learnt colours. fill: what puts detail
        where no photo shows any (`inpaint.filler`). Raises UserError where there are no colours.
        """
        from neural3d.geometry.unwrap import unwrapped
        from neural3d.render.bake import textured

        assert self.color is not None
        return textured(unwrapped(self.mesh, size, progress), size, views, self.color, progress, self.gains, fill)


def surface(
    run: Run,
    resolution: int = 256,
    crop: Float[Tensor, "2 3"] | None = None,
    *,
    faces: int = FACES,
    keep_largest: bool = False,
    fill_holes: float = HOLE,
    smooth: int = 0,
    progress: Progress = silent,
) -> Surface:
    """resolution, crop: see `Meshable.surface`. faces: at most so many, 0: all. The others: see `geometry.clean`."""
    if fill_holes or smooth or isinstance(run.scene, Scene):
        load_open3d()  # what is missing is told before the work, not after
    whole, color = run.able(Meshable).surface(resolution, crop, progress)
    cleaning = cleaned(whole, keep_largest=keep_largest, fill_holes=fill_holes, smooth=smooth, progress=progress)
    mesh = cleaning.mesh
    if faces:
        progress("simplifying", 0, 1)
        mesh = simplified(mesh, faces)
        progress("simplifying", 1, 1)
    told = None
    if isinstance(run.scene, Scene):
        views = [run.scene.views[i] for i in run.scene.split["train"]]
        told = coverage(mesh, run.render, views, mesh_box(run.scene, crop), progress)
    gains = run.method.gains() if isinstance(run.method, Exposed) else None
    return Surface(mesh, color, len(whole.faces), cleaning, told, None if gains is None else gains.detach().cpu())
