"""Layers of flows: their inverses, their log-determinants beside autograd's, and what they learn."""

import numpy as np
import pytest
import torch
from torch import nn

from neural3d.examples.reading import made
from neural3d.priors import srflow
from neural3d.priors.bijections import ActNorm, Beside, Coupling, Injector, Mixing, Regroup, Squeeze, coupling
from neural3d.priors.coupling_nets import ConvNet, VectorNet
from neural3d.priors.glow import Glow, GlowConfig
from neural3d.priors.realnvp import RealNvp, RealNvpConfig
from neural3d.priors.srflow import SrFlow, SrFlowConfig
from neural3d.run import configure
from neural3d.train import Trainer

PICTURE, VECTOR = [4, 2, 2], [6]


def stirred(module: nn.Module, by: float = 0.2) -> nn.Module:
    """In float64, far from its start, where some layers are the identity."""
    generator = torch.Generator().manual_seed(0)
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


class Seeing(nn.Module):
    """A layer that always sees the same besides."""

    def __init__(self, layer, channels):
        super().__init__()
        self.layer = layer
        self.seen = nn.Parameter(torch.randn(1, channels, 2, 2, generator=torch.Generator().manual_seed(7)))

    def forward(self, x):
        return self.layer(x, self.seen.expand(len(x), -1, -1, -1))

    def inverse(self, y):
        return self.layer.inverse(y, self.seen.expand(len(y), -1, -1, -1))


LAYERS = {
    "actnorm": (lambda: ActNorm(4), PICTURE),
    "actnorm of vectors": (lambda: ActNorm(6), VECTOR),
    "mixing": (lambda: Mixing(4), PICTURE),
    "mixing of vectors": (lambda: Mixing(6), VECTOR),
    "squeeze": (Squeeze, PICTURE),
    "regroup": (Regroup, PICTURE),
    "beside": (
        lambda: Beside(
            [ActNorm(2), Mixing(2), coupling([2, 2, 2], 8, 1, "halves", True)],
            [ActNorm(2), Mixing(2), coupling([2, 2, 2], 8, 1, "halves", True, seen=2)],
        ),
        PICTURE,
    ),
    "injector": (lambda: Seeing(Injector(ConvNet(3, 8, 8, 1)), 3), PICTURE),
    "coupling that sees": (
        lambda: Seeing(Coupling(PICTURE, ConvNet(4 + 3, 8, 8, 1), "halves", True), 3), PICTURE
    ),
    **{
        f"coupling {pattern} {odd}": (
            lambda pattern=pattern, odd=odd: Coupling(PICTURE, ConvNet(4, 8, 8, 1), pattern, odd), PICTURE
        )
        for pattern in ("checkerboard", "halves") for odd in (False, True)
    },
    "coupling of vectors": (lambda: Coupling(VECTOR, VectorNet(6, 12, 16, 1), "every other", True), VECTOR),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_and_its_inverse(name):
    make, shape = LAYERS[name]
    layer = stirred(make()).eval()
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y, log_det = layer(x)
    assert torch.allclose(layer.inverse(y), x, atol=1e-10)
    assert log_det.shape == (3,)


@pytest.mark.parametrize("name", LAYERS)
def test_a_log_determinant_is_autograds(name):
    make, shape = LAYERS[name]
    layer = stirred(make()).eval()
    x = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    length = x.numel()
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v)[0], x).view(length, length)
    assert float(layer(x)[1]) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-9)


def pictures(path, count=64, size=4, channels=2):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return made(path, {"train": (values, None)})


def vectors(path, count=512):
    """Points on a ring, and a number that follows from them: nothing that a normal distribution would fit."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, count)
    ring = np.stack([np.cos(angle), np.sin(angle), np.sin(2 * angle)], 1) + 0.1 * rng.standard_normal((count, 3))
    return made(path, {"train": ((5 * ring + 7).astype(np.float32), None)})


FLOWS = {
    "realnvp": (RealNvp, RealNvpConfig(scales=2, width=8, blocks=1)),
    "glow": (Glow, GlowConfig(scales=2, steps=2, width=8)),
}


@pytest.mark.parametrize("of", [pictures, vectors])
@pytest.mark.parametrize("name", FLOWS)
def test_a_whole_flow_is_invertible_and_knows_its_determinant(name, of, tmp_path):
    make, config = FLOWS[name]
    examples = of(tmp_path)
    torch.manual_seed(0)
    flow = stirred(make(config, examples), by=0.03).eval()
    y = torch.rand(2, *examples.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 0.9 + 0.05
    z, log_det = flow.to_normal(y)
    assert torch.allclose(flow.from_normal(z), y, atol=1e-8)
    length = examples.length
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.to_normal(v)[0], y[:1]).view(length, length)
    assert float(log_det[0]) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-8)
    in_single = flow.float()
    assert torch.allclose(in_single.from_normal(in_single.to_normal(y.float())[0]), y.float(), atol=1e-5)


def smooth_pictures(count, size=8, seed=0):
    """Gradients of any direction with a little noise: where detail is, the small picture tells."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    slope = rng.uniform(-150, 150, (count, 2, 1, 1))
    values = 128 + slope[:, 0] * (x - 0.5) + slope[:, 1] * (y - 0.5) + 3 * rng.standard_normal((count, size, size))
    return values.clip(0, 255).astype(np.uint8)[:, None]


