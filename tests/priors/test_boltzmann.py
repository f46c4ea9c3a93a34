"""Machines with so few units that all their states can be listed."""

import numpy as np
import pytest
import torch
from enumerated import bars, every_picture, examples, number_of, variation

from neural3d.errors import UserError
from neural3d.examples.reading import made
from neural3d.priors.autoregressive import bernoulli
from neural3d.priors.boltzmann import drawn as drawn_bits
from neural3d.priors.dbm import Dbm, DbmConfig
from neural3d.priors.gsn import Gsn, GsnConfig
from neural3d.priors.rbm import Rbm, RbmConfig
from neural3d.run import configure
from neural3d.train import Trainer

CPU = torch.device("cpu")


def machine(path, hidden=20, scale=0.6, **settings) -> Rbm:
    """Random weights, strong enough that its states are far from alike."""
    rbm = Rbm(RbmConfig(hidden=hidden, **settings), examples(path).binarised())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in rbm.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=generator))
        rbm.base.copy_(0.3 * torch.randn(rbm.base.shape, generator=generator))
        rbm.mean.copy_(torch.rand(rbm.mean.shape, generator=generator))
        rbm.visible_bias += rbm.weight.sum(1) / 2  # so that centres change no distribution
        rbm.hidden_bias += rbm.mean @ rbm.weight
    return rbm.eval()


def log_p(rbm: Rbm):
    """(log p of every picture, log Z), by listing."""
    energies = -rbm.free_energy(every_picture().flatten(1)).double().detach()
    return energies - energies.logsumexp(0), float(energies.logsumexp(0))


def test_the_free_energy_is_the_sum_over_hidden_units(tmp_path):
    rbm = machine(tmp_path, hidden=4)
    v = every_picture().flatten(1)[[0, 77, 4095]]
    h = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    joint = (v @ rbm.visible_bias)[:, None] + h @ rbm.hidden_bias + ((v - rbm.mean) @ rbm.weight) @ (h - 0.5).T
    difference = joint.logsumexp(1) + rbm.free_energy(v)  # a constant, of the centres
    assert torch.allclose(difference, difference[:1].expand(3), atol=1e-5)


def test_gibbs_steps_leave_the_distribution_as_it_is(tmp_path):
    """Chains that start from it, drawn from the list, are distributed as before after 20 steps: within 0.02."""
    rbm = machine(tmp_path, scale=1.2)
    truth, _ = log_p(rbm)
    generator = torch.Generator().manual_seed(0)
    v = every_picture()[torch.multinomial(truth.exp(), 400_000, True, generator=generator)].flatten(1)
    before = variation(v.view(-1, 1, 3, 4), truth)
    with torch.no_grad():
        for _ in range(20):
            v = rbm.gibbs(v, rbm.biases(), generator)
    after = variation(v.view(-1, 1, 3, 4), truth)
    assert before < 0.02 and after < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_annealed_importance_sampling_finds_the_partition_function(seed, tmp_path):
    rbm = machine(tmp_path, scale=0.5 + 0.4 * seed, ais_chains=200, ais_steps=1000)
    _, log_z = log_p(rbm)
    assert rbm.partition(torch.Generator().manual_seed(seed)) == pytest.approx(log_z, abs=0.1)


def test_what_an_rbm_draws_and_completes(tmp_path):
    """From a random start, as its list says; given six pixels, as that part of the list says."""
    rbm = machine(tmp_path, scale=0.6, draw_steps=60)
    truth, _ = log_p(rbm)
    assert variation(rbm.draw(100_000, torch.Generator().manual_seed(0)), truth) < 0.05
    known = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    known.view(-1)[:6] = True
    seen = every_picture()[0b101101000000]
    all_ = every_picture()
    fits = (all_ == seen)[:, known[0]].all(1)
    given = torch.where(fits, truth, -torch.inf)
    count = 50_000
    made_up = rbm.complete(seen.expand(count, 1, 3, 4), known.expand(count, 1, 3, 4), torch.Generator().manual_seed(1))
    assert variation(made_up, given - given.logsumexp(0)) < 0.03


@pytest.mark.parametrize("persistent", [True, False])
def test_an_rbm_learns_bars(persistent, tmp_path):
    """Its exact likelihood rises to near that of the data's own distribution."""
    path = tmp_path / "bars.npz"
    np.savez(path, train=bars(3000), test=bars(500, 1))
    settings = ["hidden=20", "lr=0.03", "lr_final=3e-3", "horizon=1500", f"persistent={persistent}", "gibbs=3"]
    trainer = Trainer.create(tmp_path / "run", *configure(path, "rbm", settings), CPU)
    x = trainer.source.values[:2000].float().flatten(1)

    def nats():
        return float(trainer.method.free_energy(x).mean().detach()) + log_p(trainer.method)[1]

    before = nats()
    trainer.fit(1500, previews=False)
    assert nats() < before - 0.5


def deep(path, scale=0.5, **settings) -> Dbm:
    dbm = Dbm(DbmConfig(first=6, second=5, **settings), examples(path).binarised())
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in [*dbm.parameters(), dbm.base]:
            p.copy_(scale * torch.randn(p.shape, generator=generator))
        for mean in (dbm.mean, dbm.mean_first, dbm.mean_second):
            mean.copy_(torch.rand(mean.shape, generator=generator))
    return dbm.eval()


