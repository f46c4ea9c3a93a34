"""Autoencoders: what principal components and linear-normal models must come to, by formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from neural3d.evaluate.prior import evaluate_prior
from neural3d.examples.reading import made
from neural3d.priors.ae import Ae, AeConfig
from neural3d.priors.pca import Pca
from neural3d.priors.upsampling import Up
from neural3d.priors.vae import Vae, VaeConfig
from neural3d.priors.variational import discretised_logistic
from neural3d.run import configure, load
from neural3d.train import Trainer

CPU = torch.device("cpu")


def normal_vectors(count, seed=0):
    """Vectors of 5 numbers about a plane."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((count, 2)) * (3.0, 1.5)
    axes = np.linalg.qr(np.random.default_rng(9).standard_normal((5, 2)))[0]
    return (z @ axes.T + 0.3 * rng.standard_normal((count, 5)) + 2).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "plane.npz"
    np.savez(path, train=normal_vectors(3000), test=normal_vectors(500, 1))
    return path


def run(data, name, out, *settings, steps):
    trainer = Trainer.create(out, *configure(data, name, [f"horizon={steps}", *settings]), CPU)
    trainer.fit(steps, previews=False)
    return load(out, "cpu")


def test_pca_is_the_normal_distribution_that_it_says(data, tmp_path):
    """Of all components but one: scored by SciPy with the covariance W Wᵀ + σ² I."""
    from scipy.stats import multivariate_normal

    opened = run(data, "pca", tmp_path / "run", "latent=2", steps=1)
    pca = opened.method
    assert isinstance(pca, Pca)
    x = torch.from_numpy(normal_vectors(50, 3))
    w = pca.axes.T * (pca.variances - pca.noise).sqrt()
    covariance = (w @ w.T + pca.noise * torch.eye(5)).detach().numpy() * np.outer(pca.deviation, pca.deviation)
    mean = (pca.middle * pca.deviation + pca.mean).detach().numpy()
    expected = multivariate_normal(mean, covariance, allow_singular=True).logpdf(x.numpy())
    assert np.allclose(pca.score(x, torch.Generator()).numpy(), expected, atol=1e-3)
    report = evaluate_prior(opened)
    assert report["protocol"]["likelihood"] == "exact" and report["protocol"]["examples"] == 500


def test_a_linear_autoencoder_comes_to_principal_components(data, tmp_path):
    """The same plane, the same error; L-BFGS gets there in a few steps."""
    settings = ["latent=2", "layers=0", "optimizer=lbfgs", "lr=1", "lr_final=1", "batch=3000"]
    ae = run(data, "ae", tmp_path / "ae", *settings, steps=30).method
    assert isinstance(ae, Ae)
    x = torch.from_numpy(np.load(data)["train"])[:2500]  # the rest is for validation
    middle = x - x.mean(0)
    axes = torch.linalg.svd(middle, full_matrices=False)[2][:2]
    cosines = torch.linalg.svdvals(axes @ torch.linalg.qr(ae.decoder[1].weight.detach())[0])
    assert float(cosines.min()) > 1 - 1e-5
    best = (middle - middle @ axes.T @ axes).square().mean()
    assert float((ae.denoise(x) - x).square().mean()) == pytest.approx(float(best), rel=1e-3)


def linear_normal(tmp_path):
    """A VAE with linear maps and a normal decoder; (vae, W, b, σ²): p(x) = N(b, W Wᵀ + σ² I)."""
    examples = made(tmp_path, {"train": (normal_vectors(20), None)})
    config = VaeConfig(latent=2, layers=0, decoder="gaussian")
    vae = Vae(config, examples).double()
    layer, encoder = vae.decoder[1], vae.encoder[1]
    variance = float((2 * vae.log_scale).exp().detach())
    with torch.no_grad():
        w, b = layer.weight, layer.bias
        exact = torch.linalg.inv(w.T @ w / variance + torch.eye(2, dtype=torch.float64))  # covariance of p(z|x)
        to_mean = exact @ w.T / variance
    return vae, encoder, w.detach(), b.detach(), variance, exact, to_mean


