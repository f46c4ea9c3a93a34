import math
import os
import subprocess
import sys

import pytest
import torch
import trimesh
from instruction_sets import instruction_sets
from reference.soft_silhouette import soft_silhouette as reference

from neural3d.ops import antialias, mesh_raster, opposite_corners, soft_silhouette
from neural3d.ops.soft_silhouette import LEAST


def soup(width, height, dtype=torch.float64, device="cpu", batch=2, vertices=12, faces=9, seed=0):
    """Random faces in and around a picture; one is a line, one a point."""
    g = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height], dtype=torch.float64)
    xy = (torch.rand(batch, vertices, 2, generator=g, dtype=torch.float64) * 1.6 - 0.3) * size
    z = torch.rand(batch, vertices, 1, generator=g, dtype=torch.float64) + 0.5
    f = torch.stack([torch.randperm(vertices, generator=g)[:3] for _ in range(faces)]).int()
    if faces > 2:
        f[0], f[1] = torch.tensor([3, 7, 3]), 5
    return torch.cat([xy, z], -1).to(device, dtype), f.to(device)


def ball(center, radius, size=48):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32) * radius + torch.cat([center, center.new_tensor([300])])
    return vertices[None], torch.tensor(mesh.faces, dtype=torch.int32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size, sigma", [((1, 1), 1.0), ((3, 5), 0.3), ((37, 33), 2.0), ((16, 70), 900.0)])
def test_matches_the_product_over_all_faces(device, dtype, size, sigma):
    """Up to what faces out of reach are worth; of σ = 900 all are within reach, and the two are the same."""
    pixels, faces = soup(*size, dtype, device)
    got = soft_silhouette(pixels, faces, *size, sigma)
    assert got.dtype == dtype and got.shape == (2, *size[::-1])
    tolerance = 3e-6 if dtype == torch.float32 else 1e-13
    for i in range(2):
        want = reference(pixels[i].double().cpu(), faces.cpu(), *size, sigma)
        assert (got[i].cpu() - want).abs().max() < tolerance + (len(faces) * LEAST if sigma < 900 else 0)


def test_what_one_edge_covers():
    """A half plane: the logistic function of the signed square of the distance, and nothing beyond the reach."""
    pixels = torch.tensor([[[20.0, -4e4, 1], [20.0, 4e4, 1], [-4e4, 0, 1]]], dtype=torch.float64)
    got = soft_silhouette(pixels, torch.tensor([[0, 1, 2]], dtype=torch.int32), 40, 3, sigma=4.0)[0, 1]
    d = 20 - (torch.arange(40, dtype=torch.float64) + 0.5)
    want = torch.sigmoid(d * d.abs() / 4)
    reach = math.sqrt(4 * math.log(1 / LEAST - 1))
    torch.testing.assert_close(got, torch.where(d < -reach, 0, want))


@pytest.mark.parametrize("size, sigma", [((13, 11), 1.0), ((13, 11), 60.0), ((40, 3), 5.0)])
def test_gradients_are_those_of_the_picture(device, size, sigma):
    """Finite differences in float64; where a pixel's nearest edge changes, they agree as S is continuous there."""
    pixels, faces = soup(*size, device=device, vertices=8, faces=5, seed=2)
    faces = faces[2:]
    weights = torch.linspace(-1, 2, 2 * size[0] * size[1], dtype=torch.float64, device=device).view(2, *size[::-1])

    def loss(p):
        return (soft_silhouette(p, faces, *size, sigma) * weights).sum()

    leaf = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    assert not gradient[..., 2].any() and gradient.abs().max() > 0.1
    g = torch.Generator().manual_seed(0)
    for _ in range(8):
        way = torch.randn(pixels.shape, generator=g, dtype=torch.float64).to(device)
        slope = (loss(pixels + 1e-6 * way) - loss(pixels - 1e-6 * way)) / 2e-6
        torch.testing.assert_close(slope, (gradient * way).sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_match_the_reference(device, dtype):
    """Of a line and a point among the faces too, where all that is asked for is one of the nearest points."""
    pixels, faces = soup(29, 18, dtype, device, batch=1, seed=4)
    v = torch.linspace(-1, 1, 29 * 18, dtype=torch.float64).view(18, 29)
    leaf, exact = pixels.clone().requires_grad_(), pixels[0].double().cpu().requires_grad_()
    got = torch.autograd.grad(soft_silhouette(leaf, faces[2:], 29, 18, 200.0), leaf, v[None].to(leaf))[0][0]
    want = torch.autograd.grad(reference(exact, faces[2:].cpu(), 29, 18, 200.0), exact, v)[0]
    assert (got.cpu() - want).abs().max() < (2e-5 if dtype == torch.float32 else 1e-12) * want.abs().max()
    all_of_them = torch.autograd.grad(soft_silhouette(leaf, faces, 29, 18, 200.0).sum(), leaf)[0]
    assert all_of_them.isfinite().all()


def test_what_cannot_be_seen(device):
    """Behind the camera, even with one corner, out of reach, not finite: nothing, and nothing spoilt."""
    good = [[2.0, 2.0, 1.0], [9.0, 2.0, 1.0], [2.0, 9.0, 1.0]]
    bad = {
        "behind": [[2, 2, -1], [9, 2, 1], [2, 9, 2]],
        "at the camera": [[2, 2, 0], [9, 2, 1], [2, 9, 2]],
        "beside": [[-900, 2, 1], [-100, 2, 1], [-100, 9, 1]],
        "NaN": [[math.nan, 2, 0.5], [9, 2, 0.5], [2, 9, 0.5]],
        "depth NaN": [[2, 2, math.nan], [9, 2, 0.5], [2, 9, 0.5]],
        "infinite": [[2, math.inf, 0.5], [9, 2, 0.5], [2, 9, 0.5]],
    }
    pixels = torch.tensor([good + corners for corners in bad.values()], device=device)
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32, device=device)
    alone = soft_silhouette(pixels[:1], faces[:1], 12, 12)
    assert (alone > 0.5).sum() > 20
    together = soft_silhouette(pixels.requires_grad_(), faces, 12, 12)
    for i, name in enumerate(bad):
        assert torch.equal(together[i], alone[0]), name
    together.square().sum().backward()
    assert pixels.grad.isfinite().all() and not pixels.grad[:, 3:].any() and pixels.grad[:, :3].any()


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 0), (2, 5, 0)], ids=["no picture", "no vertex", "no face"])
def test_nothing_to_draw(device, shape):
    batch, vertices, count = shape
    pixels = torch.rand(batch, vertices, 3, device=device, requires_grad=True)
    silhouette = soft_silhouette(pixels, torch.zeros(count, 3, dtype=torch.int32, device=device), 7, 5)
    assert silhouette.shape == (batch, 5, 7) and not silhouette.any()
    silhouette.sum().backward()
    assert pixels.grad.shape == (batch, vertices, 3) and not pixels.grad.any()


