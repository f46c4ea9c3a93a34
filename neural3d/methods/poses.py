"""Corrections of the photos' poses that are learnt with the scene, for `refine_poses`.

Each photo's camera turns about its centre and moves (Lin et al., "BARF: Bundle-Adjusting Neural Radiance Fields", ICCV
2021). What moves, turns or scales all cameras as one changes no photo, if the scene goes with them: nothing would hold
it back, and other cameras, which do not know of it, would see the scene beside its place. So it is taken out of the
corrections after each step, to first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural3d.geometry.cameras import Camera
from neural3d.geometry.rotations import rotation_from_axis_angle

PART = 512  # cameras whose terms are summed at once: so few that torch does not split the sum among threads


class PoseCorrections(nn.Module):
    """delta: of each camera, in the scene's frame: an axis times an angle in radians, and a shift. 0 at the start."""

    common: Tensor

    def __init__(self, cameras: Sequence[Camera]):
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(len(cameras), 6))
        centres = torch.stack([camera.centre for camera in cameras])
        self.register_buffer("common", common_motions(centres).float(), persistent=False)

    def group(self) -> dict[str, Any]:
        """For `neural3d.ops.adam.Adam`."""
        return dict(params=[self.delta], lr=3e-4, lr_final=3e-6)

    def forward(self, view: Int[Tensor, "*N"] | int) -> tuple[Float[Tensor, "*N 3 3"], Float[Tensor, "*N 3"]]:
        """Rotations about the cameras' centres, and shifts of these. view: numbers of cameras."""
        turn, shift = self.delta[view].split([3, 3], -1)
        return rotation_from_axis_angle(turn), shift

    @torch.no_grad()
    def hold_together(self) -> None:
        """Takes out what all cameras have in common."""
        self.delta.sub_((self.common * _ordered_sum(self.common * self.delta[..., None])).sum(-1))


def common_motions(centres: Float[Tensor, "V 3"]) -> Float[Tensor, "V 6 K"]:
    """An orthonormal basis of the corrections that move cameras at these centres as one.

    A turn by a small ω about the origin is (ω, ω × c), a shift (0, v), a change of scale (0, c): K = 7, or 6 where all
    centres are one.
    """
    c = centres.double()
    eye = torch.eye(3, dtype=c.dtype, device=c.device)
    motions = c.new_zeros(len(c), 6, 7)
    motions[:, :3, :3] = eye
    motions[:, 3:, :3] = torch.linalg.cross(eye.expand(len(c), 3, 3), c[:, None].expand(-1, 3, 3)).mT
    motions[:, 3:, 3:6] = eye
    motions[:, 3:, 6] = c
    squares, axes = torch.linalg.eigh(_ordered_sum(motions[..., :, None] * motions[..., None, :]))
    kept = squares > 1e-9 * squares[-1]
    return (motions[..., None] * (axes[:, kept] / squares[kept].sqrt())).sum(-2)


def _ordered_sum(terms: Float[Tensor, "V 6 *rest"]) -> Float[Tensor, "*rest"]:
    """Over cameras and their six numbers, the same on any number of threads."""
    return sum(part.sum((0, 1)) for part in terms.split(PART))  # type: ignore[return-value]
