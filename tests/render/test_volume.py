import math

import pytest
import torch

from neural3d.render.volume import accumulate, render_weights, sample_pdf, stratified


def left_edges(near, far, count):
    return torch.linspace(near, far, count + 1, dtype=torch.float64)[None, :-1]


def ends(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_render_weights_is_equation_3():
    torch.manual_seed(0)
    t = torch.rand(4, 6, dtype=torch.float64).cumsum(1)
    density = torch.rand(4, 6, dtype=torch.float64) * 3
    color = torch.rand(4, 6, 3, dtype=torch.float64)
    for end in (None, t[:, -1] + 0.3):
        ours = render_weights(t, density, end)
        picture = accumulate(ours.weights, color)
        for r in range(4):
            transmittance, total, opacity, distance = 1.0, torch.zeros(3, dtype=torch.float64), 0.0, 0.0
            for i in range(6):
                delta = float(t[r, i + 1] - t[r, i]) if i < 5 else (1e10 if end is None else 0.3)
                alpha = 1 - math.exp(-float(density[r, i]) * delta)
                total += transmittance * alpha * color[r, i]
                opacity += transmittance * alpha
                distance += transmittance * alpha * float(t[r, i])
                transmittance *= 1 - alpha
            torch.testing.assert_close(picture[r], total)
            assert float(ours.alpha[r]) == pytest.approx(opacity)
            assert float(ours.distance[r]) == pytest.approx(distance / opacity)


@pytest.mark.parametrize("count", [1, 7, 200])
def test_opacity_of_a_constant_slab_is_exact_at_any_step(count):
    t = left_edges(1.0, 3.5, count)
    ours = render_weights(t, torch.full_like(t, 0.8), ends(3.5))
    assert float(ours.alpha) == pytest.approx(1 - math.exp(-0.8 * 2.5), rel=1e-12)


def observed_order(error):
    coarse, fine = error(200), error(400)
    return math.log2(coarse / fine)


def test_distance_and_colour_of_a_slab_converge_to_first_order():
    sigma, near, far = 0.8, 1.0, 3.5
    length = far - near
    opacity = 1 - math.exp(-sigma * length)
    # ∫ σ e^{−σs} s ds on [0, L] = A/σ − L e^{−σL}; the colour 1 + 2s follows from it.
    moment = opacity / sigma - length * math.exp(-sigma * length)

    def distance_error(count):
        t = left_edges(near, far, count)
        return abs(float(render_weights(t, torch.full_like(t, sigma), ends(far)).distance) - near - moment / opacity)

    def colour_error(count):
        t = left_edges(near, far, count)
        weights = render_weights(t, torch.full_like(t, sigma), ends(far)).weights
        return abs(float(accumulate(weights, (1 + 2 * (t - near))[..., None])) - opacity - 2 * moment)

    assert observed_order(distance_error) == pytest.approx(1, abs=0.02)
    assert observed_order(colour_error) == pytest.approx(1, abs=0.02)


def test_opacity_of_a_smooth_density_converges_to_first_order():
    truth = 1 - math.exp(-(1 - math.cos(2.0)))  # ∫₀² sin t dt

    def error(count):
        t = left_edges(0.0, 2.0, count)
        return abs(float(render_weights(t, t.sin(), ends(2.0)).alpha) - truth)

    assert observed_order(error) == pytest.approx(1, abs=0.02)


def test_weights_are_a_partition_of_opacity():
    torch.manual_seed(0)
    t = torch.rand(500, 32).cumsum(1)
    density = torch.randn(500, 32).relu() * 10 ** torch.linspace(-6, 6, 500)[:, None]
    for end in (None, t[:, -1] + 1):
        ours = render_weights(t, density, end)
        assert (ours.weights >= 0).all() and (ours.alpha <= 1 + 1e-5).all()
    # The last sample reaches for ever: any density there makes the ray opaque, none leaves it as it was.
    some = density[:, -1] > 0
    torch.testing.assert_close(render_weights(t, density).alpha[some], torch.ones(int(some.sum())))
    nothing = render_weights(t, torch.zeros_like(t))
    assert not nothing.alpha.any() and not nothing.distance.any()


@pytest.mark.parametrize("bounded", [False, True])
def test_render_weights_gradients(bounded):
    torch.manual_seed(0)
    t = torch.rand(3, 5, dtype=torch.float64).cumsum(1).requires_grad_()
    density = (torch.rand(3, 5, dtype=torch.float64) + 0.1).requires_grad_()

    end = t.detach()[:, -1] + 0.5 if bounded else None

    def out(t, density):
        q = render_weights(t, density, end)
        return q.weights, q.distance

    assert torch.autograd.gradcheck(out, (t, density))


def test_gradients_stay_finite_behind_opaque_samples():
    density = torch.tensor([[0.0, 1e6, 1.0, 0.0]], requires_grad=True)
    q = render_weights(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), density)
    (q.weights.square().sum() + q.distance.sum()).backward()
    assert density.grad.isfinite().all()


