"""`neural3d body make`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from neural3d.cli.console import NOWHERE, Number, OutOption, Output, at_least, console, option, progress_bar
from neural3d.disk import replacing, require_writable
from neural3d.errors import UserError

if TYPE_CHECKING:
    from neural3d.body.model import BodyModel
    from neural3d.body.motion import Motion

MESHES = (".ply", ".obj")


@dataclass
class BodyMake:
    """A body of any shape and pose, or one that moves: skinned .glb, film, meshes or AMASS .npz."""

    out: Output = NOWHERE
    """FILE.glb: with skeleton, morph targets and the motion; .mp4: a film; .npz: the motion in AMASS's layout; .ply or
    .obj: one mesh, posed; with --motion and no ending a folder of numbered meshes."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    model: Annotated[str, tyro.conf.arg(metavar="anny|FILE")] = "anny"
    """anny: the free body; or your file of SMPL, SMPL-H or SMPL-X, .npz or .pkl."""
    shape: Annotated[tuple[str, ...], option("NAME=VALUE ...")] = ()
    """Such as age=0.3 gender=1, or beta0=1.5; neural3d info of the model names all of them."""
    pose: Annotated[tuple[str, ...], option("JOINT=X,Y,Z ...")] = ()
    """Turns of joints relative to their parents: axis times angle in degrees, such as upperarm01.L=0,0,-40."""
    motion: Annotated[Path | None, option("FILE")] = None
    """A clip to put onto the body: .bvh, DeepMimic's .txt, AMASS's .npz, .glb or .gltf."""
    mesh: Annotated[str, tyro.conf.arg(metavar="ply|obj")] = "ply"
    """What a folder's meshes are."""
    size: Number = 512
    """Pixels along a film's sides."""

    def run(self) -> None:
        from neural3d.body import load_model
        from neural3d.body.rigged import neighbours, shaped

        ending = self.out.suffix.lower()
        if ending not in (".glb", ".mp4", ".npz", *MESHES, ""):
            raise UserError(f"{self.out}: unknown format {ending!r}; choose .glb, .mp4, .npz, .ply, .obj or a folder.")
        if ending in (".mp4", ".npz", "") and self.motion is None:
            raise UserError(f"{self.out}: {'a folder' if not ending else ending} needs --motion FILE.")
        if self.motion is not None and ending in MESHES:
            raise UserError(f"{self.out} holds one mesh; of a motion give a folder, and --mesh {ending[1:]}.")
        if self.motion is not None and self.pose:
            raise UserError("--motion poses the body; leave --pose out.")
        if f".{self.mesh}" not in MESHES:
            raise UserError(f"--mesh must be ply or obj, not {self.mesh}.")
        at_least(size=(self.size, 16))
        require_writable(self.out, folder=not ending)
        values = {name: number for name, (number,) in pairs("shape", self.shape, 1).items()}
        model = load_model(self.model) if not self.model == "anny" else self.nearby(values)
        body = shaped(model, values)
        motion = self.moves(body)
        ...