def test_bounds_lie_in_order_on_a_linear_normal_vae(tmp_path):
    """ELBO ≤ the bound by many codes ≤ log p(x), known here; a wrong encoder makes the gaps."""
    vae, _, w, b, variance, _, _ = linear_normal(tmp_path)
    x = torch.from_numpy(normal_vectors(40, 5)).double()
    covariance = w @ w.T + variance * torch.eye(5, dtype=torch.float64)
    truth = torch.distributions.MultivariateNormal(b, covariance).log_prob(x)
    means = {}
    for k in (1, 10, 1000):
        vae.config = VaeConfig(latent=2, layers=0, decoder="gaussian", samples=k)
        scores = [vae.score(x, torch.Generator().manual_seed(i)) for i in range(max(1, 200 // k))]
        means[k] = float(torch.stack(scores).mean())
    assert means[1] < means[10] - 0.1 and means[10] < means[1000] - 0.05
    assert means[1000] < float(truth.mean()) + 0.02


def test_with_the_true_posterior_all_bounds_are_exact(tmp_path):
    """The one N(M (x − b), S); here its covariance S must be diagonal, so W's columns are made orthogonal."""
    vae, encoder, w, b, variance, *_ = linear_normal(tmp_path)
    with torch.no_grad():
        q = torch.linalg.qr(w)[0] * torch.tensor([1.3, 0.7], dtype=torch.float64)
        vae.decoder[1].weight.copy_(q)
        s = torch.linalg.inv(q.T @ q / variance + torch.eye(2, dtype=torch.float64))
        m = s @ q.T / variance
        encoder.weight.copy_(torch.cat([m, torch.zeros_like(m)]))
        encoder.bias.copy_(torch.cat([-m @ b, s.diagonal().log()]))
    vae.config = VaeConfig(latent=2, layers=0, decoder="gaussian", samples=1)
    x = torch.from_numpy(normal_vectors(40, 5)).double()
    truth = torch.distributions.MultivariateNormal(b, q @ q.T + variance * torch.eye(5).double()).log_prob(x)
    assert torch.allclose(vae.score(x, torch.Generator().manual_seed(0)), truth, atol=1e-8)


def test_categories_know_their_divergence(tmp_path):
    """KL by its sum, and as the mean of what is drawn."""
    examples = made(tmp_path, {"train": (normal_vectors(20), None)})
    vae = Vae(VaeConfig(latent=3, classes=4, latents="categorical", decoder="gaussian"), examples)
    posterior = torch.randn(1, 12, generator=torch.Generator().manual_seed(0))
    p = posterior.view(3, 4).softmax(-1)
    by_hand = float((p * (p * 4).log()).sum())
    assert float(vae.divergence(posterior)) == pytest.approx(by_hand, abs=1e-5)
    _, ratio = vae.drawn(posterior.expand(20_000, -1), torch.Generator().manual_seed(1), soft=False)
    assert float(ratio.mean()) == pytest.approx(by_hand, abs=0.03)


def test_the_levels_of_a_logistic_add_up_to_one():
    levels = torch.arange(256).double() / 255
    for mean, log_scale in ((0.5, -3.0), (0.02, -5.0), (1.3, -1.0)):
        chances = discretised_logistic(levels, torch.tensor(mean).double(), torch.tensor(log_scale).double()).exp()
        assert float(chances.sum()) == pytest.approx(1, abs=1e-9)


def test_beta_finds_its_multiplier(data, tmp_path):
    """KL ends at the limit."""
    settings = ["latent=2", "layers=1", "decoder=gaussian", "limit=1.5", "beta_rate=0.01", "lr=0.01", "batch=200"]
    method = run(data, "beta-vae", tmp_path / "run", *settings, steps=1500).method
    x = torch.from_numpy(normal_vectors(500, 1))
    assert float(method.divergence(method.posterior(x)).mean().detach()) == pytest.approx(1.5, abs=0.25)
    assert float(method.beta) > 0


def test_noise_is_taken_out(tmp_path):
    """Of pictures of one bright square: nearer to the clean ones than what came in, and than their mean."""
    rng = np.random.default_rng(0)
    clean = np.zeros((600, 1, 8, 8), np.uint8)
    for i, (y, x) in enumerate(rng.integers(0, 5, (600, 2))):
        clean[i, 0, y : y + 4, x : x + 4] = 255
    path = tmp_path / "squares.npz"
    np.savez(path, train=clean[:500], test=clean[500:])
    settings = ["noise=0.4", "latent=16", "width=64", "lr=3e-3", "batch=50"]
    method = run(path, "ae", tmp_path / "run", *settings, steps=1200).method
    x = torch.from_numpy(clean[500:] / 255).float()
    noisy = x + 0.4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    error, before = (float((y - x).square().mean()) for y in (method.denoise(noisy), noisy))
    assert error < before / 4


@pytest.mark.parametrize("kind", ["nearest", "nails", "unpooling", "transposed"])
def test_upsampling_doubles(kind):
    layer = Up(kind, 3, 5)
    x = torch.randn(2, 3, 4, 6)
    maxima = None
    if kind == "unpooling":
        x, maxima = nn.functional.max_pool2d(torch.randn(2, 3, 8, 12), 2, return_indices=True)
    assert layer(x, maxima).shape == (2, 5, 8, 12)


def test_nails_and_unpooling_put_values_where_they_belong():
    x = torch.tensor([[[[1.0, 2.0]]]])
    layer = Up("nails", 1, 1)
    with torch.no_grad():
        layer.layer.weight.zero_()[0, 0, 1, 1] = 1
        layer.layer.bias.zero_()
        assert layer(x).tolist() == [[[[1, 0, 2, 0], [0, 0, 0, 0]]]]
        layer.kind = "unpooling"
        assert layer(x, torch.tensor([[[[5, 2]]]])).tolist() == [[[[0, 0, 2, 0], [0, 1, 0, 0]]]]


def test_unpooling_is_not_for_codes(tmp_path):
    examples = made(tmp_path, {"train": (np.zeros((4, 1, 8, 8), np.uint8), None)})
    with pytest.raises(ValueError, match="unpooling needs the maxima"):
        Vae(VaeConfig(upsampling="unpooling"), examples)
    config = AeConfig(upsampling="unpooling", coder="convolutional", channels=4)
    ae = Ae(config, examples)
    assert ae.denoise(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    assert math.isfinite(float(ae.encode(torch.rand(2, 1, 8, 8)).sum()))
