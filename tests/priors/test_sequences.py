"""Models of sequences: densities that integrate to one, nothing looks ahead, what follows is foretold."""

import numpy as np
import pytest
import torch

from neural3d.examples.reading import made
from neural3d.priors.lstm import Lstm, LstmConfig
from neural3d.priors.vrnn import Vrnn, VrnnConfig, divergence
from neural3d.priors.wavenet import WaveNet, WaveNetConfig
from neural3d.run import configure
from neural3d.train import Trainer

CPU = torch.device("cpu")
MODELS = {
    "wavenet": (WaveNet, WaveNetConfig(channels=8, layers=3)),
    "lstm": (Lstm, LstmConfig(hidden=8)),
    "rnn": (Lstm, LstmConfig(hidden=8, cell="rnn")),
    "vrnn": (Vrnn, VrnnConfig(hidden=8, latent=2)),
}


def turning(count=300, frames=16, seed=0, noise=0.01):
    """Points that run around a circle, each at a speed of its own."""
    rng = np.random.default_rng(seed)
    start, speed = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.2, 0.6, count)
    angle = start[:, None] + speed[:, None] * np.arange(frames)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    return (3 + 2 * circle + noise * rng.standard_normal(circle.shape)).astype(np.float32)


def model(name, path, values=None):
    make, config = MODELS[name]
    examples = made(path, {"train": (turning() if values is None else values, None)})
    torch.manual_seed(0)
    method = make(config, examples)
    method.source(examples, CPU)
    for p in method.parameters():  # last layers say nothing at the start, but are to be tested
        if not bool(p.detach().any()):
            torch.nn.init.normal_(p, 0, 0.1)
    return method.eval()


@pytest.mark.parametrize("name", ["wavenet", "lstm", "rnn"])
def test_a_density_integrates_to_one(name, tmp_path):
    """Of one number in two frames, in its own unit."""
    method = model(name, tmp_path, turning()[:, :2, :1].copy())
    ticks = torch.linspace(-12, 18, 301)
    grid = torch.cartesian_prod(ticks, ticks)[..., None]
    total = method.score(grid, torch.Generator()).double().exp().sum() * float(ticks[1] - ticks[0]) ** 2
    assert float(total) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_looks_ahead(name, tmp_path):
    """What is likely up to a frame does not hang on what comes later."""
    method = model(name, tmp_path)
    x = torch.from_numpy(turning(3))
    other = x.clone()
    other[:, 9:] += 5
    a, b = (method.nats(method.standard(y)[:, :9], torch.Generator().manual_seed(0)) for y in (x, other))
    assert torch.equal(a, b)
    first, second = (method.foretell(y[:, :9], 2) for y in (x, other))
    assert torch.equal(first, second)
    changed = x.clone()
    changed[:, 4] += 1
    assert not torch.allclose(method.foretell(changed[:, :9], 2), first)


@pytest.mark.parametrize("name", ["wavenet", "lstm", "rnn"])
def test_what_is_drawn_step_by_step_has_the_means_that_are_scored(name, tmp_path):
    """The next frame's mean by `foretell` is the place of greatest density."""
    method = model(name, tmp_path)
    x = torch.from_numpy(turning(2))[:, :6]
    best = method.foretell(x, 1)
    at = [torch.cat([x, best + shift], 1) for shift in (0.0, 0.3, -0.3)]
    middle, up, down = (-method.nats(method.standard(y), torch.Generator()) for y in at)
    assert bool((middle > up).all()) and bool((middle > down).all())


@pytest.mark.parametrize("name", ["wavenet", "lstm", "vrnn"])
def test_what_follows_is_foretold(name, tmp_path):
    """Better than that all stays as it was, for frames on end."""
    np.savez(tmp_path / "a.npz", train=turning(600), test=turning(100, seed=1))
    settings = {"wavenet": ["channels=32", "layers=4"], "lstm": ["hidden=64"], "vrnn": ["hidden=64", "latent=4"]}[name]
    settings += ["horizon=500", "lr=5e-3", "lr_final=2e-4", "batch=50"]
    trainer = Trainer.create(tmp_path / "run", *configure(tmp_path / "a.npz", name, settings), CPU)
    trainer.fit(500, previews=False)
    x = torch.from_numpy(turning(100, seed=1))
    foretold = trainer.method.eval().foretell(x[:, :12], 4)
    error = (foretold - x[:, 12:]).norm(dim=-1).mean(0)
    stays = (x[:, 11:12] - x[:, 12:]).norm(dim=-1).mean(0)
    assert bool((error < 0.5 * stays).all()), (error, stays)
    drawn = trainer.method.draw(200, torch.Generator().manual_seed(0))
    radius = (drawn - 3).norm(dim=-1)
    assert drawn.shape == (200, 16, 2) and 1.4 < float(radius.median()) < 2.6


def test_gradients_go_back_through_so_many_frames(tmp_path):
    """The value stays, the gradient of the last stretch no longer reaches the first frames."""
    x = torch.from_numpy(turning(2))
    reach = {}
    for truncate in (4, 16):
        examples = made(tmp_path, {"train": (turning(), None)})
        torch.manual_seed(0)
        method = Lstm(LstmConfig(hidden=8, truncate=truncate), examples)
        torch.nn.init.normal_(method.last.weight)
        y = method.standard(x).requires_grad_()
        total = method.nats(y, torch.Generator()).sum()
        (slope,) = torch.autograd.grad(total, y)
        reach[truncate] = (float(total.detach()), slope[:, 0].clone())
    assert reach[4][0] == pytest.approx(reach[16][0], rel=1e-5)
    assert not torch.allclose(reach[4][1], reach[16][1], atol=1e-6)


def test_gradients_are_scaled_down(tmp_path):
    """With clip=0.5 and sgd, a step's length is at most lr × 0.5."""
    np.savez(tmp_path / "a.npz", train=10 * turning(60))
    settings = ["optimizer=sgd", "lr=0.1", "lr_final=0.1", "clip=0.5", "hidden=8", "horizon=5"]
    trainer = Trainer.create(tmp_path / "run", *configure(tmp_path / "a.npz", "lstm", settings), CPU)
    before = [p.detach().clone() for p in trainer.method.parameters()]
    trainer.fit(1, previews=False)
    moved = sum(float((p.detach() - b).square().sum()) for p, b in zip(trainer.method.parameters(), before)) ** 0.5
    assert moved <= 0.05 * 1.001


def test_the_divergence_of_normals_is_torchs():
    generator = torch.Generator().manual_seed(0)
    a, la, b, lb = (torch.randn(4, 3, generator=generator) for _ in range(4))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(a, la.exp()), normal(b, lb.exp())).sum(1)
    assert torch.allclose(divergence(a, la, b, lb), expected, atol=1e-4)
