import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from neural3d import metrics
from neural3d.errors import UserError


def pictures(height: int = 40, width: int = 33, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=(height, width, 3)).astype(np.float32)
    return np.clip(truth + rng.normal(scale=0.1, size=truth.shape), 0, 1).astype(np.float32), truth


def test_composite_mixes_straight_alpha():
    image = np.array([[[255, 0, 51, 51], [10, 20, 30, 0]]], np.uint8)
    white, black = metrics.composite(image), metrics.composite(image, "black")
    np.testing.assert_allclose(white, [[[1.0, 0.8, 0.84], [1, 1, 1]]], atol=1e-6)
    np.testing.assert_allclose(black, [[[0.2, 0.0, 0.04], [0, 0, 0]]], atol=1e-6)
    np.testing.assert_allclose(metrics.composite(image, None), image[..., :3] / 255, atol=1e-6)
    np.testing.assert_array_equal(metrics.composite(image[..., :3], "white"), metrics.composite(image, None))
    assert white.dtype == np.float32


def test_psnr_of_a_constant_error():
    truth = np.full((5, 4, 3), 0.5)
    assert metrics.psnr(truth + 0.1, truth) == pytest.approx(20.0)
    assert metrics.psnr(torch.full((5, 4, 3), 0.51), truth) == pytest.approx(40.0, abs=1e-4)
    assert metrics.psnr(truth, truth) == math.inf
    assert metrics.psnr(np.full((5, 4, 3), 7.0), np.ones((5, 4, 3))) == math.inf, "clamped as saving would"


def test_ssim_is_the_published_formula():
    """Against the definition written out: windows by unfolding, moments, mean over positions and channels."""
    image, truth = (torch.from_numpy(p).double() for p in pictures())
    t = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(t**2) / (2 * 1.5**2))
    window = torch.outer(window, window).flatten()
    window /= window.sum()

    def patches(p):
        return F.unfold(p.permute(2, 0, 1)[:, None], 11)  # (channel, 121, position)

    a, b = patches(image), patches(truth)
    w = window[:, None]
    mean_a, mean_b = (w * a).sum(1, keepdim=True), (w * b).sum(1, keepdim=True)
    var_a, var_b = (w * (a - mean_a) ** 2).sum(1), (w * (b - mean_b) ** 2).sum(1)
    cov = (w * (a - mean_a) * (b - mean_b)).sum(1)
    mean_a, mean_b = mean_a[:, 0], mean_b[:, 0]
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert metrics.ssim(image, truth) == pytest.approx(expected.mean().item(), abs=1e-9)
    assert metrics.ssim(truth, truth) == pytest.approx(1)
    with pytest.raises(ValueError, match="11 pixels"):
        metrics.ssim(truth[:10], truth[:10])


def test_scores_are_means_over_views():
    """The mean of the PSNRs, not the PSNR of the mean error."""
    per_image = [{"name": "a", "psnr": 20.0, "ssim": 0.5}, {"name": "b", "psnr": 40.0, "ssim": 0.7, "lpips": 0.1}]
    assert metrics.mean_scores(per_image) == {"psnr": 30.0, "ssim": pytest.approx(0.6)}


VGG_CONVOLUTIONS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # their places in torchvision's features
VGG_WIDTHS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
ALEX = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def random_weights(network: str) -> tuple[dict, dict]:
    """(backbone in torchvision's names, linear weights in lpips' names)"""
    generator = torch.Generator().manual_seed(1)
    if network == "alex":
        shapes = ALEX
        taps = [64, 192, 384, 256, 256]
    else:
        inputs = [3, *VGG_WIDTHS[:-1]]
        shapes = {k: (o, i, 3) for k, o, i in zip(VGG_CONVOLUTIONS, VGG_WIDTHS, inputs)}
        taps = [64, 128, 256, 512, 512]
    backbone = {"classifier.6.bias": torch.zeros(10)}
    for k, (o, i, size) in shapes.items():
        backbone[f"features.{k}.weight"] = (
            torch.randn(o, i, size, size, generator=generator) * (2 / (i * size**2)) ** 0.5
        )
        backbone[f"features.{k}.bias"] = torch.randn(o, generator=generator) * 0.1
    linear = {f"lin{k}.model.1.weight": torch.rand(1, w, 1, 1, generator=generator) for k, w in enumerate(taps)}
    return backbone, linear


