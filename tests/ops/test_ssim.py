import pytest
import torch
from reference.ssim import ssim as reference_ssim

from neural3d import metrics
from neural3d.ops.ssim import ssim, ssim_and_l1

SIZES = [(1, 1, 1), (1, 40, 3), (40, 1, 3), (4, 5, 3), (11, 11, 1), (23, 37, 3), (30, 29, 4), (19, 200, 8), (9, 700, 2)]


def pair(size, device, dtype=torch.float64):
    torch.manual_seed(0)
    truth = torch.rand(size, dtype=torch.float64)
    image = (0.7 * truth + 0.3 * torch.rand(size, dtype=torch.float64)).to(device, dtype)
    return image.requires_grad_(), truth.to(device, dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_the_paper(device, size, dtype):
    image, truth = pair(size, device, dtype)
    ours = ssim(image, truth)
    (v_ours,) = torch.autograd.grad(1 - 3 * ours, image)
    exact, exact_truth = image.detach().double().requires_grad_(), truth.double()
    want = reference_ssim(exact, exact_truth)
    (v_want,) = torch.autograd.grad(1 - 3 * want, exact)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(ours.double(), want, rtol=tolerance, atol=0)
    torch.testing.assert_close(v_ours.double(), v_want, rtol=0, atol=tolerance * float(v_want.abs().max()))


def test_gradients(device):
    image, truth = pair((7, 14, 3), device)
    assert torch.autograd.gradcheck(lambda x: ssim(x, truth), image)


def test_equal_pictures_are_one_and_at_the_top(device):
    truth = torch.rand(50, 60, 3, device=device)
    image = truth.clone().requires_grad_()
    value = ssim(image, truth)
    assert value.item() == pytest.approx(1, abs=1e-6)
    value.backward()
    assert image.grad.abs().max() < 1e-6
    assert ssim(1 - truth, truth) < 0


def test_inside_it_is_the_metric(device):
    """Equal margins as wide as the window: the border says 1 and the middle what the published metric says."""
    truth = torch.zeros(60, 50, 3, dtype=torch.float64, device=device)
    truth[15:-15, 15:-15] = torch.rand(30, 20, 3, dtype=torch.float64)
    image = truth.clone()
    image[15:-15, 15:-15] *= 0.8
    mean = metrics.ssim(image.cpu(), truth.cpu())
    inside = 50 * 40  # windows that fit; the margin of 5 around them adds 1 each
    want = (mean * inside + (60 * 50 - inside)) / (60 * 50)
    assert ssim(image, truth).item() == pytest.approx(want, abs=1e-9)


def test_threads_and_repetition_change_nothing():
    image, truth = pair((61, 83, 3), "cpu", torch.float32)

    def both():
        value = ssim(image, truth)
        return value.detach(), torch.autograd.grad(value, image)[0]

    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(both())
    finally:
        torch.set_num_threads(threads)
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(gradient, results[0][1])


def test_layouts_and_a_nan_stays_near(device):
    image, truth = pair((40, 30, 3), device, torch.float32)
    sideways = image.detach().transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(ssim(sideways, truth), ssim(image.detach(), truth))
    broken = image.detach().clone()
    broken[20, 15, 1] = torch.nan
    broken.requires_grad_()
    value = ssim(broken, truth)
    value.backward()
    assert value.isnan()
    assert broken.grad[31:].isfinite().all() and broken.grad[..., 0].isfinite().all()


def test_bad_input_is_a_sentence(device):
    image = torch.zeros(5, 5, 3, device=device)
    with pytest.raises(ValueError, match=r"truth must have shape \(5, 5, 3\), not \(5, 4, 3\)"):
        ssim(image, image[:, :4])
    with pytest.raises(ValueError, match="1 to 8 channels"):
        ssim(torch.zeros(5, 5, 9, device=device), torch.zeros(5, 5, 9, device=device))
    with pytest.raises(ValueError, match="must have pixels"):
        ssim(image[:0], image[:0])
    with pytest.raises(ValueError, match="float32 or float64"):
        ssim(image.half(), image.half())
    with pytest.raises(ValueError, match=r"truth must be torch\.float32"):
        ssim(image, image.double())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_l1_in_the_same_pass(device, size, dtype):
    image, truth = pair(size, device, dtype)
    with torch.no_grad():
        image[0, 0] = truth[0, 0]  # no difference, no gradient
    similar, distance = ssim_and_l1(image, truth)
    (v_ours,) = torch.autograd.grad(0.2 * (1 - similar) + 0.8 * distance, image)
    (v_similar,) = torch.autograd.grad(0.2 * (1 - ssim(image, truth)), image)
    want = torch.nn.functional.l1_loss(image, truth)
    (v_want,) = torch.autograd.grad(0.8 * want, image)
    assert similar == ssim(image, truth)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(distance, want, rtol=tolerance, atol=0)
    torch.testing.assert_close(v_ours, v_similar + v_want, rtol=0, atol=4 * tolerance * float(v_want.abs().max()))
