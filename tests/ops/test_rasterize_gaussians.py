import math

import pytest
import torch
from reference.splat_project import splat_project as reference_project
from reference.splat_raster import splat_raster as reference_raster

from neural3d.ops.rasterize_gaussians import rasterize_gaussians

WIDTH, HEIGHT = 40, 35
INTRINSICS = torch.tensor([45.0, 47.0, 19.0, 18.0], dtype=torch.float64)


def camera():
    turn = torch.eye(4, dtype=torch.float64)
    c, s = math.cos(0.3), math.sin(0.3)
    turn[:3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    turn[2, 3] = 4
    return turn


def gaussians(n=40, harmonics=16, dtype=torch.float64, device="cpu"):
    g = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    values = (
        normal(n, 3),
        normal(n, 4),
        (normal(n, 3) * 0.4 - 1.8).exp(),
        normal(n).sigmoid(),
        normal(n, harmonics, 3) * 0.3,
    )
    return [v.to(device, dtype).requires_grad_() for v in values]


def reference(means, quats, scales, opacities, colors, view, sh_degree, background):
    p = reference_project(
        means, quats, scales, opacities, colors[:, 0], colors[:, 1:], view, INTRINSICS.to(means), WIDTH, HEIGHT,
        sh_degree=sh_degree, near=0.01, blur=0.3,
    )  # fmt: skip
    return p, reference_raster(p.xy, p.conic, p.depth, p.opacity, p.color, WIDTH, HEIGHT, background=background)


def test_matches_the_references_and_their_gradients(device):
    values = gaussians(device=device)
    view = camera().to(device).requires_grad_()
    background = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, device=device, requires_grad=True)
    image, alpha, info = rasterize_gaussians(
        *values, view, INTRINSICS.to(device), WIDTH, HEIGHT, sh_degree=3, background=background
    )
    p, want = reference(*values, view, 3, background)
    leaves = [*values, view, background]
    v = torch.randn_like(image)
    ours, theirs = (torch.autograd.grad([i, a], leaves, [v, v[..., :1]]) for i, a in ((image, alpha), want))
    for a, b in ((image, want[0]), (alpha, want[1]), (info.xy, p.xy), *zip(ours, theirs)):
        torch.testing.assert_close(a[:3], b[:3], rtol=1e-8, atol=1e-8)


def test_render_modes(device):
    means, quats, scales, opacities, coefficients = (v.detach() for v in gaussians(device=device))
    colors, background = coefficients[:, 0].sigmoid(), torch.tensor([0.2, 0.5, 0.9], device=device).double()
    scene = means, quats, scales, opacities, colors, camera().to(device)
    matrix = torch.tensor([[45.0, 0, 19], [0, 47, 18], [0, 0, 1]], dtype=torch.float64, device=device)
    rgb, alpha, info = rasterize_gaussians(*scene, INTRINSICS, WIDTH, HEIGHT, background=background)
    pictures = {
        mode: rasterize_gaussians(*scene, matrix, WIDTH, HEIGHT, background=background, render_mode=mode)[0]
        for mode in ("D", "ED", "RGB+D", "RGB+ED")
    }
    depth = reference_raster(info.xy, info.conic, info.depth, info.opacity, info.depth[:, None], WIDTH, HEIGHT)[0]
    torch.testing.assert_close(pictures["D"], depth)
    seen = alpha > 0
    assert seen.any() and not seen.all()
    torch.testing.assert_close(pictures["ED"][seen], (depth / alpha)[seen])
    assert not pictures["ED"][~seen].any()
    for mode in ("D", "ED"):
        torch.testing.assert_close(pictures[f"RGB+{mode}"], torch.cat([rgb, pictures[mode]], -1))


def test_xy_keeps_its_gradient_and_its_absolute_sum():
    values = gaussians()
    sums = torch.zeros(40, 2, dtype=torch.float64)
    image, _, info = rasterize_gaussians(*values, camera(), INTRINSICS, WIDTH, HEIGHT, sh_degree=1, xy_abs_grad=sums)
    info.xy.retain_grad()
    image.square().sum().backward()
    assert (sums >= info.xy.grad.abs() * (1 - 1e-9)).all() and (sums > 2 * info.xy.grad.abs()).any()


def test_bad_input_is_a_sentence():
    values = [v.detach() for v in gaussians()]
    with pytest.raises(ValueError, match="render_mode must be one of RGB"):
        rasterize_gaussians(*values, camera(), INTRINSICS, WIDTH, HEIGHT, sh_degree=1, render_mode="depth")
    with pytest.raises(ValueError, match="colors must have shape"):
        rasterize_gaussians(*values[:4], values[4][:, 0], camera(), INTRINSICS, WIDTH, HEIGHT, sh_degree=1)
