"""Continuous flows beside autograd and beside their own finer steps; codes drawn and changed by attributes."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.cli import main
from neural3d.examples.reading import made
from neural3d.priors.continuous import Continuous
from neural3d.priors.styleflow import StyleFlow, StyleFlowConfig
from neural3d.run import load, load_examples


def stirred(steps, length=5, seen=2, by=0.3):
    """In float64, far from the identity that it starts as."""
    torch.manual_seed(0)
    layer = Continuous(length, seen, 16, steps).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return layer


def given(count, length, seed):
    return torch.randn(count, length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_trace_is_autograds():
    layer, x, squash = stirred(1), given(3, 5, 2), given(3, 42, 3)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.rate(v, squash)[0].sum(0), x)  # (5, 3, 5)
    trace = torch.einsum("ibi->b", jacobian)
    assert torch.allclose(layer.rate(x, squash)[1], trace, atol=1e-12)


def test_the_log_determinant_is_autograds():
    layer, x, seen = stirred(16), given(1, 5, 2), given(1, 2, 3)
    y, log_det = layer(x, seen)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v, seen)[0], x).view(5, 5)
    assert abs(float((y - x).detach().norm())) > 0.5
    assert float(log_det.detach()) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-5)


def test_the_way_back_and_its_order():
    """Back to 1e-5; and twice as many steps, a sixteenth of the error."""
    x, seen = given(20, 5, 2), given(20, 2, 3)
    layer = stirred(8)
    exact = layer(x, seen)[0].clone()
    assert torch.allclose(layer.inverse(exact, seen), x, atol=1e-5)
    layer.steps = 256
    exact = layer(x, seen)[0]
    errors = []
    for layer.steps in (2, 4):
        errors.append(float((layer(x, seen)[0] - exact).abs().max()))
    assert 8 < errors[0] / errors[1] < 32
    single = stirred(8).float()
    assert torch.allclose(single.inverse(single(x.float(), seen.float())[0], seen.float()), x.float(), atol=1e-5)


def test_it_starts_as_the_identity_and_sees_what_is_given():
    layer = Continuous(5, 2, 16, 4).double()
    x = given(4, 5, 0)
    y, log_det = layer(x, given(4, 2, 1))
    assert torch.equal(y, x) and not log_det.any()
    layer = stirred(4)
    assert not torch.allclose(layer(x, given(4, 2, 1))[0], layer(x, given(4, 2, 2))[0], atol=1e-2)


def labelled(path, count=900):
    """Three heaps of different width: classes serve as attributes."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, count)
    z = 4 * label[:, None] + (0.2 + label[:, None]) * rng.standard_normal((count, 2)) + 100
    return made(path, {"train": (z.astype(np.float32), label)})


def test_a_density_given_attributes_integrates_to_one(tmp_path):
    config = StyleFlowConfig(blocks=2, width=16, steps=8)
    examples = StyleFlow.prepared(labelled(tmp_path), config)
    torch.manual_seed(0)
    flow = StyleFlow(config, examples)
    flow.source(examples, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    flow = flow.double().eval()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    ticks = torch.linspace(60, 140, 321, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks)
    for attributes in ([1.0, 0, 0], [0, 0, 1.0]):
        x = torch.cat([grid, torch.tensor(attributes, dtype=torch.float64).expand(len(grid), 3)], 1)
        total = sum(float(flow.score(part, torch.Generator()).exp().sum()) for part in x.split(20_000))
        assert total * float(ticks[1] - ticks[0]) ** 2 == pytest.approx(1, abs=0.01)


def write_pictures(folder, count=240):
    """Grey and slope of 6 × 6 pictures, in a table; some of its cells are empty."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    with open(folder / "attributes.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "grey", "slope"])
        for i in range(count):
            grey, slope = rng.uniform(60, 190), rng.uniform(-60, 60)
            values = grey + slope * np.linspace(-1, 1, 6)[None] + rng.uniform(-3, 3, (6, 6))
            Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03d}.png")
            writer.writerow([f"{i:03d}.png", round(grey, 2), "" if i % 10 == 3 else round(slope, 2)])


def measured(file):
    pixels = np.asarray(Image.open(file).convert("L")).astype(float)
    return pixels.mean(), (pixels[:, -1] - pixels[:, 0]).mean() / 2


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    folder = tmp_path_factory.mktemp("look")
    write_pictures(folder / "pictures")
    main(["train", str(folder / "pictures"), str(folder / "vae"), "--method", "vae", "--set", "decoder=gaussian",
          "latent=4", "width=48", "layers=1", "horizon=1200"])  # fmt: skip
    main(["train", str(folder / "vae"), str(folder / "look"), "--method", "styleflow", "--set", "width=32",
          "blocks=1", "horizon=500", "lr=5e-3"])  # fmt: skip
    return folder


def test_codes_come_with_the_attributes_of_their_pictures(look):
    examples = load_examples(look / "vae")
    assert examples.attributes == ["grey", "slope"] and examples.shape == [4]
    assert {s: len(m) for s, m in examples.measures.items()} == examples.counts == {"train": 175, "val": 35, "test": 30}
    run = load(look / "look", "cpu")
    assert run.data.shape == [6] and run.data.counts["train"] < 175  # without those of which a cell is empty


def test_samples_have_what_is_asked_for(look, tmp_path):
    for grey, slope in ((90, 40), (160, -40)):
        out = tmp_path / str(grey)
        main(["sample", str(look / "look"), str(out), "--count", "12", "--set", f"grey={grey}", f"slope={slope}"])
        got = np.mean([measured(out / f"{i:03d}.png") for i in range(12)], 0)
        assert got == pytest.approx([grey, slope], abs=12)


@pytest.mark.parametrize("table", [True, False])
def test_a_picture_is_changed_in_what_is_asked_and_in_nothing_else(table, look, tmp_path):
    """With the attributes that a table says it has, and with those that it is likely to have."""
    file = look / "pictures" / "000.png"
    if not table:
        file = tmp_path / "alone.png"
        Image.open(look / "pictures" / "000.png").save(file)
    before = measured(file)
    wanted = 170 if before[0] < 125 else 80
    main(["sample", str(look / "look"), str(tmp_path / "out"), "--edit", str(file), "--set", f"grey={wanted}"])
    after = measured(tmp_path / "out" / "000.png")
    assert after[0] == pytest.approx(wanted, abs=15) and after[1] == pytest.approx(before[1], abs=15)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "gray=3"], "unknown attribute 'gray'; did you mean 'grey'"),
        (["--set", "grey=dark"], "must be a number, not 'dark'"),
        (["--edit", "x.png"], "--edit needs --set"),
    ],
)
def test_what_cannot_be_asked_is_said(words, said, look, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sample", str(look / "look"), str(tmp_path / "no"), *words])
    assert stopped.value.code == 2 and said in " ".join(capsys.readouterr().err.split())


def test_examples_without_attributes_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "v.npz", train=np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32))
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(tmp_path / "v.npz"), str(tmp_path / "run"), "--method", "styleflow"])
    assert stopped.value.code == 2 and "have no attributes" in " ".join(capsys.readouterr().err.split())
