"""Antialiasing of the outlines in a drawn picture of a mesh, by which outlines have gradients.

Where two neighbouring pixels show different faces and the nearer surface ends between their centres, at an edge that is
its outline as seen from the camera, the edge crosses the line between the centres at the share s of the way from the
nearer one. Taking the edge for straight up and down there (Laine et al., "Modular primitives for high-performance
differentiable rendering", 2020, section 3.5):

    s < ½:  colour of the nearer pixel += (½ − s) (other − nearer)
    s > ½:  colour of the other pixel  += (s − ½) (nearer − other)

so a pixel's colour moves with the outline without steps. s has the gradient with respect to the edge's two vertices.
Two things differ from the paper. It looks for the outline in the nearer pixel's face alone; but surfaces turn away at
their outlines, where faces soon are less than a pixel wide: here the search goes on along the line, from face to face.
And steep edges count between pixels side by side, others between pixels one above the other, so that what an outline
covers, and how that grows, is counted once.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.ops.mesh_raster import check_faces
from neural3d.ops.native import check, native, stream


@torch.no_grad()
def opposite_corners(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """Across the edge that lies opposite each corner of a face, the third corner of the other face at that edge.

    Corners count through all faces: 3 face + k. -1 where there is no other face, or more than one. int32.
    """
    start, end = faces.roll(-1, 1).flatten().long(), faces.roll(-2, 1).flatten().long()
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    key, order = (low * (int(faces.max()) + 1 if len(faces) else 1) + high).sort()
    _, group, size = key.unique_consecutive(return_inverse=True, return_counts=True)
    pairs = order[size[group] == 2].view(-1, 2)
    opposite = torch.full_like(start, -1)
    opposite[pairs] = pairs.flip(1)
    return opposite.view(-1, 3).int()


def antialias(
    image: Float[Tensor, "B H W C"],
    face: Int[Tensor, "B H W"],
    depth: Float[Tensor, "B H W"],
    pixels: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    opposite: Int[Tensor, "F 3"] | None = None,
) -> Float[Tensor, "B H W C"]:
    """The picture with its outlines smoothed, see the module's page.

    image: any colours or features of the picture that `mesh_raster` made (face, depth) of pixels and faces.
    opposite: `opposite_corners(faces)`, for those who call this many times with the same faces.
    Differentiable in image and in the x and y of pixels. Edges that reach behind the camera stay as they are.
    Raises ValueError on mismatched shapes, dtypes or devices.
    """
    batch, height, width = face.shape
    check("image", image, (batch, height, width, None))
    check("pixels", pixels, (batch, None, 3), image)
    depth = check("depth", depth, (batch, height, width), image)
    faces = check_faces(faces, pixels)
    opposite = check("opposite", opposite_corners(faces) if opposite is None else opposite, (len(faces), 3), faces)
    face = check("face", face, (batch, height, width), faces)
    for name, names, count in (("face", face, len(faces)), ("opposite", opposite, 3 * len(faces))):
        if names.numel() and not -1 <= int(names.min()) <= int(names.max()) < count:
            raise ValueError(f"{name} must be -1 to {count - 1} with these faces, not {names.min()} to {names.max()}")
    near, far, edge = _outlines(face, depth, pixels.detach().contiguous(), faces, opposite)
    picture = near // (height * width)
    ends = pixels.flatten(0, 1)[edge + pixels.shape[1] * picture[:, None], :2]
    s = _crossing(ends, near, far, height, width)
    colors = image.flatten(0, 2)
    change = (0.5 - s)[:, None] * (colors[far] - colors[near])  # where s > ½ both differences have the other sign
    return colors.index_put((torch.where(s < 0.5, near, far),), change, accumulate=True).view_as(image)


@torch.no_grad()
def _outlines(
    face: Int[Tensor, "B H W"],
    depth: Float[Tensor, "B H W"],
    pixels: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    opposite: Int[Tensor, "F 3"],
) -> tuple[Int[Tensor, "K"], Int[Tensor, "K"], Int[Tensor, "K 2"]]:
    """Pairs of pixels (nearer, other) between which there is an outline, and the two vertices of its edge.

    Pixels count through all pictures.
    """
    width = face.shape[2]
    found = face.new_empty(*face.shape, 2)
    native(pixels.device).mesh_outlines(
        pixels=pixels, faces=faces, opposite=opposite, face=face, depth=depth, edge=found, stream=stream(pixels.device)
    )
    pair = (found.flatten() >= 0).nonzero()[:, 0]
    first = pair // 2
    second = first + torch.where(pair % 2 == 0, 1, width)
    distance = depth.flatten().masked_fill(face.flatten() < 0, torch.inf)
    nearer = distance[first] <= distance[second]
    corner = found.flatten()[pair].long()[:, None]
    ends = corner - corner % 3 + (corner + torch.tensor([1, 2], device=corner.device)) % 3
    edge = faces.flatten()[ends].long()
    return torch.where(nearer, first, second), torch.where(nearer, second, first), edge


def _crossing(
    edge: Float[Tensor, "K 2 2"], near: Int[Tensor, "K"], far: Int[Tensor, "K"], height: int, width: int
) -> Float[Tensor, "K"]:
    """s, the share of the way from the centre of pixel `near` to that of `far`, where the edge crosses it."""
    across, place = near // width == far // width, near % (height * width)
    x, y = (place % width).to(edge) + 0.5, (place // width).to(edge) + 0.5
    from_centre = edge - torch.stack([x, y], 1)[:, None]
    along = torch.where(across[:, None], from_centre[..., 0], from_centre[..., 1])
    aside = torch.where(across[:, None], from_centre[..., 1], from_centre[..., 0])
    share = aside[:, 0] / (aside[:, 0] - aside[:, 1])
    return (along[:, 0] + share * (along[:, 1] - along[:, 0])) * (far - near).sign()
