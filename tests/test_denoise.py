"""`neural3d denoise`: noise out of pictures larger than the prior's, missing parts drawn given the rest."""

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.cli import main
from neural3d.denoise import pictures_in, restored
from neural3d.errors import UserError
from neural3d.run import configure, load
from neural3d.train import Trainer

CPU = torch.device("cpu")


def stripes(count, size, seed):
    """Pictures of horizontal or vertical stripes of two pixels, black and white, anywhere."""
    rng = np.random.default_rng(seed)
    line = ((np.arange(size + 4)[None] + rng.integers(0, 4, (count, 1))) // 2 % 2)[:, :size]
    across = rng.random(count) < 0.5
    return 255 * np.where(across[:, None, None], line[:, None, :], line[:, :, None]).astype(np.uint8)


def trained(folder, method, settings, steps, size=8):
    path = folder / "stripes.npz"
    pictures = np.broadcast_to(stripes(800, size, 0), (800, size, size)).copy()
    np.savez(path, train=pictures)
    settings = [f"horizon={steps}", "lr=3e-3", *settings]
    trainer = Trainer.create(folder / method, *configure(path, method, settings), CPU)
    trainer.fit(steps, previews=False)
    return load(folder / method, "cpu")


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("ae"), "ae", ["noise=0.3", "latent=16", "width=64"], 1000)


@pytest.fixture(scope="module")
def completer(tmp_path_factory):
    settings = ["hidden=48", "draw_steps=300", "gibbs=5", "lr=0.02"]
    return trained(tmp_path_factory.mktemp("rbm"), "rbm", settings, 3000)


def noisy(path, size, seed=3):
    clean = stripes(1, size, seed)[0].astype(float)
    noise = 60 * np.random.default_rng(seed).standard_normal(clean.shape)
    Image.fromarray((clean + noise).clip(0, 255).astype(np.uint8)).save(path)
    return clean / 255


@pytest.mark.parametrize("size", [8, 21])
def test_noise_is_taken_out_of_pictures_of_any_size(size, denoiser, tmp_path):
    clean = noisy(tmp_path / "a.png", size)
    seen = np.asarray(Image.open(tmp_path / "a.png")) / 255
    ((_, (result,)),) = restored(denoiser, [tmp_path / "a.png"])
    assert result.shape == (1, size, size)
    assert np.square(result[0].numpy() - clean).mean() < np.square(seen - clean).mean() / 2


def torn(path, seed=5):
    """A picture whose lower half is transparent; (the whole one, where it is known)."""
    whole = stripes(1, 8, seed)[0]
    known = np.zeros((8, 8), np.uint8)
    known[:4] = 255
    Image.fromarray(np.dstack([whole, whole, whole, known])).save(path)
    return whole / 255, known > 0


@pytest.mark.parametrize("seed", [5, 6, 7, 8])
def test_what_is_missing_is_drawn_given_the_rest(seed, completer, tmp_path):
    whole, known = torn(tmp_path / "a.png", seed)
    ((_, answers),) = restored(completer, [tmp_path / "a.png"], samples=9)
    answers = torch.stack(answers)[:, 0].numpy()
    assert (answers[:, known] == whole[known]).all()
    right = (answers == whole)[:, ~known].mean(1)
    assert np.median(right) > 0.9, right


def test_masks_of_what_is_known_may_lie_beside(completer, tmp_path):
    whole, known = torn(tmp_path / "a.png")
    (tmp_path / "known").mkdir()
    Image.fromarray((255 * whole).astype(np.uint8)).save(tmp_path / "plain.png")
    Image.fromarray((255 * known).astype(np.uint8)).save(tmp_path / "known" / "plain.png")
    ((_, (by_mask,)),) = restored(completer, [tmp_path / "plain.png"], unknown=tmp_path / "known")
    ((_, (by_alpha,)),) = restored(completer, [tmp_path / "a.png"])
    assert torch.equal(by_mask, by_alpha)
    with pytest.raises(UserError, match="no picture called a"):
        list(restored(completer, [tmp_path / "a.png"], unknown=tmp_path / "known"))


def test_the_command_writes_what_it_says(completer, denoiser, tmp_path, capsys):
    torn(tmp_path / "a.png")
    main(["denoise", str(tmp_path), str(tmp_path / "out"), "--prior", str(completer.directory), "--samples", "3"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_0.png", "a_1.png", "a_2.png"]
    assert Image.open(tmp_path / "out" / "a_0.png").size == (8, 8)
    assert "3 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["{a}", "{out}"], "needs --prior"),
        (["{missing}", "{out}", "--prior", "{rbm}"], "does not exist"),
        (["{empty}", "{out}", "--prior", "{rbm}"], "no pictures"),
        (["{large}", "{out}", "--prior", "{rbm}"], "16 × 16 pixels of grey, but"),
        (["{a}", "{out}", "--prior", "{ae}"], "cannot fill in what is missing"),
        (["{small}", "{out}", "--prior", "{ae}"], "smaller than what the prior learnt"),
    ],
)
def test_bad_input_gets_a_sentence(arguments, said, completer, denoiser, tmp_path, capsys):
    torn(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((16, 16, 2), np.uint8), "LA").save(tmp_path / "large.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "small.png")
    known = {name: tmp_path / name for name in ("missing", "empty", "out")}
    known |= {name: tmp_path / f"{name}.png" for name in ("a", "large", "small")}
    known |= {"rbm": completer.directory, "ae": denoiser.directory}
    with pytest.raises(SystemExit) as stopped:
        main(["denoise", *(word.format(**known) for word in arguments)])
    assert stopped.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_single_picture_will_do(tmp_path):
    noisy(tmp_path / "a.png", 8)
    assert pictures_in(tmp_path / "a.png") == [tmp_path / "a.png"]
