"""Boundaries between codes, where they are known; and pictures moved across one."""

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.priors.boundary import find_boundary


def codes(count=400, overlap=0.0, seed=0):
    """Of 3 numbers; what has the attribute lies beyond 2x + y = 1, but for some in the wrong place."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((count, 3)) * 2
    side = (z @ [2, 1, 0] - 1) / np.sqrt(5)
    z, side = z[abs(side) > 0.2], side[abs(side) > 0.2]
    return z, (side > 0) ^ (rng.random(len(z)) < overlap)


@pytest.mark.parametrize("way", ["perceptron", "logistic", "map"])
def test_the_plane_is_found(way):
    z, has = codes()
    found = find_boundary(z, has, way)
    assert float(found.normal @ torch.tensor([2.0, 1, 0])) / 5**0.5 > 0.98
    assert found.offset == pytest.approx(1 / 5**0.5, abs=0.25)
    moved = found.moved(torch.from_numpy(z).float(), 1.5)
    assert torch.allclose(moved @ found.normal - found.offset, torch.tensor(1.5 * found.deviation), atol=1e-4)
    across = torch.linalg.cross(found.normal, torch.tensor([0.0, 0, 1]))
    assert torch.allclose(moved @ across, torch.from_numpy(z).float() @ across, atol=1e-4)


def test_a_perceptron_says_when_no_plane_separates():
    z, has = codes(overlap=0.1)
    with pytest.raises(UserError, match="stay on the wrong side"):
        find_boundary(z, has, "perceptron")
    found = find_boundary(z, has, "logistic")
    assert float(found.normal @ torch.tensor([2.0, 1, 0])) / 5**0.5 > 0.95


def test_one_side_alone_is_refused():
    z, has = codes()
    with pytest.raises(UserError, match="that do not"):
        find_boundary(z, np.ones_like(has), "map")


def test_sampled_pictures_move_towards_a_class(tmp_path, capsys):
    """Dark and bright pictures: brighter the farther towards the bright class."""
    rng = np.random.default_rng(0)
    for i in range(120):
        kind, grey = ("bright", rng.integers(150, 250)) if i % 2 else ("dark", rng.integers(5, 105))
        folder = tmp_path / "pictures" / kind
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((grey + rng.integers(-5, 6, (4, 4))).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    run = str(tmp_path / "run")
    main(["train", str(tmp_path / "pictures"), run, "--method", "vae", "--set", "decoder=gaussian", "latent=4",
          "width=32", "layers=1", "horizon=600", "lr=3e-3"])  # fmt: skip
    greys = {}
    for value in (-2, 2):
        out = tmp_path / f"at{value}"
        main(["sample", run, str(out), "--count", "12", "--toward", f"bright={value}"])
        greys[value] = np.mean([np.asarray(Image.open(out / f"{i:03d}.png")) for i in range(12)])
    assert greys[2] > greys[-2] + 60
    for toward, said in (("stone=1", "unknown class 'stone'"), ("bright", "NAME=VALUE")):
        with pytest.raises(SystemExit) as stopped:
            main(["sample", run, str(tmp_path / "no"), "--toward", toward])
        assert stopped.value.code == 2
        assert said in " ".join(capsys.readouterr().err.split())


def test_sampled_pictures_move_along_an_attribute_of_a_few_examples(tmp_path, capsys):
    """Those of which a table tells it, by each way that finds a plane; above and below the median."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = []
    for i in range(120):
        grey = rng.integers(5, 250)
        Image.fromarray((grey + rng.integers(-5, 6, (4, 4))).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        rows += [f"{i},{grey}"] if i % 3 == 1 else []
    (folder / "attributes.csv").write_text("\n".join(["name,light", *rows]))
    run = str(tmp_path / "run")
    main(["train", str(folder), run, "--method", "pca", "--set", "latent=3"])
    for way in ("logistic", "map"):
        greys = {}
        for value in (-1.5, 1.5):
            out = tmp_path / f"{way}{value}"
            main(["sample", run, str(out), "--count", "12", "--toward", f"light={value}", "--boundary", way])
            greys[value] = np.mean([np.asarray(Image.open(out / f"{i:03d}.png")) for i in range(12)])
        assert greys[1.5] > greys[-1.5] + 80
    with pytest.raises(SystemExit):
        main(["sample", run, str(tmp_path / "no"), "--toward", "ligt=1"])
    assert "unknown attribute 'ligt'; did you mean 'light'" in " ".join(capsys.readouterr().err.split())
