"""What a picture shows, as one vector: a residual network.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, which the image encoder of Occupancy
Networks (Mescheder et al., CVPR 2019) is, for small pictures and CPUs: the first layer shrinks by four at once, three
stages of one block each follow. Eighteen layers with two blocks to a stage took three times as long for a picture, and
most of a training step. The last 4 × 4 features are not averaged: where something lies in the picture tells the shape's
sizes.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from neural3d.errors import UserError

STAGES = 3
STRIDE = 16  # by which the picture has shrunk at the end
LANES = 8  # channels come in multiples of it: with 4, torch 2.13 writes where it must not if pictures are channels-last


class _Block(nn.Module):
    """relu(x + conv(relu(conv(x)))), each convolution followed by batch normalisation."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = _conv(channels_in, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = _conv(channels, channels, 3, 1), nn.BatchNorm2d(channels)
        self.skip = nn.Sequential(_conv(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))
        if channels_in == channels and stride == 1:
            self.skip = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.skip(x) + self.norm2(self.conv2(relu(self.norm1(self.conv1(x))))))


def _conv(channels_in: int, channels: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, size, stride, size // 2, bias=False)


class PictureEncoder(nn.Module):
    """side: of the square pictures, a multiple of STRIDE. code: length of the vector. width: of the first layer, in
    channels, a multiple of LANES; the last has four times as many. Raises UserError where they are not.
    """

    def __init__(self, side: int, code: int, width: int = 32):
        super().__init__()
        for name, value, unit in (("side", side, STRIDE), ("channels", width, LANES)):
            if value < unit or value % unit:
                raise UserError(f"{name} must be a multiple of {unit}, not {value}.")
        layers: list[nn.Module] = [_conv(3, width, 7, 4), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
        for stage in range(STAGES):
            wider = width << stage
            layers.append(_Block(channels, wider, 1 if stage == 0 else 2))
            channels = wider
        self.layers = nn.Sequential(*layers)
        self.tell = nn.Linear(channels * (side // STRIDE) ** 2, code)

    def forward(self, picture: Float[Tensor, "S 3 H W"]) -> Float[Tensor, "S C"]:
        """picture: sRGB in [0, 1]."""
        return self.tell(self.layers(2 * picture - 1).flatten(1))
