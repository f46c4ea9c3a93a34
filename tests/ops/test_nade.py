import pytest
import torch
from reference.nade import nade as reference_nade

from neural3d.ops.nade import nade

SIZES = [(1, 1, 1), (3, 5, 1), (1, 30, 16), (8, 12, 20), (19, 40, 33), (33, 17, 100)]  # B, D, H


def inputs(size, device, dtype=torch.float64, ones=0.3):
    generator = torch.Generator().manual_seed(0)
    examples, length, width = size
    x = torch.rand(examples, length, generator=generator) < ones
    shapes = [(length, width), (length, width), (length,), (width,)]
    parameters = [torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype) for s in shapes]
    return x.to(device), [p.requires_grad_() for p in parameters]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_the_paper(device, size, dtype):
    x, parameters = inputs(size, device, dtype)
    exact = [p.detach().double().requires_grad_() for p in parameters]
    logits, want = nade(x, *parameters), reference_nade(x, *exact)
    weight = torch.randn_like(want)
    ours = torch.autograd.grad((logits * weight).sum(), parameters)
    theirs = torch.autograd.grad((want * weight).sum(), exact)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for a, b in ((logits, want), *zip(ours, theirs, strict=True)):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance * (1 + float(b.detach().abs().max())))


def test_gradients(device):
    x, parameters = inputs((10, 6, 5), device)
    assert torch.autograd.gradcheck(lambda *p: nade(x, *p), parameters)


@pytest.mark.parametrize("ones", [0.0, 1.0])
def test_pictures_of_one_colour(device, ones):
    x, parameters = inputs((9, 20, 18), device, ones=ones)
    torch.testing.assert_close(nade(x, *parameters), reference_nade(x, *parameters))
    v_w = torch.autograd.grad(nade(x, *parameters).sum(), parameters[0])[0]
    assert bool(v_w.any()) == bool(ones)


def test_no_examples(device):
    x, parameters = inputs((0, 4, 3), device)
    logits = nade(x, *parameters)
    assert logits.shape == (0, 4)
    assert not any(g.any() for g in torch.autograd.grad(logits.sum(), parameters))


def test_large_activations_stay_finite(device):
    x, parameters = inputs((4, 30, 20), device, torch.float32, ones=0.5)
    with torch.no_grad():
        parameters[0] *= 1e4
    logits = nade(x, *parameters)
    assert logits.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(logits.sum(), parameters))


def test_an_example_does_not_see_the_others(device):
    x, parameters = inputs((19, 40, 33), device, torch.float32)
    together = nade(x, *parameters)
    assert all(torch.equal(nade(x[i : i + 1], *parameters), together[i : i + 1]) for i in (0, 7, 8, 18))
    with torch.no_grad():
        parameters[1][20, 0] = torch.nan
    broken = nade(x, *parameters)
    assert broken[:, 20].isnan().all() and torch.equal(broken[:, 21:], together[:, 21:])


def test_threads_and_repetition_change_nothing():
    x, parameters = inputs((37, 50, 70), "cpu", torch.float32)

    def both():
        logits = nade(x, *parameters)
        return [logits.detach(), *torch.autograd.grad(logits.square().sum(), parameters)]

    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(both())
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_layouts(device):
    x, parameters = inputs((9, 20, 18), device)
    sideways = [p.detach().T.contiguous().T if p.ndim == 2 else p.detach() for p in parameters]
    assert torch.equal(nade(x.T.contiguous().T, *sideways), nade(x, *parameters))


def test_bad_input_is_a_sentence(device):
    x, (w, v, b, c) = inputs((3, 4, 5), device)
    with pytest.raises(ValueError, match=r"v must have shape \(4, 5\), not \(3, 5\)"):
        nade(x, w, v[1:], b, c)
    with pytest.raises(ValueError, match=r"c must be torch\.float64"):
        nade(x, w, v, b, c.float())
    with pytest.raises(ValueError, match=r"x must be \(B, 4\), torch\.bool"):
        nade(x.double(), w, v, b, c)
    with pytest.raises(ValueError, match=r"w must be \(D, H\)"):
        nade(x, w.half(), v, b, c)
