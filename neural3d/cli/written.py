"""How written geometry stands: the option that says so, and what is told of a mesh that was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neural3d.cli.console import console

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Mesh
    from neural3d.scene import Fitted

HELP = (
    "y or z: turned so that +Y or +Z is up; capture: the capture's own axes; "
    "default: y for .glb, .usdz, .obj and .spz, else capture."
)
Up = Annotated[
    Literal["y", "z", "capture"] | None, tyro.conf.arg(metavar="y|z|capture", help=HELP, help_behavior_hint="")
]


def print_mesh(path: Path, mesh: Mesh, up: str | None, units: str) -> None:
    """Two lines on a mesh as written: how much there is and how it stands, its size and in which units that is."""
    from neural3d.geometry.offset import as_text, offset_file, read_offset
    from neural3d.geometry.upright import axis_of

    axis = axis_of(path, up)
    stands = "in the capture's own frame" if axis == "capture" else f"+{axis.upper()} is up"
    console.print(f"{path}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces, {stands}")
    x, y, z = mesh.vertices.max(0) - mesh.vertices.min(0)
    if (offset := read_offset(path)).any():
        console.print(f"note: its vertices lie about {as_text(offset)}: that is kept in {offset_file(path)}")
    console.print(f"size: {x:.3g} × {y:.3g} × {z:.3g} (x, y, z), {units}")


def units_of(scene: Fitted) -> str:
    """What a unit of length is, as far as it is known."""
    from neural3d.scene import Scene

    if not isinstance(scene, Scene):
        return f"in the units of {scene.path.name}"
    if scene.metric:
        return "in metres, by the photos' GPS"
    if scene.reader in ("colmap", "transforms"):
        return "in the capture's own units: photos alone do not tell the scale"
    return "in the capture's own units"
