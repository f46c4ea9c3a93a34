import pytest
import torch
from reference.adam import adam_step as reference_step

from neural3d.ops.adam import Adam, adam_step

OPTIONS = dict(lr=0.01, betas=(0.9, 0.99), eps=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0, 2), (1, 2), (7, 2), (1001, 2), (64, 3), (40_000, 2), (5,), (501, 1), (2000, 45)])
@pytest.mark.parametrize("skip", [False, True])
def test_matches_the_paper(device, dtype, shape, skip):
    torch.manual_seed(0)
    param, m = (torch.randn(shape, dtype=dtype, device=device) for _ in range(2))
    v = torch.rand(shape, dtype=dtype, device=device)
    for step in (1, 2, 100):
        grad = torch.randn(shape, dtype=dtype, device=device)
        if len(shape) == 2:
            grad[torch.rand(shape[0], device=device) < 0.7] = 0
            grad[::3, 0] = 0  # rows touched in one column only
        expected = reference_step(param, grad, m, v, step=step, skip_untouched=skip, **OPTIONS)
        adam_step(param, grad, m, v, step=step, skip_untouched=skip, **OPTIONS)
        for ours, want in zip((param, m, v), expected):
            torch.testing.assert_close(ours, want, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-7)
        assert not grad.any(), "the gradient is left zero for the next step"
        param, m, v = (t.clone() for t in expected)


def test_optimizer_minimises_and_resumes_exactly(device):
    def run(steps, state=None):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.full((10, 2), 3.0, device=device))
        optimizer = Adam([dict(params=[p], skip_untouched=True)], lr=0.1)
        if state:
            with torch.no_grad():
                p.copy_(state[0])
            optimizer.load_state_dict(state[1])
        for _ in range(steps):
            (p**2).sum().backward()
            optimizer.step()
        return p.detach().clone(), optimizer.state_dict()

    whole, _ = run(60)
    halves, _ = run(30, run(30))
    assert torch.equal(whole, halves)
    assert whole.abs().max() < 0.6


def test_bad_input_is_a_sentence():
    p = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="grad must match param"):
        adam_step(p, torch.zeros(3, 2), p.clone(), p.clone(), step=1, lr=0.1)
    with pytest.raises(ValueError, match="contiguous"):
        adam_step(p, torch.zeros(2, 4).T, p.clone(), p.clone(), step=1, lr=0.1)
    with pytest.raises(ValueError, match="step counts from 1"):
        adam_step(p, p.clone(), p.clone(), p.clone(), step=0, lr=0.1)
