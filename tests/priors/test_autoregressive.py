"""Models that tell one value after another: none looks ahead, and what is kept while drawing changes nothing."""

from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from enumerated import every_picture, examples

from neural3d.cli.sample import Sample
from neural3d.errors import UserError
from neural3d.evaluate.prior import evaluate_prior
from neural3d.examples.examples import ExampleBatch
from neural3d.examples.reading import made
from neural3d.methods import method_class
from neural3d.priors.autoregressive import bernoulli
from neural3d.priors.eonade import Eonade, EonadeConfig
from neural3d.priors.nade import Nade, NadeConfig
from neural3d.priors.pixelcnn import PixelCnn
from neural3d.run import configure, load
from neural3d.train import Trainer

CPU = torch.device("cpu")
PIXELS = {  # those that go from pixel to pixel
    "pixelcnn": ["width=6", "layers=3"],
    "pixelrnn": ["width=6", "layers=2", "cell=row"],
    "pixelrnn diagonal": ["width=6", "layers=2", "cell=diagonal"],
}


def pictures(shape, count=60, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return made(Path("pictures"), {s: (values, np.arange(count) % 3) for s in ("train", "test")})


def untrained(name, shape, **settings):
    """With parameters that leave nothing at zero."""
    torch.manual_seed(0)
    kind = method_class(name.split()[0])
    changes = dict(text.split("=") for text in PIXELS[name]) | settings
    changes = {key: int(value) if str(value).isdecimal() else value for key, value in changes.items()}
    config = kind.Config(**changes)
    model = kind(config, kind.prepared(pictures(shape), config)).double().eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return model


def in_order(model):
    """(C, H, W): when each value's turn is."""
    c, h, w = model.colours, model.height, model.width
    return torch.arange(c * h * w).view(h, w, c).permute(2, 0, 1)


@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 4, 5)])
def test_a_value_depends_on_all_before_it_and_on_no_other(name, shape):
    model = untrained(name, shape, layers=6, width=18)
    x = torch.randn(1, *shape, dtype=torch.float64).requires_grad_()
    turn = in_order(model)
    logits = model.logits(x, None)[0, :, 0]
    for c, i, j in [(0, 0, 0), (0, 2, 3), (shape[0] - 1, 1, 4), (shape[0] - 1, shape[1] - 1, shape[2] - 1)]:
        (slope,) = torch.autograd.grad(logits[c, i, j], x, retain_graph=True)
        assert torch.equal(slope[0] != 0, turn < turn[c, i, j]), (c, i, j)


@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("values", ["binary", "levels"])
def test_what_is_kept_while_drawing_changes_nothing(name, values):
    model = untrained(name, (3, 4, 5), values=values, conditional=True)
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    label = torch.tensor([0, 2])
    with torch.no_grad():
        whole, walk, so_far = model.logits(x, label), model.walk(2, label), torch.zeros_like(x)
        for turn in in_order(model).flatten().argsort().tolist():
            c, i, j = np.unravel_index(turn, (3, 4, 5))
            logits = walk.logits(so_far, i, j)[:, c]
            torch.testing.assert_close(logits, whole[:, c, :, i, j], rtol=0, atol=1e-12)
            so_far[:, c, i, j] = x[:, c, i, j]


@pytest.mark.parametrize("name", PIXELS)
def test_probabilities_of_colours_sum_to_one(name):
    """Twelve values as four pixels of three colours."""
    model = untrained(name, (3, 2, 2))
    assert float(
        model.score(every_picture().double().view(-1, 3, 2, 2), torch.Generator()).exp().sum()
    ) == pytest.approx(1)


@pytest.mark.parametrize("name", PIXELS)
def test_probabilities_of_levels_sum_to_one(name):
    model = untrained(name, (1, 1, 2), values="levels")
    level = torch.arange(256, dtype=torch.float64) / 255
    all_pairs = torch.cartesian_prod(level, level).view(-1, 1, 1, 2)
    total = sum(float(model.score(x, torch.Generator()).exp().sum()) for x in all_pairs.split(8192))
    assert total == pytest.approx(1)


@pytest.mark.parametrize("name", PIXELS)
def test_probabilities_of_a_model_of_classes_sum_to_one_over_all(name):
    model = untrained(name, (1, 3, 4), conditional=True)
    model.shares.copy_(torch.tensor([0.5, 0.0, 0.5]))
    assert float(model.score(every_picture().double(), torch.Generator()).exp().sum()) == pytest.approx(1)


