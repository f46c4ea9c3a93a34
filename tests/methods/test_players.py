"""Methods of other kinds than those of one scene, through the one loop: an adversarial one, and one of a likelihood."""

import json
import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from torch import nn
from torch.nn.functional import softplus

from neural3d import train
from neural3d.checkpoint import load_state
from neural3d.errors import UserError
from neural3d.fields.average import Average
from neural3d.methods import METHODS
from neural3d.methods.base import Method
from neural3d.methods.players import Player, load_moments, moments, only, require_names
from neural3d.run import configure, load
from neural3d.shapes.shape import Shape
from neural3d.train import Trainer

CPU = torch.device("cpu")
MODES, RADIUS, SPREAD = 8, 2.0, 0.06


class Points:
    """Draws points of a cloud, with replacement."""

    unit = "points"

    def __init__(self, cloud: Shape, device: torch.device):
        self.points = torch.from_numpy(cloud.vertices).float().to(device)

    def draw(self, count, generator):
        return self.points[torch.randint(len(self.points), (count,), generator=generator)]

    def state(self):
        return {}

    def load_state(self, state):
        pass


@dataclass(frozen=True)
class RingGanConfig:
    horizon: int = 900
    lr: float = 4e-3
    critic_updates: int = 2
    penalty: float = 0.03  # R1's γ / 2


class RingGan(Method):
    """A generative adversarial network in the plane (Goodfellow et al. 2014), with the logistic loss and R1 (Mescheder
    et al. 2018). Its losses leave it to the trainer whose parameters they move: they detach nothing.
    """

    Config = RingGanConfig
    takes = Shape
    batch_size = 256

    def __init__(self, config, scene):
        super().__init__(config, scene)
        self.generator = layers(4, 2)
        self.critic = layers(2, 1)
        self.average = Average(self.generator, decay=0.98)

    def source(self, scene, device):
        return Points(scene, device)

    def players(self):
        rate = dict(lr=self.config.lr, lr_final=self.config.lr / 10, betas=(0.5, 0.99))
        return [
            Player([dict(params=list(self.critic.parameters()), **rate)], self.critic_loss, "critic",
                   self.config.critic_updates),
            Player([dict(params=list(self.generator.parameters()), **rate)], self.generator_loss, "generator"),
        ]  # fmt: skip

    def critic_loss(self, batch, progress, generator):
        real = batch[:, :2].clone().requires_grad_()
        of_real, of_fake = self.critic(real), self.critic(self.generator(noise(len(batch), generator)))
        (slope,) = torch.autograd.grad(of_real.sum(), real, create_graph=True)
        terms = {
            "real": softplus(-of_real).mean(),
            "fake": softplus(of_fake).mean(),
            "penalty": self.config.penalty * slope.square().sum(1).mean(),
        }
        return terms, {"of_real": of_real.detach().mean()}

    def generator_loss(self, batch, progress, generator):
        fooled = self.critic(self.generator(noise(len(batch), generator)))
        return {"fooled": softplus(-fooled).mean()}, {"of_fake": fooled.detach().mean()}

    def after_step(self, step, progress, generator, players):
        self.average.update(self.generator)

    @torch.no_grad()
    def points(self, count, generator):
        return self.average.mean(noise(count, generator))


def layers(inputs, outputs, width=64):
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, outputs),
    )


def noise(count, generator):
    return torch.randn(count, 4, generator=generator)


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """A cloud of eight Gaussians on a circle."""
    rng = np.random.default_rng(0)
    angles = 2 * np.pi * rng.integers(MODES, size=4000) / MODES
    plane = RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1) + SPREAD * rng.standard_normal((4000, 2))
    path = tmp_path_factory.mktemp("ring") / "ring.ply"
    trimesh.PointCloud(np.column_stack([plane, np.zeros(4000)])).export(path)
    return path


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(METHODS, "ring-gan", f"{__name__}:RingGan")
    monkeypatch.setitem(METHODS, "axes-of-points", f"{__name__}:Pca")


def start(data, method, out, *settings):
    return Trainer.create(out, *configure(data, method, settings, seed=1), CPU)


def shares_of_modes(method) -> np.ndarray:
    """What share of what is generated lies within four standard deviations of each Gaussian."""
    points = method.points(4000, torch.Generator().manual_seed(0)).double()
    inverse = torch.linalg.inv(method.scene.scene_from_capture)
    plane = points @ inverse[:2, :2].T + inverse[:2, 3]
    angles = 2 * math.pi * torch.arange(MODES) / MODES
    centres = RADIUS * torch.stack([angles.cos(), angles.sin()], 1).double()
    return (torch.cdist(plane, centres) < 4 * SPREAD).double().mean(0).numpy()


@pytest.fixture(scope="module")
def trained(ring, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "ring-gan", f"{__name__}:RingGan")
        trainer = start(ring, "ring-gan", tmp_path_factory.mktemp("gan") / "run")
        trainer.fit(trainer.method.config.horizon, previews=False)
        return trainer


def test_a_generator_covers_all_modes(trained):
    """Evenly smeared over the circle, each mode would have 4 %; over the disc, 1.4 %."""
    shares = shares_of_modes(trained.method)
    assert shares.min() > 0.03 and shares.sum() > 0.45
    last = json.loads(trained.metrics.read_text().splitlines()[-1])
    assert last["loss"] == pytest.approx(last["critic_loss"] + last["generator_loss"])
    assert abs(last["of_real"]) < 2 and abs(last["of_fake"]) < 2  # neither has won


