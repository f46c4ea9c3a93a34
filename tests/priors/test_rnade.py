import math
from pathlib import Path

import numpy as np
import pytest
import torch

from neural3d.examples.reading import made
from neural3d.priors.rnade import Rnade, RnadeConfig
from neural3d.run import configure
from neural3d.train import Trainer

CPU = torch.device("cpu")


def crescent(count, seed=0):
    """(x, y, z): x ~ N(5, 2²), y ~ N(x²/4, 1), which x tells, and z at one of two places, which takes a mixture."""
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 2, count)
    z = rng.choice([-30.0, 30.0], count) + rng.normal(0, 1, count)
    return np.stack([x, rng.normal(x**2 / 4, 1), z], 1).astype(np.float32)


def entropy():
    """Of `crescent`, in nats."""
    gauss = math.log(2 * math.pi * math.e) / 2
    return gauss + math.log(2) + gauss + math.log(2) + gauss


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rnade")
    np.savez(folder / "crescent.npz", train=crescent(4000), test=crescent(1000, seed=1))
    settings = ["width=30", "components=3", "lr=0.02", "horizon=600", "batch=200"]
    trainer = Trainer.create(folder / "run", *configure(folder / "crescent.npz", "rnade", settings), CPU)
    trainer.fit(600, previews=False)
    return trainer.method.eval()


def test_it_comes_near_the_entropy(trained):
    score = float(trained.score(torch.from_numpy(crescent(4000, seed=2)), torch.Generator()).mean())
    assert -entropy() - 0.25 < score < -entropy() + 0.05


def test_draws_are_as_likely_as_data(trained):
    with torch.no_grad():
        drawn = trained.draw(4000, torch.Generator().manual_seed(0))
        cold = trained.draw(500, torch.Generator().manual_seed(0), 0.3)
    score, cold_score = (float(trained.score(x, torch.Generator()).mean()) for x in (drawn, cold))
    assert score == pytest.approx(-entropy(), abs=0.3) and cold_score > score + 0.5
    assert float(drawn[:, 0].mean()) == pytest.approx(5, abs=0.3)
    assert float((drawn[:, 2] > 0).float().mean()) == pytest.approx(0.5, abs=0.06)


def plane():
    torch.manual_seed(0)
    examples = made(Path("plane"), {"train": (np.zeros((9, 2), np.float32), None)})
    model = Rnade(RnadeConfig(width=5, components=2), examples).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return model


def test_density_integrates_to_one():
    line = torch.linspace(-12, 12, 481, dtype=torch.float64)
    log_p = plane().score(torch.cartesian_prod(line, line), torch.Generator())
    assert float(log_p.exp().sum()) * 0.05**2 == pytest.approx(1, abs=1e-3)


def test_no_value_sees_itself_or_later_ones():
    model = plane()
    y = torch.randn(1, 2, dtype=torch.float64).requires_grad_()
    for of_mixture in model.mixtures(model.sums(y), slice(None)):
        first, second = (torch.autograd.grad(x.sum(), y, retain_graph=True)[0][0] for x in of_mixture[0])
        assert first.abs().max() < 1e-15 and second[1].abs() < 1e-15 < second[0].abs()
