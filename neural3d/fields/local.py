"""Occupancy conditioned on a point cloud through features that live at its points.

Notation: p_j (M of them) a cloud, h_j its features, x a query, N(x) its k nearest points of the cloud, γ positional
encoding.

A cloud pressed into one vector (the PointNet of Occupancy Networks, Mescheder et al., CVPR 2019) loses thin legs. Here
features stay at the points, and a query asks those around it, by positions relative to itself, as in POCO (Boulch &
Marlet, "POCO: Point Convolution for Surface Reconstruction", CVPR 2022), eqs. 1 to 3:
    s_j, v_j = MLP(h_j, γ(p_j − x)) for j in N(x),   logit(x) = MLP(Σ_j softmax_j(s_j) v_j)
with several heads. What differs: POCO's encoder is a convolution network on points; ours, for a few hundred points, is
one layer over neighbours and self-attention over all points (Vaswani et al., NeurIPS 2017), which lets a noisy point
learn from the whole what it is part of.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention

from neural3d.fields.encodings import positional_encoding, positional_width
from neural3d.fields.mlp import MLP

HEADS = 4
OCTAVES = 4  # of γ
REACH = 0.4  # scene units: offsets to neighbours are given in it, so that most lie in [-1, 1]


def nearest_points(x: Float[Tensor, "S Q 3"], cloud: Float[Tensor, "S M 3"], count: int) -> Int[Tensor, "S Q count"]:
    """Indices of the `count` points of each cloud nearest to each query, in no order; all, where a cloud has fewer."""
    with torch.no_grad():
        # |x|² is the same for all candidates and left out.
        distance = torch.baddbmm(cloud.square().sum(-1)[:, None], x, cloud.transpose(1, 2), alpha=-2)
        return distance.topk(min(count, cloud.shape[1]), dim=-1, largest=False, sorted=False).indices


def gathered(features: Float[Tensor, "S M C"], index: Int[Tensor, "S Q k"]) -> Float[Tensor, "S Q k C"]:
    """features[s, index[s]]"""
    s, m, c = features.shape
    flat = index + m * torch.arange(s, device=index.device)[:, None, None]
    return features.reshape(s * m, c).index_select(0, flat.view(-1)).view(*index.shape, c)


class _Attention(nn.Module):
    """A block of self-attention and a feed-forward network, each on normalised input and added to it."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.norm_mix = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h: Float[Tensor, "S M W"]) -> Float[Tensor, "S M W"]:
        s, m, w = h.shape
        q, k, v = self.qkv(self.norm(h)).view(s, m, 3, HEADS, w // HEADS).permute(2, 0, 3, 1, 4)
        h = h + self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(s, m, w))
        return h + self.narrow(relu(self.widen(self.norm_mix(h))))


class LocalOccupancy(nn.Module):
    """See the module's docstring. width: of h. neighbours: k. layers: of self-attention."""

    def __init__(self, width: int, neighbours: int, layers: int):
        super().__init__()
        self.neighbours = neighbours
        encoded = positional_width(3, OCTAVES, include_input=True)
        self.lift = nn.Linear(encoded, width)
        self.offset = nn.Linear(3, width)
        self.near = nn.Linear(width, width)
        self.layers = nn.ModuleList(_Attention(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.ask = MLP(width + encoded, width + HEADS, width, 1, bias=True)
        self.tell = MLP(width, 1, width, 1, bias=True)

    def encode(self, cloud: Float[Tensor, "S M 3"]) -> Float[Tensor, "S M 3+W"]:
        """The code of a cloud: its points p and, beside them, h. Differentiable in the parameters."""
        h = self.lift(positional_encoding(cloud, OCTAVES, include_input=True))
        index = nearest_points(cloud, cloud, self.neighbours)
        offset = (gathered(cloud, index) - cloud[:, :, None]) / REACH
        h = h + self.near(relu(gathered(h, index) + self.offset(offset)).amax(2))
        for layer in self.layers:
            h = layer(h)
        return torch.cat([cloud, self.norm(h)], dim=-1)

    def forward(self, x: Float[Tensor, "S Q 3"], code: Float[Tensor, "S M 3+W"]) -> Float[Tensor, "S Q"]:
        """Logits, positive inside; code: what `encode` made of a cloud."""
        cloud, features = code[..., :3], code[..., 3:]
        index = nearest_points(x, cloud, self.neighbours)
        offset = (gathered(cloud, index) - x[:, :, None]) / REACH
        answers = self.ask((gathered(features, index), positional_encoding(offset, OCTAVES, include_input=True)))
        score, value = answers.split([HEADS, features.shape[-1]], dim=-1)
        weight = score.softmax(dim=2)  # over the neighbours
        mixed = (weight[..., None] * value.unflatten(-1, (HEADS, -1))).sum(2).flatten(-2)
        return self.tell(relu(mixed))[..., 0]
