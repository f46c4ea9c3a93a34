"""What holds of every prior in the table, by distributions small enough to list."""

import json
import shutil

import numpy as np
import pytest
import torch
from enumerated import bars, every_picture, examples, variation

from neural3d.checkpoint import load_state
from neural3d.examples.reading import read_examples
from neural3d.methods import method_class
from neural3d.methods.abilities import Likelihood, Sampling
from neural3d.priors import PRIORS
from neural3d.priors.base import Exact
from neural3d.priors.sequences import SequencePrior
from neural3d.run import configure
from neural3d.train import Trainer

CPU = torch.device("cpu")
SMALL = {
    "ae": ["width=16", "latent=4"],
    "beta-vae": ["width=16", "layers=1", "latent=3", "limit=2"],
    "cflow": ["width=8", "steps=1"],
    "eonade": ["width=32", "orders=3", "lr=0.01"],
    "fvsbn": ["lr=0.05"],
    "dbm": ["first=8", "second=6", "draw_steps=4", "ais_steps=500"],
    "glow": ["width=8", "steps=2"],
    "gsn": ["width=16", "draw_steps=3"],
    "lstm": ["hidden=8", "truncate=4"],
    "m2": ["width=16", "layers=1", "latent=3", "decoder=gaussian", "labelled=20"],
    "made": ["width=24", "masks=3", "shuffle=true", "lr=0.03"],
    "pca": ["latent=3"],
    "rbm": ["hidden=8", "draw_steps=4", "ais_steps=500"],
    "realnvp": ["width=8", "blocks=1"],
    "srflow": ["width=8", "steps=2", "features=4"],
    "styleflow": ["width=8", "blocks=1", "steps=2"],
    "transformer": ["width=16", "layers=2", "heads=2", "lr=0.01"],
    "vqvae": ["channels=8", "depth=2", "length=4", "entries=16"],
    "vrnn": ["hidden=8", "latent=2"],
    "wavenet": ["channels=8", "layers=2"],
    "vae": ["width=16", "layers=1", "latent=3", "latents=categorical"],
    "nade": ["width=20", "lr=0.05"],
    "pixelcnn": ["width=8", "layers=2", "lr=0.02"],
    "pixelrnn": ["width=6", "layers=1", "lr=0.02"],
    "rnade": ["width=8", "components=2"],
}
EXACT = [name for name in PRIORS if issubclass(method_class(name), Exact)]  # of zeros and ones, all of them


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(path, train=bars(600), test=bars(200, seed=1))
    return path


