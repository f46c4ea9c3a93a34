"""Do photos agree about a surface? Patches of one photo beside what its neighbours show of the same piece of it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from neural3d.data.rays import ImageSource, RayBatch

RADIUS = 3  # of a patch, in pixels
NEIGHBOURS = 6  # photos beside one, at most
NEAREST, FARTHEST = math.radians(3), math.radians(60)  # between neighbours: less tells no depth, more another face
PLAIN = 2 / 255  # deviation of a patch's colours below which it tells nothing
WHITE = 0.99  # overexposed from there on: maybe a highlight, which is seen elsewhere than the surface it lies on
GRAZING = 0.2  # cosine between ray and normal below which a photo does not see the surface well enough


class Stereo:
    """Patches of the training photos and their neighbours, by the directions in which they lie from `middle`.

    The patch about a pixel is taken for a piece of the plane that touches the surface where the pixel's ray meets it.
    Each neighbour sees that piece somewhere (by the plane's homography), and normalised cross-correlation compares
    both. It asks for no model of colours and does not mind how bright either photo is. As the surface moves along the
    ray, so does the piece in the neighbour: a gradient for its depth, as in Fu et al., "Geo-Neus" (NeurIPS 2022),
    section 3.3.
    """

    def __init__(self, source: ImageSource, middle: Float[Tensor, "3"]):
        self.source = source
        pixels, device = source.pixels, source.pixels.device
        self.counts = pixels[:, 3] > 127 if pixels.shape[1] == 4 else torch.ones_like(pixels[:, 0], dtype=torch.bool)
        if source.kept is not None:
            self.counts = self.counts & torch.zeros_like(self.counts).index_fill(0, source.kept, True)
        towards = torch.stack([view.camera.centre.float() for view in source.views]) - middle.cpu()
        cosine = normalize(towards, dim=1) @ normalize(towards, dim=1).T
        near = [(row > math.cos(FARTHEST)) & (row < math.cos(NEAREST)) for row in cosine]
        self.neighbours = [
            [j for j in row.argsort(descending=True, stable=True).tolist() if ok[j]][:NEIGHBOURS]
            for row, ok in zip(cosine, near)
        ]
        side = torch.arange(-RADIUS, RADIUS + 1, device=device)
        self.offsets = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).view(-1, 2)

    def draw(self, count: int, generator: torch.Generator) -> RayBatch:
        """Rays of one photo: of `count` random pixels those whose patch shows the subject, and is not plain."""
        source, device = self.source, self.source.pixels.device
        view = int(torch.randint(len(source.views), (1,), generator=generator, device=device))
        camera, first = source.views[view].camera, int(source.first[view])
        if not self.neighbours[view] or min(camera.width, camera.height) <= 2 * RADIUS:
            return source.rays(torch.zeros(0, dtype=torch.int64, device=device))
        size = torch.tensor([camera.width, camera.height], device=device) - 2 * RADIUS
        xy = RADIUS + (torch.rand(count, 2, generator=generator, device=device) * size).long()
        patch = self._index(view, xy[:, None] + self.offsets)
        colours = source.pixels[patch][..., :3].float() / 255
        told = self.counts[patch].all(1) & (colours.std(1).amax(-1) > PLAIN) & (colours < WHITE).all(-1).all(1)
        return source.rays(first + (xy[told, 1] * camera.width + xy[told, 0]))

    def disagreement(
        self, batch: RayBatch, points: Float[Tensor, "R 3"], normals: Float[Tensor, "R 3"]
    ) -> Float[Tensor, ""]:
        """Mean of 1 − NCC, at most 1, over R rays of one photo, which meet the surface at `points`.

        Of the neighbours that might see a point, the better half counts: others may be hidden from it. Differentiable
        in `points`.
        """
        if not len(batch):
            return points.sum()
        view, source = int(batch.view[0]), self.source
        xy = (batch.xy - 0.5).long()[:, None] + self.offsets
        here = _centred(source.pixels[self._index(view, xy)][..., :3].float() / 255)
        _, directions, _ = source.cameras.rays(
            batch.view.repeat_interleave(len(self.offsets)), (xy + 0.5).view(-1, 2).to(batch.xy)
        )
        directions = directions.view(len(batch), -1, 3)
        slope = (directions * normals[:, None]).sum(-1)
        distance = ((points - batch.origins) * normals).sum(-1, keepdim=True)
        piece = batch.origins[:, None] + (distance / slope.clamp(max=-0.05))[..., None] * directions
        costs = []
        for j in self.neighbours[view]:
            camera = source.views[j].camera
            to, z = camera.project(piece)
            limit = to.new_tensor([camera.width - 1, camera.height - 1])
            inside = ((to > 0.5) & (to < limit)).all(-1) & (z > 0)
            colours = self._colour(j, to)
            there = _centred(colours)
            ncc = (here * there).sum((1, 2)) / (here.square().sum((1, 2)) * there.square().sum((1, 2)) + 1e-6).sqrt()
            facing = (normalize(camera.centre.to(points) - points.detach(), dim=-1) * normals).sum(-1)
            seen = inside.all(1) & (facing > GRAZING) & (colours < WHITE).all(-1).all(1)
            costs.append(torch.where(seen, (1 - ncc).clamp(max=1), torch.inf))
        best = torch.stack(costs, 1).sort(1).values
        rank = torch.arange(best.shape[1], device=best.device)
        kept = (2 * rank < best.isfinite().sum(1, keepdim=True)) & (slope < -GRAZING).all(1, keepdim=True)
        return torch.where(kept, best, 0).sum() / kept.sum().clamp_min(1)

    def _index(self, view: int, xy: Int[Tensor, "*batch 2"]) -> Int[Tensor, "*batch"]:
        """Of pixels, column and row, in the source's flat tensor."""
        return int(self.source.first[view]) + xy[..., 1] * self.source.views[view].camera.width + xy[..., 0]

    def _colour(self, view: int, xy: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 3"]:
        """Between pixel centres, bilinearly; differentiable in xy."""
        camera = self.source.views[view].camera
        at = torch.nan_to_num(xy - 0.5)
        low = at.detach().floor()
        low = torch.stack([low[..., 0].clamp(0, camera.width - 2), low[..., 1].clamp(0, camera.height - 2)], -1)
        across, down = (at - low).clamp(0, 1).unsqueeze(-2).unbind(-1)
        index = self._index(view, low.long())
        rows = [torch.lerp(self._pixel(i), self._pixel(i + 1), across) for i in (index, index + camera.width)]
        return torch.lerp(*rows, down)

    def _pixel(self, index: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch 3"]:
        return self.source.pixels[index][..., :3].float() / 255


def _centred(colours: Float[Tensor, "R K 3"]) -> Float[Tensor, "R K 3"]:
    """Each channel less its mean over the patch."""
    return colours - colours.mean(1, keepdim=True)
