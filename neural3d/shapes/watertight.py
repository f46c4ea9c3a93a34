"""Closed meshes from open ones, so that there is an inside to learn.

python -m neural3d.shapes.watertight IN OUT [--resolution 128] [--unit]

How: the exact unsigned distance d to the triangles is computed on a grid around the mesh. Grid points with d < h, the
cell's side, are wall; what the rest of the grid can reach from its border without passing wall is outside, all else is
inside. The result is the surface d = h of the outside, by marching cubes: closed, oriented, with every sheet become a
plate 2 h thick and every hole smaller than about 2 h shut; solids grow by h on all sides. Holes larger than that let
the outside in, and leave a hollow plate. Inner walls that nobody can see are gone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from neural3d.disk import replacing
from neural3d.errors import UserError
from neural3d.files.mesh_ply import write_ply
from neural3d.geometry.mesh import Mesh, remove_floaters
from neural3d.geometry.solid import Solid
from neural3d.shapes.shape import MESH_SUFFIXES, read_shape, scene_rotation

LAYERS = 3  # of empty cells around the mesh


def watertight(mesh: Mesh, resolution: int = 128) -> Mesh:
    """See the module's docstring. resolution: cells along the longest side of the mesh's box. In the mesh's own frame.

    Raises UserError where the mesh has no faces or no extent.
    """
    from skimage.measure import marching_cubes  # only here: it takes long to import

    if len(mesh.faces) == 0:
        raise UserError("A point cloud cannot be made watertight; fit its surface with --method igr.")
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    side = float((high - low).max())
    if side == 0:
        raise UserError("All points of the mesh lie at one place.")
    # Open3D counts in float32: in cells, around the origin, nothing is lost to large coordinates.
    cell = side / resolution
    solid = Solid(Mesh((mesh.vertices - low) / cell, mesh.faces))
    counts = np.ceil((high - low) / cell).astype(int) + 2 * LAYERS + 1
    axes = [np.arange(n) - float(LAYERS) for n in counts]
    distance = np.stack([
        solid.distance(np.stack(np.meshgrid([x], axes[1], axes[2], indexing="ij"), -1).reshape(-1, 3))
        .reshape(counts[1:])
        for x in axes[0]
    ])  # fmt: skip
    free, _ = ndimage.label(distance >= 1)
    outside = free == free[0, 0, 0]
    # Inside the shell the distance falls to 0 and rises again: only its outer side is surface.
    field = np.where(outside, distance - 1, np.minimum(distance - 1, -0.5))
    field = np.where(~outside & ndimage.binary_dilation(outside), distance - 1, field)
    field = np.where(~outside, np.minimum(field, -1e-3), np.maximum(field, 1e-3))  # no vertex on a grid point
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="descent")
    closed = Mesh((vertices - LAYERS) * cell + low, faces.astype(np.int32))
    return remove_floaters(closed, 1e-4)


def on_the_floor(mesh: Mesh) -> Mesh:
    """Moved and scaled: longest side 1, middle of the box at x = y = 0, standing on z = 0."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    matrix = np.eye(4)
    matrix[:3, :3] /= (high - low).max()
    matrix[:3, 3] = -matrix[:3, :3] @ np.array([*(low + high)[:2] / 2, low[2]])
    return mesh.transformed(matrix)


def convert_folder(source: Path, out: Path, *, resolution: int = 128, unit: bool = False) -> list[Path]:
    """Every mesh below `source` as a closed PLY at the same place below `out`; +z is up in all of them.

    unit: also `on_the_floor`, for collections whose members are of any size and place.
    Raises UserError where there is no mesh, or one cannot be read.
    """
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in MESH_SUFFIXES)
    if not files:
        raise UserError(f"{source}: holds no meshes ({', '.join(MESH_SUFFIXES)}).")
    written = []
    for file in files:
        rotation = np.eye(4)
        rotation[:3, :3] = scene_rotation(file)
        try:
            closed = watertight(read_shape(file).mesh, resolution).transformed(rotation)
        except UserError as error:
            raise UserError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
        closed = on_the_floor(closed) if unit else closed
        target = (out / file.relative_to(source)).with_suffix(".ply")
        with replacing(target) as part, open(part, "wb") as opened:
            write_ply(closed, opened)
        written.append(target)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description="Closed meshes from open ones.")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--resolution", type=int, default=128, help="cells along each mesh's longest side")
    parser.add_argument("--unit", action="store_true", help="scale each to a longest side of 1, on the floor z = 0")
    given = parser.parse_args()
    try:
        written = convert_folder(given.source, given.out, resolution=given.resolution, unit=given.unit)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{len(written)} meshes written to {given.out}")


if __name__ == "__main__":
    main()
