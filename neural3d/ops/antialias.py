"""Antialiasing of the outlines in a drawn picture of a mesh, by which outlines have gradients.

Where two neighbouring pixels show different faces and the nearer surface ends between their centres, at an edge that is
its outline as seen from the camera, the edge crosses the line between the centres at the share s of the way from the
nearer one. Taking the edge for straight up and down there (Laine et al., "Modular primitives for high-performance
differentiable rendering", 2020, section 3.5):

    s < ½:  colour of the nearer pixel += (½ − s) (other − nearer)
    s > ½:  colour of the other pixel  += (s − ½) (nearer − other)

so a pixel's colour moves with the outline without steps. s has the gradient with respect to the edge's two vertices.
Steep edges count between pixels side by side, others between those one above the other: once, and not in both.
There the outline is looked for in the nearer pixel's face alone. Surfaces turn away at their outlines, where faces soon
are less than a pixel wide: here the search goes on from face to face along the line, over up to `RINGS` more.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.ops.mesh_raster import check_faces
from neural3d.ops.native import check

RINGS = 3  # faces between the one that a pixel shows and the outline


@torch.no_grad()
def opposite_corners(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """Across the edge that lies opposite each corner of a face, the third corner of the other face at that edge.

    Corners count through all faces: 3 face + k. -1 where there is no other face, or more than one. int64.
    """
    start, end = faces.roll(-1, 1).flatten().long(), faces.roll(-2, 1).flatten().long()
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    key, order = (low * (int(faces.max()) + 1 if len(faces) else 1) + high).sort()
    _, group, size = key.unique_consecutive(return_inverse=True, return_counts=True)
    pairs = order[size[group] == 2].view(-1, 2)
    opposite = torch.full_like(start, -1)
    opposite[pairs] = pairs.flip(1)
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
    opposite: `opposite_corners(faces)`, for those who call this many times with the same faces.
    Differentiable in image and in the x and y of pixels. Edges that reach behind the camera stay as they are.
    Raises ValueError on mismatched shapes, dtypes or devices.
    """
    batch, height, width = face.shape
    check("image", image, (batch, height, width, None))
    check("pixels", pixels, (batch, None, 3), image)
    check("depth", depth, (batch, height, width), image)
    faces = check_faces(faces, pixels)
    opposite = opposite_corners(faces) if opposite is None else check("opposite", opposite, (len(faces), 3))
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
    count, vertex = len(faces), faces.long()
    points = pixels[:, vertex.flatten()]  # (B, 3 F, 3): of all corners
    outline = _is_outline(points, opposite)  # (B, F, 3): of the edge opposite each corner
    around = torch.where(opposite < 0, torch.arange(count, device=face.device)[:, None], opposite // 3)
    close = outline.any(-1)
    for _ in range(RINGS):
        close = close | close[:, around].any(-1)

    number = torch.arange(face.numel(), device=face.device).view_as(face)
    across, down = number[:, :, :-1][face[:, :, :-1] != face[:, :, 1:]], number[:, :-1][face[:, :-1] != face[:, 1:]]
    first, second = torch.cat([across, down]), torch.cat([across + 1, down + width])
    distance = depth.flatten().masked_fill(face.flatten() < 0, torch.inf)
    nearer = distance[first] <= distance[second]
    near, far = torch.where(nearer, first, second), torch.where(nearer, second, first)

    here = face.flatten()[near].long()  # the face that the line from `near` to `far` goes over
    picture = near // (height * width)
    kept = close.flatten()[picture * count + here]
    near, far, here, picture = near[kept], far[kept], here[kept], picture[kept]
    found = []
    for _ in range(RINGS + 1):
        corner = 3 * here[:, None] + torch.arange(3, device=here.device)
        xy = points[..., :2].flatten(0, 1)[corner + 3 * count * picture[:, None]]
        ends = torch.stack([xy.roll(-1, 1), xy.roll(-2, 1)], 2)  # of each edge: (K, 3, 2, 2)
        s = _crossing(ends.flatten(0, 1), near.repeat_interleave(3), far.repeat_interleave(3), height, width)
        s, k = s.view(-1, 3).nan_to_num(-1.0).max(1)  # the line comes in over one edge and leaves over another
        on_line = (s >= 0) & (s <= 1)
        ends_here = on_line & outline.flatten()[3 * (picture * count + here) + k]
        extent = (ends[:, :, 1] - ends[:, :, 0]).abs()[torch.arange(len(k), device=k.device), k]
        across = near // width == far // width
        steep = torch.where(across, extent[:, 1] >= extent[:, 0], extent[:, 0] > extent[:, 1])
        taken = ends_here & steep
        edge = torch.stack([vertex[here, (k + 1) % 3], vertex[here, (k + 2) % 3]], 1)
        found.append((near[taken], far[taken], edge[taken]))
        beyond = opposite[here, k] // 3
        goes_on = on_line & ~ends_here & (beyond >= 0)
        near, far, here, picture = near[goes_on], far[goes_on], beyond[goes_on], picture[goes_on]
    near, far, edge = (torch.cat(parts) for parts in zip(*found))
    return near, far, edge


def _is_outline(points: Float[Tensor, "B 3F 3"], opposite: Int[Tensor, "F 3"]) -> Tensor:
    """Whether the surface ends at an edge, or turns back there: both faces lie on one side of it in the picture."""
    corners = points.view(len(points), *opposite.shape, 3)
    start, end = corners.roll(-1, 2), corners.roll(-2, 2)
    beyond = points[:, opposite.clamp(min=0)] if len(opposite) else corners
    turns = _side(start, end, corners) * _side(start, end, beyond) > 0
    in_front = (corners[..., 2] > 0).all(-1, keepdim=True)
    return in_front & ((opposite < 0) | (turns & (beyond[..., 2] > 0)))


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
