"""Priors of a category's latents: new shapes and completions by them, from the command line."""

import numpy as np
import pytest
import torch
import trimesh

from neural3d.cli import main
from neural3d.reconstruct import new_shapes, reconstruct
from neural3d.run import configure, load
from neural3d.train import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Balls of two radii and none between: a bimodal category."""
    folder = tmp_path_factory.mktemp("balls")
    rng = np.random.default_rng(0)
    for i in range(24):
        radius = (0.3, 0.8)[i % 2] + 0.02 * rng.standard_normal()
        (folder / "train").mkdir(exist_ok=True)
        trimesh.creation.icosphere(2, radius).export(folder / "train" / f"{i:02d}.ply")
    settings = ["latent=2", "width=32", "hidden_layers=2", "horizon=500", "shapes=24", "points=64", "latent_lr=0.02"]
    settings += ["octaves=1", "latent_weight=1e-3"]
    trainer = Trainer.create(folder / "run", *configure(folder / "train", "deepsdf", settings), CPU)
    trainer.fit(500, previews=False)
    return load(folder / "run", "cpu")


@pytest.fixture(scope="module")
def prior(run):
    """A flow: nothing normal fits two heaps."""
    out = run.directory.parent / "prior"
    settings = ["horizon=400", "batch=20", "lr=5e-3", "width=8"]
    main(["train", str(run.directory), str(out), "--method", "realnvp", "--set", *settings])
    return load(out, "cpu")


def radii(meshes):
    return np.array([mesh.volume / (4 / 3 * np.pi) for mesh in meshes]) ** (1 / 3)


def test_new_shapes_are_like_those_that_are_known(run, prior):
    """Most lie in one of the heaps; by the normal distribution fewer do."""
    made = radii(new_shapes(run, 24, resolution=24, prior=prior))
    near = np.minimum(abs(made - 0.3), abs(made - 0.8)) < 0.1
    by_normal = radii(new_shapes(run, 24, resolution=24))
    near_by_normal = np.minimum(abs(by_normal - 0.3), abs(by_normal - 0.8)) < 0.1
    assert near.mean() > 0.6 and near.sum() >= near_by_normal.sum()
    assert 0.15 < (made > 0.55).mean() < 0.85


def test_the_commands(run, prior, tmp_path, capsys):
    main(["reconstruct", str(run.directory), str(tmp_path / "new"), "--samples", "2", "--prior", str(prior.directory),
          "--resolution", "24"])  # fmt: skip
    assert len(list((tmp_path / "new").glob("*.glb"))) == 2
    points = trimesh.creation.icosphere(2, 0.8).vertices
    trimesh.PointCloud(points[points[:, 0] > 0.2]).export(tmp_path / "part.ply")
    main(["reconstruct", str(run.directory), str(tmp_path / "part.ply"), str(tmp_path / "whole.ply"), "--prior",
          str(prior.directory), "--resolution", "24"])  # fmt: skip
    whole = trimesh.load(tmp_path / "whole.ply")
    assert radii([whole])[0] == pytest.approx(0.8, abs=0.08)
    main(["sample", str(prior.directory), str(tmp_path / "latents"), "--count", "5"])
    assert np.load(tmp_path / "latents" / "samples.npz")["samples"].shape == (5, 2)
    main(["eval", str(prior.directory)])
    assert "nats" in capsys.readouterr().out


def test_a_prior_of_something_else_is_refused(run, prior, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", x=np.random.default_rng(0).standard_normal((30, 2)))
    main(["train", str(tmp_path / "other.npz"), str(tmp_path / "other"), "--method", "pca", "--set", "latent=1"])
    with pytest.raises(SystemExit) as stopped:
        main(["reconstruct", str(run.directory), str(tmp_path / "new"), "--samples", "2", "--prior",
              str(tmp_path / "other")])  # fmt: skip
    assert stopped.value.code == 2
    assert "not from the latents of" in " ".join(capsys.readouterr().err.split())


def test_a_run_that_teaches_nothing_is_no_data(prior, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(prior.directory), str(tmp_path / "more"), "--method", "pca"])
    assert stopped.value.code == 2
    assert "this run cannot be learnt from by a prior" in " ".join(capsys.readouterr().err.split())


def test_what_is_looked_for_is_made_likelier(run, tmp_path):
    """An energy that likes small balls pulls the answer to what a few points of a large one show."""
    points = trimesh.creation.icosphere(1, 0.8).vertices
    trimesh.PointCloud(points).export(tmp_path / "few.ply")
    free = radii([reconstruct(run, tmp_path / "few.ply", resolution=24)])[0]
    small = run.method.latents[::2].detach().mean(0)
    run.method.energy = lambda z: 1e6 * (z - small).square().sum(-1)
    pulled = radii([reconstruct(run, tmp_path / "few.ply", resolution=24)])[0]
    run.method.energy = None
    assert free == pytest.approx(0.8, abs=0.05) and pulled < 0.72
