"""Triangle meshes drawn into pictures: which face each pixel shows, where on it, and how far away.

Corner k of a face is seen at pixel c_k with depth z_k. For a pixel's centre p, with i, j = k + 1, k + 2 mod 3
(Pineda, SIGGRAPH 1988; Olano & Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997):

    e_k = (c_i − p) × (c_j − p),   w_k = e_k / z_k,   barycentrics b_k = w_k / Σ w_j,   depth = Σ e_j / Σ w_j

b are those of the point on the face in space that a pinhole camera sees at p: attributes of corners are interpolated
with them, without seams and without the bending of a picture's own coordinates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from neural3d.ops.native import check, native, stream

LARGEST = 1 << 15  # pixels along a side, less one: rows are kept in 16 bits


class Raster(NamedTuple):
    """What `mesh_raster` returns. Where no face is: -1, and zeros."""

    face: Int[Tensor, "B H W"]  # int32
    barycentrics: Float[Tensor, "B H W 3"]  # of the face's corners, in its order; ≥ 0, their sum is 1
    depth: Float[Tensor, "B H W"]


class _MeshRaster(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pixels, faces, width, height):
        batch = pixels.shape[0]
        face = faces.new_empty(batch, height, width)
        barycentrics, depth = pixels.new_empty(batch, height, width, 3), pixels.new_empty(batch, height, width)
        native(pixels.device).mesh_raster(
            pixels=pixels, faces=faces, rows=faces.new_empty(batch, len(faces)), face=face, barycentrics=barycentrics,
            depth=depth, stream=stream(pixels.device),
        )  # fmt: skip
        ctx.save_for_backward(pixels, faces, face)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(face)
        return face, barycentrics, depth

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, _, v_barycentrics, v_depth):
        pixels, faces, face = ctx.saved_tensors
        v_barycentrics, v_depth = (v if v is None else v.contiguous() for v in (v_barycentrics, v_depth))
        v_corners = pixels.new_empty(len(pixels), len(faces), 3, 3)
        native(pixels.device).mesh_raster_vjp(
            pixels=pixels, faces=faces, face=face, v_barycentrics=v_barycentrics, v_depth=v_depth, v_corners=v_corners,
            stream=stream(pixels.device),
        )  # fmt: skip
        return sum_corners(v_corners, faces, pixels.shape[1]), None, None, None


def sum_corners(
    v_corners: Float[Tensor, "B F 3 n"], faces: Int[Tensor, "F 3"], vertices: int
) -> Float[Tensor, "B V n"]:
    """What a vertex gets from all corners that it is. Column by column: sums along a line are fast and ordered."""
    batch, columns = len(v_corners), v_corners.unbind(-1)
    picture = torch.arange(batch, device=faces.device)[:, None]
    vertex = (faces.flatten().long() + vertices * picture).flatten()
    sums = [v_corners.new_zeros(batch * vertices).scatter_add_(0, vertex, column.flatten()) for column in columns]
    return torch.stack(sums, -1).view(batch, vertices, len(columns))


def mesh_raster(pixels: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"], width: int, height: int) -> Raster:
    """Draws the faces of B meshes of one topology, or of one mesh seen by B cameras, into B pictures.

    pixels: x, y of each vertex in pixels (centres at half integers) and its z-depth, as `Camera.project` gives them.
    float32 or float64. Differentiable, through barycentrics and depth; which face a pixel shows is not: `antialias` has
    the gradients of outlines.
    faces: int32; both sides are drawn, and of faces equally far the one that comes first.
    A pixel on the edge between two faces belongs to one of them. Faces with corners behind the camera are drawn where
    they are in front of it, given z < 0 and (x, y) = K X / z for those corners, which is what projecting with a pinhole
    camera gives; z = 0, a face without area and a number that is not finite hide the face.
    Raises ValueError on wrong shapes, dtypes or devices, vertices that do not exist and sizes beyond 1 … 32767.
    """
    faces = check_faces(faces, check_pixels(pixels, width, height))
    return Raster(*_MeshRaster.apply(pixels.contiguous(), faces, width, height))


def check_pixels(pixels: Float[Tensor, "B V 3"], width: int, height: int) -> Float[Tensor, "B V 3"]:
    """`pixels`, contiguous and detached. Raises ValueError for another shape or dtype, and sizes beyond 1 … 32767."""
    pixels = check("pixels", pixels, (None, None, 3))
    if pixels.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"pixels must be float32 or float64, not {pixels.dtype}")
    if not (1 <= width < LARGEST and 1 <= height < LARGEST):
        raise ValueError(f"width and height must be 1 to {LARGEST - 1}, not {width} and {height}")
    return pixels


def check_faces(faces: Int[Tensor, "F 3"], pixels: Float[Tensor, "B V 3"]) -> Int[Tensor, "F 3"]:
    """`faces`, contiguous. Raises ValueError where they are not int32 (F, 3) of vertices of `pixels`, on its device."""
    faces = check("faces", faces, (None, 3))
    if faces.dtype != torch.int32 or faces.device != pixels.device:
        raise ValueError(f"faces must be int32 on {pixels.device}, not {faces.dtype} on {faces.device}")
    if len(faces):
        low, high = (int(x) for x in torch.aminmax(faces))
        if low < 0 or high >= pixels.shape[1]:
            raise ValueError(f"faces name vertices {low} to {high}; there are {pixels.shape[1]}")
    return faces


def interpolate(
    attributes: Float[Tensor, "V C"] | Float[Tensor, "B V C"],
    faces: Int[Tensor, "F 3"],
    face: Int[Tensor, "B H W"],
    barycentrics: Float[Tensor, "B H W 3"],
) -> Float[Tensor, "B H W C"]:
    """Attributes of vertices (colours, normals, places in a texture) at each pixel, Σ b_k a_k; 0 where no face is.

    faces, face, barycentrics: of `mesh_raster`. Differentiable in attributes and barycentrics.
    """
    seen = face >= 0
    corners = faces.long()[face[seen].long()]
    if attributes.ndim == 3:
        picture = torch.arange(len(face), device=face.device)[:, None, None].expand_as(face)[seen]
        corners = corners + attributes.shape[1] * picture[:, None]
        attributes = attributes.flatten(0, 1)
    # A weighted sum of some rows of a table, and its gradient to both, is what torch has an operation for.
    values = F.embedding_bag(corners, attributes, mode="sum", per_sample_weights=barycentrics[seen])
    return values.new_zeros(*face.shape, values.shape[1]).index_put((seen,), values)


def texture_lookup(texture: Float[Tensor, "h w C"], uv: Float[Tensor, "... 2"]) -> Float[Tensor, "... C"]:
    """The texture's colours at uv (u right, v down, both 0 to 1 across the picture), bilinear between texels' centres.

    Beyond the outermost centres its border goes on. Differentiable in both.
    """
    grid = (2 * uv - 1).reshape(1, 1, -1, 2)
    colors = F.grid_sample(texture.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False)
    return colors[0, :, 0].T.reshape(*uv.shape[:-1], texture.shape[2])
