"""Two flows side by side: what each sees, and pairs whose second is the first in a brightness of its own."""

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.examples.reading import made, read_examples
from neural3d.examples.sheet import contact_sheet
from neural3d.priors.cflow import CFlow, CFlowConfig
from neural3d.run import load


def layouts(count, seed=0, side=8):
    """Bars at any place, 0 to 1: (count, side, side)."""
    rng = np.random.default_rng(seed)
    at, across = rng.integers(0, side - 2, count), rng.random(count) < 0.5
    bars = (np.arange(side) >= at[:, None]) & (np.arange(side) < at[:, None] + 3)
    return np.where(across[:, None, None], bars[:, :, None], bars[:, None, :]).repeat(1, 0) * np.ones((side, side))


def pair(layout, tone, rng):
    """a: the layout; b: the same, inside of this tone, with a little noise."""
    noise = rng.uniform(-4, 4, (2, *layout.shape))
    return (40 + 170 * layout + noise[0]).astype(np.uint8), (30 + tone * layout + noise[1]).astype(np.uint8)


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Of random weights, in float64."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pairs")
    examples = made(path, {"train": (rng.integers(0, 256, (20, 2, 4, 4), dtype=np.uint8), None)})
    torch.manual_seed(0)
    flow = CFlow(CFlowConfig(scales=2, steps=2, width=8), examples).double().eval()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.03 * torch.randn(p.shape, dtype=p.dtype))
    return flow


def some(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.05


def test_it_is_invertible_and_knows_its_determinant(flow):
    y = some(2, 2, 4, 4)
    z, log_det = flow.to_normal(y)
    assert torch.allclose(flow.from_normal(z), y, atol=1e-8)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.to_normal(v)[0], y[:1]).view(32, 32)
    assert float(log_det[0].detach()) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-8)


def test_the_first_goes_its_own_way_and_the_second_sees_it(flow):
    a, b, other = some(1, 1, 4, 4), some(1, 1, 4, 4, seed=1), some(1, 1, 4, 4, seed=2)
    second = flow.of_second([2, 4, 4])
    assert int(second.sum()) == 16
    here, there, beside = (flow.to_normal(torch.cat(pair, 1))[0][0] for pair in ((a, b), (a, other), (other, b)))
    assert torch.allclose(here[~second], there[~second], atol=1e-12)
    assert not torch.allclose(here[second], there[second], atol=1e-2)
    assert not torch.allclose(here[second], beside[second], atol=1e-3)


def test_the_style_of_a_pair_on_its_own_layout_is_its_second(flow):
    levels = (some(2, 1, 8, 8) * 255).round() / 255  # larger than what it has seen
    a, b = levels[:1], levels[1:]
    assert torch.allclose(flow.restyled(a, (a, b)), b, atol=1e-9)
    one, same, another = (flow.answers(a, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(one, same) and not torch.allclose(one, another, atol=1e-2)
    with pytest.raises(UserError, match="multiples of 4"):
        flow.answers(a[..., :6], torch.Generator())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    (folder / "pairs").mkdir()
    for i, layout in enumerate(layouts(300)):
        for letter, pixels in zip("ab", pair(layout, rng.uniform(40, 210), rng)):
            Image.fromarray(pixels).save(folder / "pairs" / f"{i}_{letter}.png")
    main(["train", str(folder / "pairs"), str(folder / "run"), "--method", "cflow", "--set", "scales=1", "steps=3",
          "width=16", "horizon=500", "lr=3e-3", "batch=50"])  # fmt: skip
    return folder


def test_answers_follow_the_layout_and_styles_are_carried_over(folder, tmp_path):
    pairs, rng = folder / "pairs", np.random.default_rng(1)
    layout = layouts(1, seed=5)[0]
    first, _ = pair(layout, 100, rng)
    Image.fromarray(first).save(tmp_path / "new.png")
    main(["sample", str(folder / "run"), str(tmp_path / "out"), "--given", str(tmp_path / "new.png"), "--count", "8"])
    answers = np.stack([np.asarray(Image.open(tmp_path / f"out/{i:03d}.png").convert("L")) for i in range(8)])
    inside, outside = answers[:, layout == 1].mean(1), answers[:, layout == 0].mean(1)
    assert np.abs(outside - 30).mean() < 20 and (inside > outside + 15).mean() > 0.7
    assert inside.std() > 15  # all tones there are
    tones = []
    for i in range(8):
        style = pairs / f"{8 * i + 1}_b.png"
        main(["sample", str(folder / "run"), str(tmp_path / f"s{i}"), "--given", str(tmp_path / "new.png"), "--style",
              str(style)])  # fmt: skip
        wanted = np.asarray(Image.open(style))[np.asarray(Image.open(pairs / f"{8 * i + 1}_a.png")) > 125].mean()
        got = np.asarray(Image.open(tmp_path / f"s{i}/000.png").convert("L"))[layout == 1].mean()
        tones.append((wanted, got))
    assert np.corrcoef(np.array(tones).T)[0, 1] > 0.8


def test_pairs_are_read_and_shown_side_by_side(folder):
    examples = read_examples(folder / "pairs", pairs=True)
    assert examples.shape == [2, 8, 8] and sum(examples.counts.values()) == 300
    x = examples.values["train"].float() / 255
    assert float(x[:, 0].mean()) > float(x[:, 1].mean())
    assert contact_sheet(x[:1]).shape[1] > 1.9 * contact_sheet(x[:1, :1]).shape[1] / 2
    pieces = read_examples(folder / "pairs", patch=4, pairs=True)
    assert pieces.shape == [6, 4, 4] and len(load(folder / "run", "cpu").data.shape) == 3


@pytest.mark.parametrize(
    "words", [["--style", "x_b.png"], ["--given", "{pairs}/0_a.png", "--style", "{pairs}/0_a.png"]]
)
def test_what_cannot_be_asked_is_said(words, folder, tmp_path, capsys):
    words = [word.format(pairs=folder / "pairs") for word in words]
    with pytest.raises(SystemExit) as stopped:
        main(["sample", str(folder / "run"), str(tmp_path / "no"), *words])
    said = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code == 2 and ("needs --given" in said or "second of a pair" in said)


def test_a_folder_without_pairs_is_refused(tmp_path):
    for i in range(3):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(UserError, match="no half of a pair"):
        read_examples(tmp_path, pairs=True)
