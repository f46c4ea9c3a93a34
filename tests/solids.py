"""Meshes ready for pictures."""

from __future__ import annotations

import numpy as np
import trimesh
from neural3d.viewer.solids import Solid

from neural3d.geometry.mesh import Mesh


def solid_of(mesh: Mesh) -> Solid:
    """In its own colours, without light."""
    colors = np.round(255 * mesh.colors).astype(np.uint8)
    solid = Solid.of_meshes([trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)])
    solid.lit = np.zeros_like(solid.lit)
    return solid