def test_srflow_is_invertible_and_knows_its_determinant(tmp_path):
    examples = made(tmp_path, {"train": (smooth_pictures(64), None)})
    torch.manual_seed(0)
    flow = stirred(SrFlow(SrFlowConfig(scales=2, steps=2, width=8, features=4), examples), by=0.03).eval()
    low = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05
    seen = flow.seen(low)
    z, log_det = flow.to_normal(y, seen)
    assert torch.allclose(flow.from_normal(z, seen), y, atol=1e-8)
    one = [s[:1] for s in seen]
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.to_normal(v, one)[0], y[:1]).view(64, 64)
    assert float(log_det[0]) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-8)
    other, _ = flow.to_normal(y, flow.seen(low.flip(3)))
    assert not torch.allclose(other, z, atol=1e-3)


def test_srflow_gives_several_answers_near_the_truth(tmp_path):
    """Cold ones nearer than by nearest neighbours; warm ones differ; larger pictures than it learnt from serve too."""
    np.savez(tmp_path / "a.npz", train=smooth_pictures(600), test=smooth_pictures(60, seed=1))
    settings = ["width=16", "steps=2", "features=8", "scales=1", "horizon=300", "lr=3e-3", "lr_final=1e-4", "batch=50"]
    trainer = Trainer.create(tmp_path / "run", *configure(tmp_path / "a.npz", "srflow", settings), torch.device("cpu"))
    trainer.fit(300, previews=False)
    flow = trainer.method.eval()
    x = torch.from_numpy(smooth_pictures(60, seed=1)).float() / 255
    low = torch.nn.functional.avg_pool2d(x, 2)
    cold, warm, again = (flow.upscale(low, torch.Generator().manual_seed(s), t) for s, t in ((0, 0.2), (0, 1), (1, 1)))
    nearest = torch.nn.functional.interpolate(low, scale_factor=2)
    assert float((cold - x).square().mean()) < 0.7 * float((nearest - x).square().mean())
    assert float((warm - again).abs().mean()) > 2 * float(
        (cold - flow.upscale(low, torch.Generator(), 0.2)).abs().mean()
    )
    larger = torch.from_numpy(smooth_pictures(2, 24, 2)).float() / 255
    made_larger = flow.upscale(torch.nn.functional.avg_pool2d(larger, 2), torch.Generator(), 0.2)
    assert made_larger.shape == larger.shape and float((made_larger - larger).abs().mean()) < 0.1


def test_srflow_makes_the_same_in_tiles(tmp_path, monkeypatch):
    """What a tile is given of its neighbours is enough, and its normal numbers are its own part's."""
    examples = made(tmp_path, {"train": (smooth_pictures(64), None)})
    torch.manual_seed(0)
    flow = stirred(SrFlow(SrFlowConfig(scales=2, steps=2, width=8, features=4), examples), by=0.03).eval().float()
    low = torch.rand(1, 1, 56, 40, generator=torch.Generator().manual_seed(0))
    whole = flow.upscale(low, torch.Generator().manual_seed(1))
    monkeypatch.setattr(srflow, "TILE", 16)
    tiled = flow.upscale(low, torch.Generator().manual_seed(1))
    assert float((tiled - whole).abs().max()) < 1.5 / 255
    assert float((whole - flow.upscale(low, torch.Generator().manual_seed(2))).abs().mean()) > 5 / 255


@pytest.mark.parametrize("name", FLOWS)
def test_a_density_of_vectors_integrates_to_one(name, tmp_path):
    """Of two numbers, over a grid that holds nearly all of it, in the vectors' own unit."""
    make, config = FLOWS[name]
    examples = made(tmp_path, {"train": (vectors(tmp_path).values["train"].numpy()[:, :2].copy(), None)})
    torch.manual_seed(0)
    flow = make(config, examples)
    flow.source(examples, torch.device("cpu"))
    flow = stirred(flow, by=0.1).eval()
    ticks = torch.linspace(-150, 160, 621, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks)
    step = float(ticks[1] - ticks[0])
    assert float(flow.score(grid, torch.Generator()).exp().sum()) * step**2 == pytest.approx(1, abs=0.01)


def test_actnorm_makes_the_first_batch_normal():
    layer = ActNorm(3).train()
    x = 5 + 3 * torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y, _ = layer(x)
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(y.var((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-4)
    again, _ = layer(x + 1)
    assert not torch.allclose(again.mean((0, 2, 3)), torch.zeros(3), atol=0.1)


def test_pictures_that_cannot_be_halved_are_refused(tmp_path):
    with pytest.raises(ValueError, match="3 × 3 pixels cannot be halved"):
        Glow(GlowConfig(), pictures(tmp_path, size=3))
