"""Grids of codes and attention: the book follows, nothing looks ahead, what is kept changes nothing."""

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.cli import main
from neural3d.examples.reading import made
from neural3d.priors.transformer import Block, Transformer, TransformerConfig
from neural3d.priors.vqvae import VqVae, VqVaeConfig
from neural3d.run import configure, load, load_examples
from neural3d.train import Trainer

CPU = torch.device("cpu")


def blobs(count, seed=0):
    """Pictures of 8 × 8: each quarter one of three greys, with a little noise."""
    rng = np.random.default_rng(seed)
    quarters = rng.choice([20, 128, 235], (count, 2, 2))
    whole = quarters.repeat(4, 1).repeat(4, 2) + rng.normal(0, 4, (count, 8, 8))
    return whole.clip(0, 255).astype(np.uint8)[:, None]


@pytest.fixture(scope="module")
def coder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vq")
    np.savez(folder / "blobs.npz", train=blobs(600), test=blobs(100, 1))
    settings = ["channels=16", "length=4", "entries=8", "depth=2", "horizon=500", "lr=5e-3", "batch=50"]
    trainer = Trainer.create(folder / "coder", *configure(folder / "blobs.npz", "vqvae", settings), CPU)
    trainer.fit(500, previews=False)
    return load(folder / "coder", "cpu")


def test_pictures_survive_their_codes(coder):
    x = torch.from_numpy(blobs(100, 1)).float() / 255
    codes = coder.method.encode(x)
    assert codes.shape == (100, 4) and float(codes.max()) < 8
    assert float((coder.method.decode(codes) - x).square().mean()) < 0.1 * float(x.var())


def test_the_book_is_a_moving_average(tmp_path):
    """After a batch, e = m / N of the sums by hand."""
    vq = VqVae(
        VqVaeConfig(length=2, entries=3, channels=4, depth=1, decay=0.9), made(tmp_path, {"train": (blobs(4), None)})
    )
    vq.book.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    vq.counts.fill_(10.0)
    vq.sums.copy_(10 * vq.book)
    z = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.8, -0.2], [0.1, 0.8]]).T.view(1, 2, 2, 2)
    index = vq.nearest(z)
    assert index.flatten().tolist() == [0, 1, 1, 2]
    vq._follow(z, index, torch.Generator())
    expected = (0.9 * 10 * torch.tensor([1.0, 0.0]) + 0.1 * torch.tensor([1.7, -0.1])) / (9 + 0.2)
    assert torch.allclose(vq.book[1], expected, atol=1e-6)


def test_entries_without_use_are_put_where_codes_are(tmp_path):
    vq = VqVae(VqVaeConfig(length=2, entries=4, channels=4, depth=1), made(tmp_path, {"train": (blobs(4), None)}))
    vq.counts.copy_(torch.tensor([50.0, 50.0, 1e-4, 50.0]))
    vq.sums.copy_(vq.counts[:, None] * vq.book)
    z = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    vq._follow(z, vq.nearest(z), torch.Generator().manual_seed(0))
    assert float((z.movedim(1, -1).reshape(-1, 2) - vq.book[2]).norm(dim=1).min()) < 1e-6
    assert float(vq.counts.min()) > 1


def test_gradients_pass_through_the_book(coder):
    """To the encoder, as if the entry were what it said."""
    method = coder.method.train()
    terms, _ = method.loss(_batch(), 0.0, torch.Generator())
    terms["misfit"].backward()
    assert float(method.encoder[0][0].weight.grad.abs().sum()) > 0
    method.zero_grad()
    method.eval()


def _batch():
    from neural3d.examples.examples import ExampleBatch

    return ExampleBatch(torch.from_numpy(blobs(8)).float() / 255, torch.full((8,), -1))


def test_a_prior_of_the_grids_makes_pictures(coder, tmp_path):
    """From the command line: learnt from the run, sampled through it."""
    grids = load_examples(coder.directory)
    assert grids.shape == [1, 2, 2] and grids.counts == {"train": 500, "val": 100, "test": 100}
    settings = ["values=levels", "horizon=400", "width=16", "layers=1", "heads=2", "lr=0.01"]
    main(["train", str(coder.directory), str(tmp_path / "prior"), "--method", "transformer", "--set", *settings])
    main(["sample", str(tmp_path / "prior"), str(tmp_path / "new"), "--count", "20"])
    pictures = np.stack([np.asarray(Image.open(tmp_path / "new" / f"{i:03d}.png")) for i in range(20)])
    assert pictures.shape == (20, 8, 8, 3)
    greys = pictures[:, 1:7:4, 1:7:4, 0].astype(float).flatten()
    near = np.abs(greys[:, None] - [20, 128, 235]).min(1)
    assert np.mean(near < 30) > 0.8


def small(tmp_path, **settings):
    pictures = np.random.default_rng(0).integers(0, 256, (12, 3, 2, 4), dtype=np.uint8)
    examples = made(tmp_path, {"train": (pictures, None)})
    torch.manual_seed(0)
    return Transformer(TransformerConfig(width=24, layers=2, heads=2, **settings), examples), examples


@pytest.mark.parametrize("values", ["binary", "levels"])
def test_a_transformer_sees_nothing_that_comes_later(values, tmp_path):
    """Changing a value changes what is told of later ones alone: rows, then columns, then colours."""
    model, _ = small(tmp_path, values=values)
    generator = torch.Generator().manual_seed(0)
    x = 2 * (torch.rand(1, 3, 2, 4, generator=generator) < 0.5).float() - 1
    before = model.logits(x, None)
    other = x.clone()
    other[0, 1, 1, 2] *= -1
    changed = (model.logits(other, None) - before).abs().amax((0, 2)) > 1e-6  # (C, H, W)
    order = torch.arange(24).view(2, 4, 3).permute(2, 0, 1)
    assert not changed[order <= order[1, 1, 2]].any() and changed[order > order[1, 1, 2]].all()


@pytest.mark.parametrize("values", ["binary", "levels"])
def test_what_is_kept_changes_nothing(values, tmp_path):
    model, _ = small(tmp_path, values=values)
    x = 2 * (torch.rand(2, 3, 2, 4, generator=torch.Generator().manual_seed(1)) < 0.5).float() - 1
    at_once = model.logits(x, None)
    walk = model.walk(2, None)
    for i in range(2):
        for j in range(4):
            for c in range(3):
                told = walk.logits(x, i, j)[:, c]
                assert torch.allclose(told, at_once[:, c, :, i, j], atol=1e-5)


def test_attention_is_the_papers(tmp_path):
    """softmax(Q Kᵀ / √d) V by hand, one head, with a mask."""
    torch.manual_seed(0)
    block = Block(8, 1)
    h = torch.randn(1, 5, 8)
    q, k, v = block.ask(block.first(h)).chunk(3, -1)
    scores = q @ k.transpose(1, 2) / 8**0.5
    scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    after = h + block.out(scores.softmax(-1) @ v)
    after = after + block.narrow(torch.nn.functional.gelu(block.wide(block.second(after))))
    assert torch.allclose(block(h)[0], after, atol=1e-5)
