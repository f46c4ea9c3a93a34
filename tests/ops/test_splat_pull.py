import pytest
import torch
from reference.splat_pull import splat_pull as reference_splat_pull

from neural3d.ops.splat_pull import splat_pull


@pytest.mark.parametrize("count", [0, 1, 13, 9_011])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adds_a_view(device, count, dtype):
    torch.manual_seed(0)
    v_xy = torch.randn(count, 2, dtype=dtype, device=device)
    radius = torch.randn(count, dtype=dtype, device=device).clamp(min=0)
    before, views = torch.rand(2, count, dtype=dtype, device=device)
    pull, seen = before.clone(), views.clone()
    splat_pull(v_xy, radius, pull, seen, 133, 237.5)
    reference_splat_pull(v_xy, radius, before, views, 133, 237.5)
    torch.testing.assert_close(pull, before, rtol=2e-6 if dtype == torch.float32 else 1e-14, atol=0)
    assert torch.equal(seen, views)


def test_bad_input_is_a_sentence(device):
    x = torch.zeros(6, device=device)
    with pytest.raises(ValueError, match=r"v_xy must have shape \(6, 2\), not \(6,\)"):
        splat_pull(x, x, x, x.clone(), 10, 10)
    with pytest.raises(ValueError, match="in place"):
        splat_pull(torch.zeros(3, 2, device=device), x[:3], x[::2], x[:3], 10, 10)