def start(data, name, out, *settings):
    return Trainer.create(out, *configure(data, name, [*SMALL[name], "batch=50", *settings], seed=1), CPU)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Each prior after 300 steps, made when first asked for."""
    made = {}

    def of(name):
        if name not in made:
            trainer = start(data, name, tmp_path_factory.mktemp(name) / "run", "horizon=300")
            trainer.fit(300, previews=False)
            made[name] = trainer.method.eval()
        return made[name]

    return of


@pytest.mark.parametrize("name", EXACT)
def test_probabilities_of_all_pictures_sum_to_one(name, trained):
    scores = trained(name).double().score(every_picture().double(), torch.Generator())
    trained(name).float()
    assert float(scores.exp().sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", EXACT)
def test_it_has_learnt_something(name, trained, data):
    """Better than the best of those to which all pixels are independent."""
    held_out = read_examples(data).values["test"].float() / 255
    mean = read_examples(data).values["train"].float().mean(0) / 255
    alone = (held_out * mean.log() + (1 - held_out) * (1 - mean).log()).sum((1, 2, 3)).mean()
    assert float(trained(name).score(held_out, torch.Generator()).mean()) > float(alone) + 0.4


@pytest.mark.parametrize("name", EXACT)
def test_what_it_draws_is_as_likely_as_it_says(name, trained):
    method = trained(name)
    drawn = method.draw(40_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (40_000, 1, 3, 4)
    log_p = method.score(every_picture(), torch.Generator())
    expected = torch.multinomial(log_p.exp(), 40_000, True, generator=torch.Generator().manual_seed(1))
    by_chance = variation(every_picture()[expected], log_p)
    assert variation(drawn, log_p) < 1.2 * by_chance + 0.01


@pytest.mark.parametrize("name", EXACT)
def test_the_cold_draw_what_is_likely(name, trained):
    method = trained(name)
    warm, cold = (method.draw(500, torch.Generator().manual_seed(0), t) for t in (1.0, 0.3))
    warm_score, cold_score = (float(method.score(x, torch.Generator()).mean()) for x in (warm, cold))
    assert cold_score > warm_score + 0.2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Of 8 × 8 pixels and 256 levels, which flows can halve."""
    path = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    rng = np.random.default_rng(0)
    np.savez(path, train=rng.integers(0, 256, (100, 1, 8, 8), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    path = tmp_path_factory.mktemp("sequences") / "sequences.npz"
    np.savez(path, train=np.random.default_rng(0).standard_normal((100, 9, 3)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    np.savez(path, train=np.random.default_rng(0).integers(0, 256, (100, 2, 8, 8), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    path = tmp_path_factory.mktemp("labelled") / "labelled.npz"
    rng = np.random.default_rng(0)
    np.savez(path, train=rng.standard_normal((100, 3)).astype(np.float32), train_labels=rng.integers(0, 2, 100))
    return path


@pytest.mark.parametrize("name", PRIORS)
def test_steps_after_a_resume_are_those_of_one_go(name, pictures, sequences, labelled, pairs, tmp_path):
    examples = sequences if issubclass(method_class(name), SequencePrior) else pictures
    examples = {"styleflow": labelled, "m2": labelled, "cflow": pairs}.get(name, examples)
    first = start(examples, name, tmp_path / "a", "horizon=40")
    first.fit(17, previews=False)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first.fit(40, previews=False)
    again = Trainer.resume(tmp_path / "b", CPU)
    again.preview()  # a sheet of samples, where there are any: it may not change what follows
    again.fit(40, previews=False)
    a, b = ((tmp_path / x / "checkpoint.safetensors").read_bytes() for x in "ab")
    assert a == b


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "lbfgs"])
def test_every_optimiser_learns_and_resumes(optimizer, data, tmp_path):
    rates = {"sgd": 0.5, "momentum": 0.1, "nesterov": 0.1, "adagrad": 0.1, "lbfgs": 1.0}
    settings = [f"optimizer={optimizer}", f"lr={rates.get(optimizer, 0.02)}", "horizon=60"]
    settings += ["batch=1000"] if optimizer == "lbfgs" else []
    first = start(data, "fvsbn", tmp_path / "a", *settings)
    before = float(first.method.score(_x(first), first.generator).mean())
    first.fit(11, previews=False)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first.fit(60, previews=False)
    again = Trainer.resume(tmp_path / "b", CPU)
    again.fit(60, previews=False)
    a, b = (load_state(tmp_path / x / "checkpoint.safetensors")["method"] for x in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert float(first.method.score(_x(first), first.generator).mean()) > before + 0.25


def _x(trainer):
    return trainer.source.values.float() * trainer.source.scale


def test_lbfgs_finds_the_minimum_that_sgd_creeps_to(data, tmp_path):
    """The problem is convex: after 30 steps its gradient has gone."""
    trainer = start(
        data, "fvsbn", tmp_path / "run", "optimizer=lbfgs", "lr=1", "lr_final=1", "batch=1000", "horizon=30"
    )
    trainer.fit(30, previews=False)
    trainer.method.log_likelihood(_x(trainer)).mean().backward()
    assert max(float(p.grad.abs().max()) for p in trainer.method.parameters()) < 2e-3


def test_abilities_are_told(data, tmp_path):
    trainer = start(data, "made", tmp_path / "run", "horizon=2")
    assert isinstance(trainer.method, Likelihood) and isinstance(trainer.method, Sampling)


def test_binarised_the_same_way_in_every_run(tmp_path):
    a, b = (examples(tmp_path).binarised().values["train"] for _ in range(2))
    assert torch.equal(a, b) and set(a.unique().tolist()) == {0, 1}
    assert json.dumps(examples(tmp_path).counts) == '{"train": 600, "test": 200}'