def listed(dbm: Dbm):
    """(log p of every picture, log Z) by listing all units, with the energy of the centred machine."""
    bits = torch.tensor([0.0, 1.0])
    h = torch.cartesian_prod(*[bits] * 11)
    v = every_picture().flatten(1)
    with torch.no_grad():
        b, first, second = dbm.biases()
        h1, h2 = h[:, :6], h[:, 6:]
        alone = h1 @ first + h2 @ second + ((h1 @ dbm.upper) * h2).sum(1)
        logs = ((v @ b)[:, None] + alone + v @ dbm.lower @ h1.T).double().logsumexp(1)
    return logs - logs.logsumexp(0), float(logs.logsumexp(0))


def test_centres_change_energies_by_a_constant(tmp_path):
    dbm = deep(tmp_path)
    generator = torch.Generator().manual_seed(0)
    v, h1, h2 = ((torch.rand(50, n, generator=generator) < 0.5).float() for n in (12, 6, 5))
    b, first, second = dbm.biases()
    plain = -(v @ b + h1 @ first + h2 @ second + (v @ dbm.lower * h1).sum(1) + (h1 @ dbm.upper * h2).sum(1))
    difference = dbm.energy(v, h1, h2) - plain
    assert torch.allclose(difference, difference[:1].expand(50), atol=1e-4)


def test_a_step_of_the_centres_leaves_the_distribution(tmp_path):
    dbm = deep(tmp_path)
    before, _ = listed(dbm)
    dbm.latest.uniform_(generator=torch.Generator().manual_seed(3))
    means = dbm.mean_first.clone()
    for _ in range(20):
        dbm.after_step(0, 0.0, torch.Generator(), [])
    assert not torch.allclose(means, dbm.mean_first, atol=0.01)
    assert torch.allclose(listed(dbm)[0], before, atol=1e-4)


def test_a_deep_machine_knows_its_partition_function_and_a_bound(tmp_path):
    dbm = deep(tmp_path, ais_chains=200, ais_steps=1000)
    truth, log_z = listed(dbm)
    assert dbm.partition(torch.Generator().manual_seed(0)) == pytest.approx(log_z, abs=0.1)
    dbm.log_z = log_z
    bound = dbm.score(every_picture(), torch.Generator()).double()
    assert bool((bound <= truth + 1e-4).all()) and float((truth - bound).mean()) < 0.6


def test_a_deep_machine_draws_what_it_says(tmp_path):
    dbm = deep(tmp_path, draw_steps=80)
    truth, _ = listed(dbm)
    generator = torch.Generator().manual_seed(1)
    by_chance = variation(every_picture()[torch.multinomial(truth.exp(), 60_000, True, generator=generator)], truth)
    assert variation(dbm.draw(60_000, torch.Generator().manual_seed(0)), truth) < 1.1 * by_chance + 0.01


def test_a_deep_machine_learns_bars(tmp_path):
    path = tmp_path / "bars.npz"
    np.savez(path, train=bars(3000), test=bars(500, 1))
    settings = ["first=6", "second=5", "lr=0.03", "lr_final=3e-3", "horizon=1200", "gibbs=3"]
    trainer = Trainer.create(tmp_path / "run", *configure(path, "dbm", settings), CPU)
    numbers = number_of(trainer.source.values[:2000].float())
    before = float(listed(trainer.method)[0][numbers].mean())
    trainer.fit(1200, previews=False)
    assert float(listed(trainer.method)[0][numbers].mean()) > before + 0.4


def test_a_gsn_reaches_a_known_distribution(tmp_path):
    """That of twelve pixels with random ties to each other: within 0.05."""
    generator = torch.Generator().manual_seed(0)
    all_ = every_picture().flatten(1)
    ties = torch.randn(12, 12, generator=generator)
    logs = ((all_ @ ties) * all_).sum(1) / 2 + all_ @ (0.5 * torch.randn(12, generator=generator))
    truth = (logs - logs.logsumexp(0)).double()
    chosen = torch.multinomial(truth.exp(), 400_000, True, generator=generator)
    path = tmp_path / "known.npz"
    np.savez(path, train=(255 * every_picture()[chosen]).to(torch.uint8).numpy())
    settings = ["width=64", "layers=2", "spoilt=0.05", "walkback=1", "batch=1000", "lr=1e-2", "lr_final=1e-4"]
    settings += ["horizon=2500", "draw_steps=150"]
    trainer = Trainer.create(tmp_path / "run", *configure(path, "gsn", settings), CPU)
    trainer.fit(2500, previews=False)
    drawn = trainer.method.eval().draw(100_000, torch.Generator().manual_seed(1))
    assert variation(drawn, truth) < 0.05 < variation(every_picture(), truth) / 10


def test_walkback_learns_to_come_back(tmp_path):
    """From where its own chain goes, the way back to the data is likelier after training by walkback."""
    path = tmp_path / "bars.npz"
    np.savez(path, train=bars(3000, noise=0.0))
    back = {}
    for walkback in (1, 4):
        settings = ["width=64", "spoilt=0.3", f"walkback={walkback}", "lr=3e-3", "horizon=800"]
        trainer = Trainer.create(tmp_path / f"{walkback}", *configure(path, "gsn", settings), CPU)
        trainer.fit(800, previews=False)
        gsn = trainer.method.eval()
        x = torch.from_numpy(bars(2000, 1, noise=0.0)).float().flatten(1) / 255
        generator, now = torch.Generator().manual_seed(0), x
        for _ in range(4):
            logits = gsn.net(2 * gsn.spoil(now, generator) - 1).detach()
            now = drawn_bits(logits, generator)
        back[walkback] = float(bernoulli(logits, x).sum(1).mean())
    assert back[4] > back[1] + 0.1


def test_numbers_are_refused(tmp_path):
    numbers = made(tmp_path, {"train": (np.zeros((5, 3), np.float32), None)})
    with pytest.raises(UserError, match="learns from pictures"):
        Gsn.prepared(numbers, GsnConfig())
