"""Antialiasing of the outlines in a drawn picture of a mesh, by which outlines have gradients.

Where two neighbouring pixels show different faces and the nearer face ends between their centres, at an edge that is
the surface's outline as seen from the camera, the edge crosses the line between the centres at the share s of the way
from the nearer face's pixel. Taking the edge for straight up and down there (Laine et al., "Modular primitives for
high-performance differentiable rendering", 2020, section 3.5):

    s < ½:  colour of the nearer pixel += (½ − s) (other − nearer)
    s > ½:  colour of the other pixel  += (s − ½) (nearer − other)

so a pixel's colour moves with the outline without steps. s has the gradient with respect to the edge's two vertices.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.ops.mesh_raster import check_faces
from neural3d.ops.native import check


@torch.no_grad()
def opposite_vertices(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """Across the edge that lies opposite each corner of a face, the third vertex of the other face at that edge.

    -1 where there is no other, or more than one. int64.
    """
    start, end = faces.roll(-1, 1).flatten().long(), faces.roll(-2, 1).flatten().long()
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    key, order = (low * (int(faces.max()) + 1 if len(faces) else 1) + high).sort()
    _, group, size = key.unique_consecutive(return_inverse=True, return_counts=True)
    pairs = order[size[group] == 2].view(-1, 2)
    opposite = torch.full_like(start, -1)
    opposite[pairs] = faces.flatten().long()[pairs.flip(1)]
    return opposite.view(-1, 3)


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
    opposite: `opposite_vertices(faces)`, for those who call this many times with the same faces.
    Differentiable in image and in the x and y of pixels. An outline is found where the nearer face has it itself: of
    faces smaller than a pixel, many a piece is missed. Edges that reach behind the camera stay as they are.
    Raises ValueError on mismatched shapes, dtypes or devices.
    """
    batch, height, width = face.shape
    check("image", image, (batch, height, width, None))
    check("pixels", pixels, (batch, None, 3), image)
    check("depth", depth, (batch, height, width), image)
    faces = check_faces(faces, pixels)
    opposite = opposite_vertices(faces) if opposite is None else opposite
    near, far, edge = _outlines(face, depth, pixels.detach(), faces, opposite)
    picture = near // (height * width)
    s = _crossing(pixels.flatten(0, 1)[edge + pixels.shape[1] * picture[:, None], :2], near, far, height, width)
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
    _, height, width = face.shape
    number = torch.arange(face.numel(), device=face.device).view_as(face)
    across, down = number[:, :, :-1][face[:, :, :-1] != face[:, :, 1:]], number[:, :-1][face[:, :-1] != face[:, 1:]]
    first, second = torch.cat([across, down]), torch.cat([across + 1, down + width])
    shown, distance = face.flatten().long(), depth.flatten().masked_fill(face.flatten() < 0, torch.inf)
    nearer = distance[first] <= distance[second]
    near, far = torch.where(nearer, first, second), torch.where(nearer, second, first)

    mine = shown[near]
    corners = faces.long()[mine]  # (K, 3)
    others = opposite[mine]
    offset = pixels.shape[1] * (near // (height * width))[:, None]
    points, vertices = pixels.flatten(0, 1)[corners + offset], pixels.flatten(0, 1)
    beyond = vertices[others.clamp(min=0) + offset]
    start, end = points.roll(-1, 1), points.roll(-2, 1)  # edge k lies opposite corner k
    folded = _side(start, end, points) * _side(start, end, beyond) > 0
    visible = (points[..., 2] > 0).all(1, keepdim=True) & ((others < 0) | (beyond[..., 2] > 0))
    outline = ((others < 0) | folded) & visible
    ends = torch.stack([start[..., :2], end[..., :2]], 2)  # (K, 3 edges, 2 ends, 2)
    s = _crossing(ends.flatten(0, 1), near.repeat_interleave(3), far.repeat_interleave(3), height, width).view(-1, 3)
    outline &= (s >= 0) & (s <= 1)  # NaN: the edge ends before the line between the centres, or beyond it
    pair, k = outline.nonzero().unbind(1)
    once = torch.ones_like(pair, dtype=torch.bool)
    once[1:] = pair[1:] != pair[:-1]  # two edges that meet on the line
    pair, k = pair[once], k[once]
    edge = torch.stack([corners[pair, (k + 1) % 3], corners[pair, (k + 2) % 3]], 1)
    return near[pair], far[pair], edge


def _side(a: Tensor, b: Tensor, p: Tensor) -> Tensor:
    """Twice the area of the triangle a b p in the picture: its sign says on which side of a b p is."""
    return (b[..., 0] - a[..., 0]) * (p[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (p[..., 0] - a[..., 0])


def _crossing(
    edge: Float[Tensor, "K 2 2"], near: Int[Tensor, "K"], far: Int[Tensor, "K"], height: int, width: int
) -> Float[Tensor, "K"]:
    """s, the share of the way from the centre of pixel `near` to that of `far` where a line through both meets an edge.

    NaN where it does not.
    """
    across, place = near // width == far // width, near % (height * width)
    x, y = (place % width).to(edge) + 0.5, (place // width).to(edge) + 0.5
    along = torch.where(across[:, None], edge[..., 0] - x[:, None], edge[..., 1] - y[:, None])
    aside = torch.where(across[:, None], edge[..., 1] - y[:, None], edge[..., 0] - x[:, None])
    a, b = aside.unbind(1)
    meets = (a > 0) != (b > 0)
    share = torch.where(meets, a, 0) / torch.where(meets, a - b, 1)
    s = (along[:, 0] + share * (along[:, 1] - along[:, 0])) * (far - near).sign()
    return torch.where(meets, s, torch.nan)