@pytest.mark.parametrize("spacing", ["distance", "disparity"])
def test_stratified_puts_one_uniform_sample_in_each_bin(spacing):
    near, far = torch.tensor([2.0, 1.0]), torch.tensor([6.0, 9.0])
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([stratified(near, far, 8, generator=generator, spacing=spacing) for _ in range(4000)])
    scale = (lambda v: 1 / v) if spacing == "disparity" else (lambda v: v)
    position = (scale(draws) - scale(near)[:, None]) / (scale(far) - scale(near))[:, None] * 8  # in bins
    offset = position - torch.arange(8)
    assert offset.min() > -1e-4 and offset.max() < 1 + 1e-4
    # Uniform within each bin: mean ½, variance 1/12, to 5 standard errors of 4000 draws.
    assert (offset.mean(0) - 0.5).abs().max() < 5 * (1 / 12) ** 0.5 / 4000**0.5
    assert (offset.var(0) - 1 / 12).abs().max() < 5 * (1 / 180) ** 0.5 / 4000**0.5
    centres = stratified(near, far, 8, spacing=spacing)
    torch.testing.assert_close(
        (scale(centres) - scale(near)[:, None]) / (scale(far) - scale(near))[:, None] * 8,
        (torch.arange(8) + 0.5).expand(2, 8),
    )


def kolmogorov_smirnov(samples, edges, mass):
    """sup |empirical − true| distribution function of a piecewise-constant density."""
    samples = samples.flatten().sort().values
    cdf = torch.cat([mass.new_zeros(1), (mass / mass.sum()).cumsum(0)])
    bin_ = (torch.searchsorted(edges, samples, right=True) - 1).clamp(0, len(mass) - 1)
    truth = cdf[bin_] + (cdf[bin_ + 1] - cdf[bin_]) * (samples - edges[bin_]) / (edges[bin_ + 1] - edges[bin_])
    steps = torch.arange(1, len(samples) + 1, dtype=samples.dtype) / len(samples)
    return float(torch.maximum((steps - truth).abs(), (steps - 1 / len(samples) - truth).abs()).max())


def test_sample_pdf_reproduces_a_known_density():
    edges = torch.tensor([0.0, 1.0, 1.5, 4.0, 4.1, 5.0], dtype=torch.float64)
    mass = torch.tensor([1.0, 5.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    rays = 2000
    samples = sample_pdf(edges.expand(rays, -1), mass.expand(rays, -1), 16, generator=generator)
    assert (samples[:, 1:] >= samples[:, :-1]).all()
    assert samples.min() >= 0 and samples.max() <= 5
    # One sample of each ray alone is uniform in its stratum; all of them together follow the density: KS at 0.1 %.
    assert kolmogorov_smirnov(samples, edges, mass) < 1.95 / math.sqrt(samples.numel())
    wrong = torch.tensor([1.0, 4.0, 0.0, 3.0, 0.5], dtype=torch.float64)
    assert kolmogorov_smirnov(samples, edges, wrong) > 0.05
    # Without generator: quantiles, so at most half a step from the truth (the 10⁻⁵ everywhere included).
    quantiles = sample_pdf(edges[None], mass[None], 100)
    assert kolmogorov_smirnov(quantiles, edges, mass) < 0.5 / 100 + 1e-5
    assert torch.equal(quantiles, sample_pdf(edges[None], mass[None], 100))


def test_sample_pdf_of_an_empty_ray_is_uniform_and_has_no_gradient():
    weights = torch.zeros(1, 4, requires_grad=True)
    samples = sample_pdf(torch.linspace(0, 1, 5)[None], weights, 50)
    torch.testing.assert_close(samples, (torch.arange(50.0) + 0.5)[None] / 50)
    assert not samples.requires_grad


def test_sample_pdf_of_one_spike_stays_in_its_bin():
    weights = torch.zeros(1, 64)
    weights[0, 40] = 1
    samples = sample_pdf(torch.arange(65.0)[None], weights, 128)
    assert ((samples >= 40) & (samples <= 41)).float().mean() > 0.99