def lpips_by_hand(network: str, backbone: dict, linear: dict, image: np.ndarray, truth: np.ndarray) -> float:
    def features(p):
        x = torch.from_numpy(p).permute(2, 0, 1)[None] * 2 - 1
        mean, deviation = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x = (x - mean[:, None, None]) / deviation[:, None, None]
        for k in ALEX if network == "alex" else VGG_CONVOLUTIONS:
            if network == "alex":
                x = F.max_pool2d(x, 3, 2) if k in (3, 6) else x
                step = {"stride": 4, "padding": 2} if k == 0 else {"padding": 2 if k == 3 else 1}
            else:
                x = F.max_pool2d(x, 2) if k in (5, 10, 17, 24) else x
                step = {"padding": 1}
            x = F.relu(F.conv2d(x, backbone[f"features.{k}.weight"], backbone[f"features.{k}.bias"], **step))
            if network == "alex" or k in (2, 7, 14, 21, 28):
                yield F.normalize(x, dim=1)

    total = 0.0
    for k, (a, b) in enumerate(zip(features(image), features(truth))):
        total += ((a - b) ** 2 * linear[f"lin{k}.model.1.weight"]).sum(1).mean().item()
    return total


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_lpips_equals_its_definition(network, tmp_path):
    backbone, linear = random_weights(network)
    torch.save(backbone, tmp_path / "backbone.pth")
    torch.save(linear, tmp_path / "linear.pth")
    model = metrics.Lpips.load(tmp_path / "backbone.pth", tmp_path / "linear.pth")
    image, truth = pictures(70, 64)
    expected = lpips_by_hand(network, backbone, linear, image, truth)
    assert expected > 0.01
    assert model(image, truth).item() == pytest.approx(expected, rel=1e-4)
    assert model(truth, truth).item() == 0


def test_lpips_from_the_lpips_package_in_one_file(tmp_path):
    """Its state dict nests the backbone in slices and repeats the linear layers."""
    backbone, linear = random_weights("alex")
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    stored = {f"net.slice{slices[int(k.split('.')[1])]}.{k[9:]}": v for k, v in backbone.items() if "features" in k}
    stored |= linear | {f"lins.{k[3:]}": v.clone() for k, v in linear.items()} | {"scaling_layer.shift": torch.zeros(3)}
    save_file(stored, tmp_path / "all.safetensors")
    image, truth = pictures(70, 64)
    expected = lpips_by_hand("alex", backbone, linear, image, truth)
    assert metrics.Lpips.load(tmp_path / "all.safetensors")(image, truth).item() == pytest.approx(expected, rel=1e-4)


def test_lpips_says_what_is_wrong_with_its_files(tmp_path):
    alex, linear = random_weights("alex")
    _, other_linear = random_weights("vgg")
    for name, content in (("alex", alex), ("linear", linear), ("other", other_linear), ("list", [1, 2])):
        torch.save(content, tmp_path / f"{name}.pth")
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    for names, message in (
        (["missing.pth"], "does not exist"),
        (["broken.pth"], "cannot be read"),
        (["broken.safetensors"], "cannot be read"),
        (["list.pth"], "no state dict"),
        (["alex.pth"], "lacks the linear"),
        (["linear.pth"], "lacks the backbone"),
        (["alex.pth", "other.pth"], "do not fit the alex network"),
    ):
        with pytest.raises(UserError, match=message):
            metrics.Lpips.load(*(tmp_path / n for n in names))