def test_no_logit_of_nade_looks_ahead():
    """Nor does a step of the kernel: turning a value changes later logits alone, and all of those."""
    torch.manual_seed(0)
    config = NadeConfig(width=20)
    model = Nade(config, Nade.prepared(pictures((1, 3, 4)), config))
    x = (torch.rand(1, 12) < 0.5).float()
    before = model.logits(x)
    for d in range(12):
        turned = x.clone()
        turned[0, d] = 1 - turned[0, d]
        changed = model.logits(turned)[0] != before[0]
        assert changed.tolist() == [i > d for i in range(12)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Class 0 is dark, class 1 bright."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    bright = rng.random((400, 1, 2, 3)) < np.where(labels, 0.9, 0.1)[:, None, None, None]
    np.savez(folder / "lit.npz", train=255 * bright.astype(np.uint8), train_labels=labels)
    return folder / "lit.npz"


@pytest.mark.parametrize("name", PIXELS)
def test_pictures_of_a_class(name, data, tmp_path):
    settings = [*PIXELS[name], "conditional=true", "horizon=100", "lr=0.03"]
    trainer = Trainer.create(tmp_path / "run", *configure(data, name.split()[0], settings, seed=1), CPU)
    trainer.fit(100, previews=False)
    method = trainer.method.eval()
    dark, bright, any_ = (method.draw(300, torch.Generator().manual_seed(0), label=k) for k in (0, 1, None))
    assert float(dark.mean()) < 0.2 and float(bright.mean()) > 0.8
    assert 0.4 < float((any_.mean((1, 2, 3)) > 0.5).float().mean()) < 0.6
    Sample(tmp_path / "run", tmp_path / "out", count=3, label="1").run()
    assert (tmp_path / "out" / "sheet.png").exists()
    with pytest.raises(UserError, match="unknown class '7'; known: 0, 1"):
        Sample(tmp_path / "run", tmp_path / "out", label="7").run()


@pytest.mark.parametrize("name", ["fvsbn", "pixelcnn"])
def test_a_run_that_knows_no_classes_says_so(name, data, tmp_path):
    Trainer.create(tmp_path / "run", *configure(data, name, ["horizon=1"], seed=1), CPU).fit(1, previews=False)
    with pytest.raises(UserError, match="learnt without labels, or cannot tell classes apart"):
        Sample(tmp_path / "run", tmp_path / "out", label="1").run()


def test_classes_need_labels():
    unlabelled = made(Path("pictures"), {"train": (np.zeros((9, 1, 3, 4), np.uint8), None)})
    with pytest.raises(UserError, match="no labels"):
        PixelCnn(PixelCnn.Config(conditional=True), unlabelled)


def test_a_few_examples_are_enough_where_each_takes_long(data, tmp_path):
    settings = ["horizon=1", "width=8", "orders=2", "scored=7"]
    Trainer.create(tmp_path / "run", *configure(data, "eonade", settings, seed=1), CPU).fit(1, previews=False)
    protocol = evaluate_prior(load(tmp_path / "run"))["protocol"]
    assert (protocol["examples"], protocol["of"]) == (7, 50)
    assert protocol["likelihood"] == "exact, of a mixture over 2 orders"
    assert evaluate_prior(load(tmp_path / "run"), limit=9)["protocol"]["examples"] == 9


def test_what_an_orderless_model_learns_by_is_the_mean_over_all_orders(tmp_path):
    """Of −log p(x): over orders, each set of values comes first as often as any other of its size."""
    torch.manual_seed(0)
    model = Eonade(EonadeConfig(width=8), examples(tmp_path).binarised())
    x, seen = every_picture().flatten(1)[[1234]], every_picture().flatten(1)[:-1]  # all sets but that of all values
    count, of_size = seen.sum(1), torch.tensor([comb(12, int(k)) for k in seen.sum(1)])
    with torch.no_grad():
        logits = model.last(model.features((x * seen) @ model.values + seen @ model.seen + model.bias))
        exact = -((bernoulli(logits, x) * (1 - seen)).sum(1) / (12 - count) / of_size).sum()
        batch = ExampleBatch(x.expand(100_000, -1), torch.zeros(100_000))
        loss = model.loss(batch, 0.0, torch.Generator().manual_seed(0))[0]["nats"]
    assert float(loss) == pytest.approx(float(exact), rel=5e-3)
