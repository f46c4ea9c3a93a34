"""How close a picture is to the truth, as the papers measure it: PSNR, SSIM and, given weights, LPIPS.

Pictures are (H, W, 3), sRGB as stored, in [0, 1]. A score of several views is the mean of the scores of each view.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from neural3d.errors import UserError

Image = Float[np.ndarray, "height width 3"] | Float[Tensor, "height width 3"]
BACKGROUNDS = {"white": 1.0, "black": 0.0}


def composite(
    image: UInt8[np.ndarray, "height width channels"], background: str | None = "white"
) -> Float[np.ndarray, "height width 3"]:
    """A stored picture as float32 in [0, 1]; straight alpha is composited on "white" or "black", in sRGB as papers do.

    background None: alpha is dropped. Pictures without alpha pass through.
    """
    scaled = image.astype(np.float32) / 255
    if scaled.shape[2] == 3 or background is None:
        return scaled[..., :3]
    alpha = scaled[..., 3:]
    return scaled[..., :3] * alpha + BACKGROUNDS[background] * (1 - alpha)


def psnr(image: Image, truth: Image) -> float:
    """−10 log₁₀ of the mean squared error over pixels and channels, in dB; infinite for equal pictures.

    The image is clamped to [0, 1] first, as saving it would.
    """
    error = np.clip(np.asarray(image, np.float64), 0, 1) - np.asarray(truth, np.float64)
    mse = float(np.mean(error**2))
    return -10 * math.log10(mse) if mse > 0 else math.inf


def ssim(image: Image, truth: Image) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window 11 × 11 with σ = 1.5, K₁ = 0.01, K₂ = 0.03, range 1.

    Averaged over the positions where the window fits and over the channels. Raises ValueError under 11 pixels a side.
    """
    a, b = np.clip(np.asarray(image, np.float64), 0, 1), np.asarray(truth, np.float64)
    if min(a.shape[:2]) < 11:
        raise ValueError(f"SSIM's window is 11 pixels wide, the picture only {a.shape[1]} × {a.shape[0]}")
    return float(
        structural_similarity(
            a, b, channel_axis=-1, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def mean_scores(per_image: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean over views of every numeric entry that all views have."""
    keys = [k for k, v in per_image[0].items() if isinstance(v, float) and all(k in other for other in per_image)]
    return {k: float(np.mean([scores[k] for scores in per_image])) for k in keys}


def _alexnet() -> tuple[list[nn.Module], list[int]]:
    """torchvision's AlexNet up to the last layer LPIPS reads, and which layers (the ReLUs) it reads."""
    pool, relu = nn.MaxPool2d(3, 2), nn.ReLU()
    layers = [
        *(nn.Conv2d(3, 64, 11, 4, 2), relu, pool, nn.Conv2d(64, 192, 5, 1, 2), relu, pool),
        *(nn.Conv2d(192, 384, 3, 1, 1), relu, nn.Conv2d(384, 256, 3, 1, 1), relu, nn.Conv2d(256, 256, 3, 1, 1), relu),
    ]
    return layers, [1, 4, 7, 9, 11]


def _vgg16() -> tuple[list[nn.Module], list[int]]:
    """torchvision's VGG-16 up to the last layer LPIPS reads, and which layers it reads: the last of each stage."""
    layers: list[nn.Module] = []
    taps, channels = [], 3
    for stage, (width, convolutions) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if stage:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
        taps.append(len(layers) - 1)
    return layers, taps


class Lpips(nn.Module):
    """Learned perceptual image patch similarity (Zhang et al. 2018), version 0.1: 0 for equal pictures, no unit.

    With φ_l the l-th feature map of a classification network, normalised to unit length at each pixel, and w_l ≥ 0 the
    learned weights of its channels: Σ_l mean over pixels of Σ_c w_lc (φ_l(a) − φ_l(b))²_c.

    Nothing is downloaded. `Lpips.load(*files)` takes, as .pth or .safetensors,
    - the backbone: torchvision's state dict, `alexnet-owt-7be5be79.pth` or `vgg16-397923af.pth`, and
    - the linear weights: `lpips/weights/v0.1/alex.pth` or `vgg.pth` of the lpips package,
    or one file that holds both (`lpips.LPIPS(net="alex").state_dict()`, saved). Which network it is follows from them.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: str):
        super().__init__()
        self.network = network
        layers, self.taps = _alexnet() if network == "alex" else _vgg16()
        self.features = nn.Sequential(*layers)
        widths = (64, 192, 384, 256, 256) if network == "alex" else (64, 128, 256, 512, 512)
        self.linear = nn.ParameterList([nn.Parameter(torch.ones(w)) for w in widths])
        # ImageNet's mean and deviation for inputs in [−1, 1]
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    @classmethod
    def load(cls, *files: str | Path) -> Lpips:
        """From the files that hold backbone and linear weights; UserError where something is missing or misfits."""
        stored: dict[str, Tensor] = {}
        for file in files:
            stored |= _read_weights(Path(file))
        named = {}
        for key, value in stored.items():
            parts = key.split(".")
            if parts[0] == "features":
                named[key] = value
            elif parts[0] == "net" and parts[1].startswith("slice"):  # lpips keeps torchvision's layer numbers
                named[".".join(["features", *parts[2:]])] = value
            elif parts[0].startswith("lin") and parts[0][3:].isdigit():
                named[f"linear.{parts[0][3:]}"] = value.flatten()
        first = named.get("features.0.weight")
        names = " and ".join(str(f) for f in files)
        if first is None or "linear.0" not in named:
            lacking = "the backbone's (torchvision)" if first is None else "the linear (lpips)"
            raise UserError(f"LPIPS needs backbone and linear weights, but {names} lacks {lacking}; give both files.")
        model = cls("alex" if first.shape[-1] == 11 else "vgg")
        wanted = model.state_dict()
        weights = [k for k in wanted if k not in ("shift", "scale")]
        misfits = [k for k in weights if k not in named or named[k].shape != wanted[k].shape]
        if misfits:
            raise UserError(
                f"{names} do not fit the {model.network} network of LPIPS (first misfit: {misfits[0]}); "
                "give backbone and linear weights of the same network, alex or vgg."
            )
        model.load_state_dict({k: named.get(k, v) for k, v in wanted.items()})
        return model.eval().requires_grad_(False)

    def forward(self, image: Image, truth: Image) -> Float[Tensor, ""]:
        """The distance between two pictures of the same size."""
        pair = torch.stack([torch.as_tensor(p, dtype=torch.float32) for p in (image, truth)])
        x = (pair.to(self.shift.device).permute(0, 3, 1, 2).clamp(0, 1) * 2 - 1 - self.shift) / self.scale
        total = x.new_zeros(())
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)  # 1e-10: dead pixels stay 0
                weight = self.linear[self.taps.index(index)]
                total = total + ((unit[0] - unit[1]).square().mean(dim=(1, 2)) * weight).sum()
        return total


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path} does not exist; LPIPS needs weights on this machine, see neural3d.metrics.Lpips.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError) as e:
        raise UserError(f"{path} cannot be read as network weights ({type(e).__name__}); download it again.") from e
    if not isinstance(stored, dict) or not all(isinstance(v, Tensor) for v in stored.values()):
        raise UserError(f"{path} is no state dict of plain tensors; save it with torch.save(model.state_dict()).")
    return stored