def test_the_figure_falls_where_losses_reach_the_other_player(ring, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "only", lambda player, players: None)
    trainer = start(ring, "ring-gan", tmp_path / "run")
    trainer.fit(300, previews=False)
    assert shares_of_modes(trainer.method).min() < 0.01


def test_a_game_resumes_to_the_byte_with_its_average(ring, tmp_path):
    start(ring, "ring-gan", tmp_path / "whole").fit(30)
    start(ring, "ring-gan", tmp_path / "half").fit(17)
    resumed = Trainer.resume(tmp_path / "half", CPU)
    state = load_state(tmp_path / "half" / "checkpoint.safetensors")
    assert state["optimizer"].keys() == {"critic", "generator"}
    assert state["optimizer"]["critic"]["0"]["step"] == 2 * 17 and state["optimizer"]["generator"]["0"]["step"] == 17
    for name, mean in resumed.method.average.mean.named_parameters():
        torch.testing.assert_close(mean, state["method"][f"average.mean.{name}"], rtol=0, atol=0)
    resumed.fit(30)
    whole, half = ((tmp_path / p / "checkpoint.safetensors").read_bytes() for p in ("whole", "half"))
    assert whole == half
    assert load(tmp_path / "half", "cpu").step == 30


def test_moments_of_another_game_are_refused(tmp_path):
    weight = nn.Parameter(torch.ones(2))
    groups = [dict(params=[weight], lr=1.0, lr_final=1.0)]
    alone, named = Player(groups, None), Player(groups, None, "critic")
    weight.grad = torch.ones(2)
    alone.optimizer.step()
    assert moments([alone]).keys() == {"0"}, "as in checkpoints from before players had names"
    other = Player(groups, None)
    load_moments([other], moments([alone]), tmp_path)
    assert other.optimizer.state[weight]["step"] == 1
    with pytest.raises(UserError, match=r"not of one run .*keeps moments of 0"):
        load_moments([named], moments([alone]), tmp_path)
    load_moments([named], {}, tmp_path)  # of a run that was stopped before its first step


@pytest.mark.parametrize("names", [["a", "a"], ["", "a"], ["a/b"]])
def test_players_have_names_of_their_own(names):
    with pytest.raises(ValueError, match="names of their own"):
        require_names([SimpleNamespace(name=name) for name in names])
    require_names([SimpleNamespace(name="")])


def test_a_turn_is_for_one_players_parameters_from_zero():
    """Also where both have a parameter in common, and where a kernel adds to a gradient past autograd."""
    mine, yours, ours = (nn.Parameter(torch.ones(2)) for _ in range(3))
    rate = dict(lr=1e-3, lr_final=1e-3)
    a, b = (Player([dict(params=[p, ours], **rate)], None, name) for p, name in ((mine, "a"), (yours, "b")))
    mine.grad = torch.ones(2)
    only(a, [a, b])
    assert mine.grad.tolist() == [0, 0]
    (mine * yours * ours).sum().backward()
    assert mine.grad.tolist() == ours.grad.tolist() == [1, 1] and yours.grad is None
    only(b, [a, b])
    (mine * yours * ours).sum().backward()
    assert yours.grad.tolist() == ours.grad.tolist() == [1, 1] and mine.grad.tolist() == [1, 1]


# --- a likelihood ---


@dataclass(frozen=True)
class PcaConfig:
    horizon: int = 600
    lr: float = 0.03


class Pca(Method):
    """Probabilistic principal components (Tipping & Bishop 1999): x ~ N(μ, w wᵀ + σ² I), by descent of −log p."""

    Config = PcaConfig
    takes = Shape
    batch_size = 512

    def __init__(self, config, scene):
        super().__init__(config, scene)
        self.mean, self.axis = nn.Parameter(torch.zeros(3)), nn.Parameter(0.1 * torch.randn(3, 1))
        self.log_noise = nn.Parameter(torch.zeros(()))

    def source(self, scene, device):
        return Points(scene, device)

    def players(self):
        return [Player([dict(params=list(self.parameters()), lr=self.config.lr, lr_final=1e-3)], self.loss)]

    def log_likelihood(self, x):
        noise = (2 * self.log_noise).exp().expand(3)
        return torch.distributions.LowRankMultivariateNormal(self.mean, self.axis, noise).log_prob(x)

    def loss(self, batch, progress, generator):
        return {"surprise": -self.log_likelihood(batch).mean()}, {}


def test_descent_of_a_likelihood_finds_its_known_maximum(tmp_path):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    points = rng.standard_normal((3000, 3)) * [1.0, 0.3, 0.3] @ turn.T
    trimesh.PointCloud(points).export(tmp_path / "cloud.ply")
    trainer = start(tmp_path / "cloud.ply", "axes-of-points", tmp_path / "run")
    trainer.fit(600, previews=False)
    x = trainer.source.points.double()
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    noise = values[:2].mean()
    best = -0.5 * (3 * math.log(2 * math.pi) + math.log(values[2]) + 2 * math.log(noise) + 3)
    method = trainer.method
    assert float(method.log_likelihood(x.float()).detach().mean()) == pytest.approx(best, abs=0.005)
    assert float((2 * method.log_noise.detach()).exp()) == pytest.approx(float(noise), rel=0.05)
    axis = method.axis.detach().double()[:, 0]
    assert float(axis.norm() ** 2) == pytest.approx(float(values[2] - noise), rel=0.1)
    assert abs(float(axis @ vectors[:, 2]) / float(axis.norm())) > 0.999