def fit(draw, widths, steps=40):
    """Moves and scales a ball of radius 5 towards one of radius 8 that it does not touch, by what both cover."""
    target, faces = ball(torch.tensor([34.0, 30.0]), torch.tensor(8.0))
    truth = draw(target, faces, 0.1)
    center, size = torch.tensor([13.0, 12.0], requires_grad=True), torch.tensor(math.log(5.0), requires_grad=True)
    adam = torch.optim.Adam([{"params": [center], "lr": 0.6}, {"params": [size], "lr": 0.02}])
    pulls = []
    for sigma in widths:
        for _ in range(steps):
            adam.zero_grad()
            image = draw(ball(center, size.exp())[0], faces, sigma)
            both = (image * truth).sum()
            (1 - both / (image.sum() + truth.sum() - both)).backward()  # as in the paper
            pulls.append(center.grad.clone())
            adam.step()
    return center.detach(), float(size.detach().exp()), pulls[0]


def test_fits_a_ball_that_does_not_touch_its_target():
    """Outlines of a pixel's width have nothing that pulls them there; soft ones do, and end where they should."""

    def sharp(pixels, faces, sigma):
        r = mesh_raster(pixels, faces, 48, 48)
        image = (r.face >= 0).float()[..., None]
        return antialias(image, r.face, r.depth, pixels, faces, opposite_corners(faces))[..., 0]

    def soft(pixels, faces, sigma):
        return soft_silhouette(pixels, faces, 48, 48, sigma)

    center, radius, pull = fit(soft, [60.0, 15.0, 4.0, 1.0, 0.1])
    assert (pull < -1e-3).all(), "towards the target from the first step on"
    assert (center - torch.tensor([34.0, 30.0])).norm() < 0.3 and abs(radius - 8) < 0.3
    center, radius, pull = fit(sharp, [0.1])
    assert pull.norm() < 1e-6 and (center - torch.tensor([34.0, 30.0])).norm() > 25, "then this test is too easy"


def picture_and_gradient(pixels, faces, width, height, sigma):
    leaf = pixels.clone().requires_grad_()
    silhouette = soft_silhouette(leaf, faces, width, height, sigma)
    return [silhouette, *torch.autograd.grad(silhouette.square().sum(), leaf)]


def test_threads_change_nothing():
    pixels, faces = soup(90, 70, torch.float32, batch=3, vertices=300, faces=400)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(picture_and_gradient(pixels, faces, 90, 70, 2.0))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for r in results[1:] for a, b in zip(results[0], r))


OUTPUTS = """
import sys, torch
sys.path[:0] = [sys.argv[2]]
from ops.test_soft_silhouette import picture_and_gradient, soup
torch.save(picture_and_gradient(*soup(61, 40, torch.float32, faces=40), 61, 40, 3.0), sys.argv[1])
"""


def test_every_instruction_set_draws_the_same(tmp_path):
    results = []
    tests = os.path.dirname(os.path.dirname(__file__))
    for isa in instruction_sets():
        run = [sys.executable, "-c", OUTPUTS, str(tmp_path / isa), tests]
        subprocess.run(run, env=os.environ | {"NEURAL3D_ISA": isa}, check=True)
        results.append(torch.load(tmp_path / isa))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(b.detach().abs().max()))


def test_bad_input_is_a_sentence():
    pixels, faces = soup(8, 8)
    for arguments, sentence in [
        ((pixels[0], faces, 8, 8), "pixels must have shape"),
        ((pixels.half(), faces, 8, 8), "pixels must be float32 or float64"),
        ((pixels, faces.long(), 8, 8), "faces must be int32"),
        ((pixels, faces + 1, 8, 8), "faces name vertices 1 to 12; there are 12"),
        ((pixels, faces, 0, 8), "width and height must be 1 to 32767, not 0 and 8"),
        ((pixels, faces, 8, 8, 0.0), "sigma must be above 0, not 0.0"),
        ((pixels, faces, 8, 8, math.nan), "sigma must be above 0, not nan"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            soft_silhouette(*arguments)
