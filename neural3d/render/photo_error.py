"""A mesh in its own colours, drawn by casting rays, beside the photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid

if TYPE_CHECKING:
    from neural3d.scene import View


def photo_psnr(mesh: Mesh, views: Sequence[View]) -> float:
    """Mean PSNR, dB, of the mesh's texture or vertex colours against photos, over the pixels that the mesh covers.

    views: in the mesh's frame, such as held-out ones, compared at the size of their cameras; pixels that are not opaque
    in the photo, or masked, do not count. Not a number where the mesh is in no photo. Raises UserError where a photo is
    missing.
    """
    solid = Solid(mesh)
    scores = []
    for view in views:
        image, mask = view.image().reshape(-1, 4 if view.alpha or view.mask_as_alpha else 3), view.mask()
        face, share = solid.hit_place(*(x.reshape(-1, 3).numpy() for x in view.camera.rays()))
        shown = face >= 0
        if image.shape[1] == 4:
            shown &= image[:, 3] == 255
        if mask is not None:
            shown &= mask.ravel() == 255
        if shown.any():
            drawn = colors_at(mesh, face[shown], share[shown])
            error = float(np.mean((drawn - image[shown, :3] / 255) ** 2))
            scores.append(-10 * np.log10(max(error, 1e-10)))
    return float(np.mean(scores)) if scores else float("nan")


def colors_at(mesh: Mesh, face: Int[np.ndarray, "N"], share: Float[np.ndarray, "N corner"]) -> Float[np.ndarray, "N 3"]:
    """sRGB at places on faces: bilinear in the texture, or linear between the vertices' colours."""
    corners = mesh.faces[face]
    if mesh.texture is None or mesh.uv is None:
        assert mesh.colors is not None
        return np.einsum("nk,nkc->nc", share, mesh.colors[corners])
    return bilinear(mesh.texture, np.einsum("nk,nkc->nc", share, mesh.uv[corners]))


def bilinear(picture: UInt8[np.ndarray, "H W 3"], uv: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 3"]:
    """The picture at u to the right and v down, (0, 0) and (1, 1) its outer corners; in [0, 1]."""
    height, width = picture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    j, i = np.clip(np.floor(x), 0, width - 2).astype(int), np.clip(np.floor(y), 0, height - 2).astype(int)
    s, t = np.clip(x - j, 0, 1)[:, None], np.clip(y - i, 0, 1)[:, None]
    above = (1 - s) * picture[i, j] + s * picture[i, j + 1]
    below = (1 - s) * picture[i + 1, j] + s * picture[i + 1, j + 1]
    return ((1 - t) * above + t * below) / 255
