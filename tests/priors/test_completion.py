"""Missing values drawn given the known ones, by models that go pixel by pixel: against every picture there is."""

import pytest
import torch
from enumerated import bars, every_picture, examples, variation

from neural3d.errors import UserError
from neural3d.examples.reading import made
from neural3d.priors import pixels
from neural3d.priors.pixelcnn import PixelCnn, PixelCnnConfig
from neural3d.priors.pixelrnn import PixelRnn, PixelRnnConfig
from neural3d.priors.transformer import Transformer, TransformerConfig

MODELS = {
    "pixelcnn": lambda e: PixelCnn(PixelCnnConfig(width=8, layers=2), e),
    "pixelrnn": lambda e: PixelRnn(PixelRnnConfig(width=6, layers=1), e),
    "diagonal": lambda e: PixelRnn(PixelRnnConfig(width=6, layers=1, cell="diagonal"), e),
    "transformer": lambda e: Transformer(TransformerConfig(width=16, layers=2, heads=2), e),
}
COUNT = 4000


def untrained(name, path):
    """Random weights, large ones, so that neighbours depend on each other."""
    torch.manual_seed(3)
    model = MODELS[name](examples(path)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pull", [0.0, 3.0])
def test_what_is_drawn_follows_the_posterior(name, pull, tmp_path, monkeypatch):
    """p(missing | known) exp(−pull Σ (missing − guess)² / 2), listed."""
    monkeypatch.setattr(pixels, "PARTICLES", 32)
    model, every = untrained(name, tmp_path), every_picture()
    picture = torch.from_numpy(bars(1, seed=5))[0].float() / 255
    known = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1], [1, 0, 1, 1]]).bool()[None]
    guess = torch.where(known, picture, 0.8)
    drawn = model.complete(
        guess.expand(COUNT, -1, -1, -1), known.expand(COUNT, 1, 3, 4), torch.Generator().manual_seed(0), pull
    )
    assert (drawn[:, known] == picture[known]).all()
    log_p = model.score(every, torch.Generator()) - pull / 2 * ((every - guess).square() * ~known).sum((1, 2, 3))
    log_p = torch.where((every == picture)[:, known].all(1), log_p, -torch.inf).log_softmax(0)
    expected = torch.multinomial(log_p.exp(), COUNT, True, generator=torch.Generator().manual_seed(1))
    assert variation(drawn, log_p) < 1.5 * variation(every[expected], log_p) + 0.02


def test_levels_are_levels_and_near_the_guess(tmp_path):
    """Of 256 levels: a strong pull leaves the nearest level of the guess, and what is known stays as it is."""
    e = made(tmp_path, {"train": (torch.randint(0, 256, (12, 3, 4, 4)).byte().numpy(), None)})
    model = PixelCnn(PixelCnnConfig(width=9, layers=2, values="levels"), e).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 3, 4, 4, generator=generator)
    known = (torch.rand(5, 1, 4, 4, generator=generator) < 0.5).expand(5, 3, 4, 4)
    drawn = model.complete(x, known, generator, 1e9)
    assert torch.equal(drawn[known], x[known])
    assert torch.allclose(drawn, torch.where(known, x, (255 * x).round() / 255), atol=1e-6)
    free = model.complete(x, known, generator)
    assert float((free - x)[~known].abs().mean()) > 0.1
    assert torch.allclose((255 * free[~known]).round() / 255, free[~known], atol=1e-6)


def test_classes_are_refused(tmp_path):
    e = made(tmp_path, {"train": (bars(12), torch.arange(12).numpy() % 2)}, ["a", "b"])
    model = PixelCnn(PixelCnnConfig(width=8, layers=2, conditional=True), e)
    x = torch.zeros(1, 1, 3, 4)
    with pytest.raises(UserError, match="without conditional=true"):
        model.complete(x, x > 0, torch.Generator())
