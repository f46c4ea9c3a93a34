"""Splats as 3D Tiles 1.1 (OGC 22-025r4): a tree of .glb files with KHR_gaussian_splatting, finer from level to level.

A folder: tileset.json, and tiles named by the way to them, 0.glb for the root, 0_2.glb for its third child. A tile of
more splats than one may hold shows them merged (`fields.merging`), and has four children, cut at medians, that replace
it, or five where some splats lie so far out that they would stretch the others' boxes. Its geometric error is the
spacing of the grid on which they were merged, in the units of the capture. Leaves hold the splats as they are, and have
none. A viewer descends where the error would be seen, so that what it loads depends on the view and not on the scene.
https://docs.ogc.org/cs/22-025r4/22-025r4.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.disk import write_whole
from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.fields.merging import merged
from neural3d.files.splat_gltf import NAME
from neural3d.files.splats import write_splats

INDEX = "tileset.json"
FAR = 3.0  # widths of the box of most splats, beyond which a splat has a tile apart
SIGMAS = 3.0  # standard deviations that a box holds of each splat
Z_FROM_Y = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)  # tiles are z up, glTF is y up


def write_tiles(
    splats: Gaussians,
    folder: Path,
    file_from_own: Float[Tensor, "4 4"],
    most: int,
    told: Callable[[int], None] = lambda tiles: None,
) -> tuple[int, int]:
    """Writes the folder; how many tiles and levels there are. file_from_own: to glTF's frame, as in `write_splats`.

    most: splats of a tile. told: called after each. The index is written last, so that a folder with one is whole.
    Raises UserError where the folder holds something else already, or there are no splats.
    """
    if not len(splats):
        raise UserError(f"{folder}: there are no splats to cut into tiles.")
    require_tiles(folder)
    (folder / INDEX).unlink(missing_ok=True)
    for old in folder.glob("0*.glb"):
        old.unlink()
    scale = float(torch.linalg.det(file_from_own[:3, :3].double()) ** (1 / 3))
    means = splats.means.detach().cpu().double() @ file_from_own[:3, :3].double().T + file_from_own[:3, 3].double()
    reach = SIGMAS * scale * splats.log_scales.detach().cpu().double().amax(1).exp()
    written, levels = 0, 0

    def tile(rows: Int[Tensor, "M"], name: str) -> dict[str, Any]:
        nonlocal written, levels
        shown, spacing = merged(splats.selected(rows), most)
        write_splats(shown, folder / f"{name}.gs.glb", file_from_own=file_from_own)
        (folder / f"{name}.gs.glb").rename(folder / f"{name}.glb")
        written, levels = written + 1, max(levels, name.count("_") + 1)
        told(written)
        made: dict[str, Any] = {
            "boundingVolume": {"box": box_around(means[rows], reach[rows])},
            "geometricError": spacing * scale,
            "content": {"uri": f"{name}.glb"},
        }
        if spacing:
            parts = parts_of(means, reach, rows)
            made["children"] = [tile(part, f"{name}_{k}") for k, part in enumerate(parts)]
        return made

    root = tile(torch.arange(len(splats)), "0")
    whole = root["geometricError"] or 2 * max(root["boundingVolume"]["box"][3:])
    index = {
        "asset": {"version": "1.1", "generator": "neural3d"},
        "extensionsUsed": ["3DTILES_content_gltf"],
        "extensions": {"3DTILES_content_gltf": {"extensionsUsed": [NAME]}},
        "geometricError": 2 * whole,  # of showing nothing
        "root": root | {"refine": "REPLACE"},
    }
    write_whole(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())
    return written, levels


def require_tiles(folder: Path) -> None:
    """Raises UserError where the folder holds what is no tile, which would be lost among them or by them."""
    others = (
        sorted(p.name for p in folder.iterdir() if p.name != INDEX and p.suffix != ".glb") if folder.is_dir() else []
    )
    if others:
        raise UserError(f"{folder} holds {others[0]}, which is no tile; choose a new folder.")


def parts_of(means: Float[Tensor, "N 3"], reach: Float[Tensor, "N"], rows: Int[Tensor, "M"]) -> list[Int[Tensor, "m"]]:
    """Quarters of what is near, by medians, and what leaves the middle box widened FAR times."""
    some = means[rows].sort(0).values
    low, high = (some[int(share * (len(rows) - 1))] for share in (0.05, 0.95))
    middle, half = (low + high) / 2, FAR * (high - low).clamp(min=1e-9).amax() / 2
    near = ((means[rows] - middle).abs() + reach[rows, None] <= half).all(1)
    if near.sum() < len(rows) / 2:  # nothing is the middle
        near[:] = True
    quarters = [part for side in halves(means, rows[near]) for part in halves(means, side)]
    return quarters if near.all() else [*quarters, rows[~near]]


def halves(means: Float[Tensor, "N 3"], rows: Int[Tensor, "M"]) -> tuple[Int[Tensor, "M1"], Int[Tensor, "M2"]]:
    """At the median of the axis along which most of them are spread the widest."""
    some = means[rows]
    low, high = (some.sort(0).values[int(share * (len(rows) - 1))] for share in (0.1, 0.9))
    order = some[:, int((high - low).argmax())].argsort()
    return rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]


def box_around(means: Float[Tensor, "M 3"], reach: Float[Tensor, "M"]) -> list[float]:
    """Centre and three half axes of what holds the splats, in the frame of tiles."""
    points = means @ Z_FROM_Y.T
    low, high = (points - reach[:, None]).amin(0), (points + reach[:, None]).amax(0)
    half = torch.diag((high - low) / 2)
    return [*((low + high) / 2).tolist(), *half.flatten().tolist()]
