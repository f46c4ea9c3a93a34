import math
import os
import subprocess
import sys

import pytest
import torch
from instruction_sets import instruction_sets
from reference.splat_project import splat_project as reference
from reference.splat_raster import splat_raster as blend
from safetensors.torch import load_file
from splats import HEIGHT, WIDTH, synthetic_camera, synthetic_splats

from neural3d.geometry.cameras import Camera
from neural3d.ops.splat_project import Projected, splat_project

NAMES = ("means", "quats", "scales", "opacities", "sh_dc", "sh_rest", "camera_from_world", "intrinsics")


def differentiable(p: Projected):
    return p.xy, p.conic, p.depth, p.opacity, p.color


def scene(n=1003, dtype=torch.float64, device="cpu", distance=0.7, raw=True, degree=3, **options):
    """Splats around and behind a camera that stands among them: about a third is visible."""
    splats = synthetic_splats(n, raw=raw, degree=degree, **({"size": 0.03} | options))
    camera, intrinsics = synthetic_camera(distance)
    return [x.to(device, dtype).requires_grad_() for x in (*splats, camera)], intrinsics.to(device, dtype)


def one_of(means, **options):
    n, dtype = len(means), means.dtype
    rows = [torch.tensor([x], dtype=dtype).expand(n, -1) for x in ((1.0, 0, 0, 0), (0.05, 0.04, 0.03))]
    view = torch.eye(4, dtype=dtype), torch.tensor([50.0, 50, 32, 24], dtype=dtype)
    opacities = torch.full((n,), 0.9, dtype=dtype)
    return splat_project(means, *rows, opacities, None, None, *view, 64, 48, sh_degree=0, **options)


def one(mean=(0.0, 0, 2), quat=(1.0, 0, 0, 0), scale=(0.05, 0.05, 0.05), opacity=0.9, dtype=torch.float64, **options):
    """A single white splat before a camera at the origin, 64 × 48 pixels, f = 50."""
    rows = [torch.tensor([x], dtype=dtype) for x in (mean, quat, scale, opacity)]
    white = torch.full((1, 3), 0.5 / 0.28209479177387814, dtype=dtype)
    view = torch.eye(4, dtype=dtype), torch.tensor([50.0, 50, 32, 24], dtype=dtype)
    return splat_project(*rows, white, white.new_zeros(1, 0, 3), *view, 64, 48, sh_degree=0, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [{}, dict(antialiased=True), dict(raw=False, antialiased=True), dict(lens="fisheye"), dict(lens="orthographic")],
    ids=str,
)
def test_matches_the_matrices_and_their_gradients(device, dtype, degree, options):
    leaves, k = scene(dtype=dtype, device=device, raw=options.get("raw", True))
    options = dict(sh_degree=degree, raw=True) | options
    leaves.append(k.requires_grad_())
    exact = [x.detach().double().requires_grad_() for x in leaves]
    ours = splat_project(*leaves, WIDTH, HEIGHT, **options)
    expected = reference(*exact, WIDTH, HEIGHT, **options)
    visible = expected.radius > 0
    assert torch.equal(ours.radius > 0, visible) and 200 < visible.sum() < 500
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    for name, want in expected._asdict().items():
        error = (getattr(ours, name) - want).abs().max() / want.abs().max()
        assert error < tolerance, f"{name}: {error:.1e}"
        assert not getattr(ours, name)[~visible].any()
    torch.manual_seed(0)
    v = [torch.randn_like(x) for x in differentiable(ours)]
    got = torch.autograd.grad(differentiable(ours), leaves, v)
    want = torch.autograd.grad(expected[:5], exact, [x.double() for x in v])
    for name, a, b in zip(NAMES, got, want):
        error = (a - b).abs().max() / b.abs().max().clamp(min=1e-30)
        assert error < 10 * tolerance, f"v_{name}: {error:.1e}"
    assert torch.equal(got[5][:, (degree + 1) ** 2 - 1 :], torch.zeros_like(got[5][:, (degree + 1) ** 2 - 1 :]))


def test_a_fisheye_on_its_axis():
    """There θ/r and its slopes are quotients of zeros: the lens is a pinhole's to second order."""
    for depth in (0.1, 2.0):
        mean = torch.tensor([[0.0, 0, depth]], dtype=torch.float64, requires_grad=True)
        results = []
        for lens in ("pinhole", "fisheye"):
            p = one_of(mean, lens=lens)
            v = [torch.linspace(1, 2, x.numel(), dtype=x.dtype).view(x.shape) for x in differentiable(p)]
            results.append([*differentiable(p), *torch.autograd.grad(differentiable(p), mean, v)])
        for a, b in zip(*results):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_float32_is_right_splat_by_splat(device):
    """1e-4 relative to each row's own size, unless that is below a hundredth of the median, not to the largest."""
    torch.manual_seed(0)
    leaves, k = scene(5000, torch.float32, device)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    ours = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=3, raw=True, antialiased=True)
    expected = reference(*exact, k.double(), WIDTH, HEIGHT, sh_degree=3, raw=True, antialiased=True)
    both = (ours.radius > 0) & (expected.radius > 0)
    assert ((ours.radius > 0) ^ both).sum() + ((expected.radius > 0) ^ both).sum() <= 1
    v = [torch.randn_like(x) * both.view(-1, *[1] * (x.ndim - 1)) for x in differentiable(ours)]
    got = torch.autograd.grad(differentiable(ours), leaves[:6], v)
    want = torch.autograd.grad(expected[:5], exact[:6], [x.double() for x in v])
    for name, a, b in [*zip(Projected.__annotations__, differentiable(ours), expected), *zip(NAMES, got, want)]:
        a, b = a[both].flatten(1) if a.ndim > 1 else a[both, None], b[both].flatten(1) if b.ndim > 1 else b[both, None]
        error = (a - b).norm(dim=1) / b.norm(dim=1).clamp(min=1e-2 * b.norm(dim=1).median())
        assert error.max() < 1e-4, f"{name}: {error.max():.1e}"


@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_round_splats_turn_by_nothing_but_their_shape(device, spread):
    """float32: a ball's turn changes nothing; a nearly round one's has all its digits, though it is a thousandth."""
    leaves, k = scene(300, torch.float32, device, raw=False)
    with torch.no_grad():
        leaves[2].copy_(0.03 * (1 + spread * torch.randn_like(leaves[2])))
    exact = [x.detach().double().requires_grad_() for x in leaves]
    ours, expected = (
        splat_project(*x[:6], x[6], k.to(x[0]), WIDTH, HEIGHT, sh_degree=3, antialiased=True) for x in (leaves, exact)
    )
    v = torch.randn_like(ours.conic)
    got, want = (torch.autograd.grad(p.conic, x[1], v.to(x[0]))[0] for p, x in ((ours, leaves), (expected, exact)))
    if spread:
        assert (got - want).norm(dim=1).max() < 1e-5 * want.norm(dim=1).max()
    else:
        assert not got.any() and not want.any()


@pytest.mark.parametrize("options", [dict(raw=True), dict(raw=False), dict(raw=True, antialiased=True)], ids=str)
@pytest.mark.parametrize("output", range(5), ids=["xy", "conic", "depth", "opacity", "color"])
def test_gradients(output, options):
    """float64, each output alone so that every other gradient is absent; two splats lie beyond the slopes' limits."""
    splats = synthetic_splats(6, raw=options["raw"], size=0.1, seed=3)
    splats[2][4:] = 0.0 if options["raw"] else 1.0
    splats[3][:] = splats[3].abs()
    splats[4].add_(1.5)  # no colour is clamped
    camera, k = synthetic_camera(2.0)
    beyond = torch.tensor([[1.2, 0, 0.4], [0, -1.3, 0.4]]).double()  # in the camera's frame
    splats[0][4:] = (beyond - camera[:3, 3]) @ camera[:3, :3]
    leaves = [x.requires_grad_() for x in (*splats, camera)]

    def f(*leaves):
        p = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=3, **options)
        assert (p.radius > 0).all()
        return differentiable(p)[output]

    assert torch.autograd.gradcheck(f, leaves)


def test_a_ball_on_the_axis():
    """A ball of σ at distance z has σ f / z pixels across, plus the blur; its radius is where alpha is 1/255."""
    p = one((0, 0, 2), scale=(0.05, 0.05, 0.05), opacity=0.9, blur=0.3)
    variance = (0.05 * 50 / 2) ** 2 + 0.3
    torch.testing.assert_close(p.xy, torch.tensor([[32.0, 24]]).double())
    torch.testing.assert_close(p.conic, torch.tensor([[1 / variance, 0, 1 / variance]]).double())
    assert p.depth.item() == 2 and p.opacity.item() == 0.9
    torch.testing.assert_close(p.color, torch.ones(1, 3).double())
    assert 0.9 * math.exp(-0.5 * p.radius.item() ** 2 / variance) == pytest.approx(1 / 255)


def test_moments_of_projected_samples():
    """Small splats: points drawn from the 3D Gaussian and seen through the camera have xy and Σ′ as moments."""
    torch.manual_seed(0)
    means, quats, scales, opacities, dc, rest = synthetic_splats(8, raw=False, size=0.005, spread=0.3)
    camera, k = synthetic_camera(1.5)
    p = splat_project(means, quats, scales, opacities + 1, dc, rest, camera, k, WIDTH, HEIGHT, sh_degree=0, blur=0)
    assert (p.radius > 0).all()
    q = torch.nn.functional.normalize(quats, dim=-1)
    draws = torch.randn(40_000, 8, 3, dtype=torch.float64) * scales
    turned = draws + 2 * torch.linalg.cross(
        q[:, 1:].expand_as(draws),
        torch.linalg.cross(q[:, 1:].expand_as(draws), draws) + q[:, :1] * draws,
    )
    pinhole = Camera("PINHOLE", WIDTH, HEIGHT, k, torch.linalg.inv(camera))
    xy, z = pinhole.project(means)
    torch.testing.assert_close(p.xy, xy.double(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(p.depth, z.double(), rtol=1e-9, atol=1e-9)
    seen, _ = pinhole.project(means + turned)
    for i in range(8):
        c = p.conic[i]
        covariance = torch.linalg.inv(torch.stack([c[[0, 1]], c[[1, 2]]]))
        measured = torch.cov(seen[:, i].double().T)
        assert (measured - covariance).norm() < 0.03 * covariance.norm()


def test_moving_scene_and_camera_together_changes_nothing():
    leaves, k = scene()
    means, quats, *rest, camera = (x.detach() for x in leaves)
    before = splat_project(means, quats, *rest, camera, k, WIDTH, HEIGHT, sh_degree=0, raw=True)
    half = 0.4  # about the y axis: quaternion (cos, 0, sin, 0)
    turn = torch.tensor([
        [math.cos(2 * half), 0, math.sin(2 * half), 0.3],
        [0, 1, 0, -0.2],
        [-math.sin(2 * half), 0, math.cos(2 * half), 0.9],
        [0, 0, 0, 1],
    ]).double()  # fmt: skip
    w, x, y, z = quats.unbind(-1)
    c, s = math.cos(half), math.sin(half)
    turned = torch.stack([c * w - s * y, c * x + s * z, c * y + s * w, c * z - s * x], -1)
    moved = means @ turn[:3, :3].T + turn[:3, 3]
    after = splat_project(
        moved, turned, *rest, camera @ torch.linalg.inv(turn), k, WIDTH, HEIGHT, sh_degree=0, raw=True
    )
    for a, b in zip(differentiable(before), differentiable(after)):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_what_is_culled_could_not_be_seen_and_what_is_kept_reaches_its_radius():
    """float64: alpha of every splat at every pixel, without culling, from the reference's shapes."""
    leaves, k = scene(1500, size=0.02, spread=1.5)
    leaves = [x.detach() for x in leaves]
    width, height = 60, 90
    k = k * torch.tensor([width / WIDTH, height / HEIGHT] * 2)
    p = splat_project(*leaves, k, width, height, sh_degree=0, raw=True)
    big = reference(*leaves, k + torch.tensor([0, 0, 1e5, 1e5]), 200_000, 200_000, sh_degree=0, raw=True)
    front = leaves[0] @ leaves[6][2, :3] + leaves[6][2, 3] > 0.01
    # Slopes are limited by the image: where that matters the wide image has other ellipses, so leave those out.
    slope = (big.xy - 1e5 - torch.tensor([width / 2, height / 2])).abs() / torch.tensor([width / 2, height / 2])
    judged = front & (big.radius > 0) & (slope < 1.25).all(1)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    dx, dy = x - (big.xy[:, 0, None, None] - 1e5), y - (big.xy[:, 1, None, None] - 1e5)
    a, b, c = (big.conic[:, i, None, None] for i in range(3))
    alpha = big.opacity[:, None, None] * torch.exp(-0.5 * (a * dx**2 + 2 * b * dx * dy + c * dy**2))
    drawn = (alpha >= 1 / 255).flatten(1).any(1)
    kept = p.radius > 0
    assert not (judged & drawn & ~kept).any()
    assert (judged & ~kept).sum() > 20 and (judged & kept).sum() > 100
    assert (judged & kept & ~drawn).sum() < 0.1 * kept.sum(), "corners of boxes, and little more"
    assert not kept[~front].any()
    conic = torch.stack([p.conic[:, [0, 1]], p.conic[:, [1, 2]]], 1)[kept]
    axes = torch.linalg.eigh(conic)[1]
    edge = axes[:, :, 0] * p.radius[kept, None]  # along the long axis
    power = torch.einsum("ni,nij,nj->n", edge, conic, edge)
    torch.testing.assert_close(p.opacity[kept] * torch.exp(-0.5 * power), torch.full_like(power, 1 / 255))


@pytest.mark.parametrize(
    "why, splat, options",
    [
        ("behind", dict(mean=(0.0, 0, -1)), {}),
        ("nearer than near", dict(mean=(0.0, 0, 0.5)), dict(near=0.6)),
        ("beyond far", dict(mean=(0.0, 0, 2)), dict(far=1.9)),
        ("faint", dict(opacity=0.0039), {}),
        ("faint once sharpened", dict(opacity=0.5, scale=(1e-5,) * 3), dict(antialiased=True, blur=0.3)),
        ("aside", dict(mean=(1.9, 0, 2)), {}),
        ("above", dict(mean=(0, -1.6, 2)), {}),
        ("a point without blur", dict(scale=(0.0, 0, 0)), dict(blur=0)),
        ("an edge-on disc without blur", dict(scale=(0.0, 0.1, 0.1)), dict(blur=0)),
        ("NaN mean", dict(mean=(math.nan, 0, 2)), {}),
        ("infinite depth", dict(mean=(0, 0, math.inf)), {}),
        ("NaN quaternion", dict(quat=(math.nan, 0, 0, 1)), {}),
        ("NaN scale", dict(scale=(math.nan, 1, 1)), {}),
        ("infinite scale", dict(scale=(math.inf, 1, 1)), {}),
        ("NaN opacity", dict(opacity=math.nan), {}),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_culled(why, splat, options, dtype):
    assert one(dtype=dtype).radius > 0, "the splat that is spoilt is a good one"
    p = one(**splat, dtype=dtype, **options)
    for name in Projected.__annotations__:
        assert not getattr(p, name).any(), name


def test_bad_splats_spoil_no_others(device):
    leaves, k = scene(64, torch.float32, device, distance=2.5)
    good = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=3, raw=True)
    bad = [x.detach().clone() for x in leaves]
    bad[0][3, 0], bad[1][9, 2], bad[2][17, 1], bad[3][30] = math.nan, math.inf, math.inf, math.nan
    bad[5][41, 7, 1] = math.nan
    for x in bad:
        x.requires_grad_()
    p = splat_project(*bad, k, WIDTH, HEIGHT, sh_degree=3, raw=True)
    assert p.color[41, 1].isnan(), "shown, not hidden"
    same = torch.ones(64, dtype=torch.bool, device=device)
    same[[3, 9, 17, 30]] = False
    for name in Projected.__annotations__:
        a, b = getattr(p, name), getattr(good, name)
        assert not a[~same].any(), f"{name} of culled splats"
        rest = same if name != "color" else same & (torch.arange(64, device=device) != 41)
        assert torch.equal(a[rest], b[rest])
    outs = differentiable(p)
    grads = torch.autograd.grad(sum(x[[i for i in range(64) if i != 41]].sum() for x in outs), bad)
    for name, g in zip(NAMES, grads):
        assert g.isfinite().all(), name


def test_needles_keep_their_digits():
    """1000 pixels long, 0.05 wide: float32 determinants by Σ_xx Σ_yy − Σ_xy² would be pure rounding error."""
    for angle in (0.1, 0.5, 0.7853, 1.2):
        quat = (math.cos(angle / 2), 0, 0, math.sin(angle / 2))
        needle = dict(mean=(0.1, 0.2, 2), quat=quat, scale=(40.0, 0.002, 0.002))
        ours, exact = one(**needle, dtype=torch.float32, antialiased=True), one(**needle, antialiased=True)
        assert exact.radius > 900
        torch.testing.assert_close(ours.conic.double(), exact.conic, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.opacity.double(), exact.opacity, rtol=1e-4, atol=0)


def test_antialiasing_keeps_the_light():
    """opacity × area of the ellipse is that of the splat without blur."""
    plain, kept = one(blur=0), one(blur=0.3, antialiased=True)
    light = [(p.opacity / (p.conic[:, 0] * p.conic[:, 2] - p.conic[:, 1] ** 2).sqrt()).item() for p in (plain, kept)]
    assert light[1] == pytest.approx(light[0])


def test_antialiasing_has_a_floor():
    """A speck keeps 0.005 of its opacity, whatever its size: gradients reach the opacity and not the scales."""
    means, quats = torch.tensor([[0.0, 0, 2]]).double(), torch.tensor([[1.0, 0, 0, 0]]).double()
    scales, opacities = torch.full((1, 3), 1e-6).double(), torch.tensor([0.9]).double()
    leaves = [x.requires_grad_() for x in (scales, opacities)]
    view = torch.eye(4), torch.tensor([50.0, 50, 32, 24]), 64, 48
    p = splat_project(means, quats, *leaves, None, None, *view, sh_degree=0, antialiased=True)
    v_scales, v_opacities = torch.autograd.grad(p.opacity.sum(), leaves)
    assert p.opacity.item() == pytest.approx(0.0045) and p.radius > 0
    assert v_opacities.item() == pytest.approx(0.005) and not v_scales.any()


@pytest.mark.parametrize("case, count", [("tiny", 4), ("basic", 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden_pictures(data_dir, case, count, dtype, device):
    """Two pictures rendered by gsplat, blended in float64; the camera and conventions stand in their README."""
    golden = load_file(data_dir / "golden_peers/brush" / f"{case}_case.safetensors", device=str(device))
    splats = [golden[k].to(dtype) for k in ("means", "quats", "scales", "opacities")]
    coefficients = golden["coeffs"].to(dtype)
    camera = torch.eye(4, dtype=dtype, device=device)
    camera[:3, 3] = -torch.tensor([0.123, 0.456, -8])
    k = torch.tensor([61.5, 61.5, 61.5, 41])
    p = splat_project(*splats, coefficients[:, 0], coefficients[:, 1:], camera, k, 123, 82, sh_degree=3, raw=True)
    assert (p.radius > 0).sum() == count
    p = Projected(**{name: getattr(p, name).double() for name in Projected.__annotations__})
    image = torch.cat(blend(p.xy, p.conic, p.depth, p.opacity, p.color, 123, 82), -1)
    assert (image - golden["out_img"]).abs().max() < (1.3e-6 if dtype == torch.float64 else 2e-6)


def test_colours_are_optional_and_coefficients_may_be_spare(device):
    leaves, k = scene(100, device=device)
    whole = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=1, raw=True)
    bare = splat_project(*leaves[:4], None, None, leaves[6], k, WIDTH, HEIGHT, sh_degree=0, raw=True)
    assert bare.color.shape == (100, 0) and torch.equal(bare.conic, whole.conic)
    bare.xy.sum().backward()
    assert leaves[0].grad.abs().sum() > 0
    fewer = splat_project(*leaves[:5], leaves[5][:, :3], leaves[6], k, WIDTH, HEIGHT, sh_degree=1, raw=True)
    assert torch.equal(fewer.color, whole.color)
    v = torch.randn_like(whole.color)
    a, b = (torch.autograd.grad(p.color, leaves[5], v)[0] for p in (whole, fewer))
    assert torch.equal(a, b) and a[:, :3].any() and not a[:, 3:].any()


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 127, 129])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_any_number_of_splats(device, n, degree):
    """As the first of many: nothing is read or written beyond the end, whatever the last pack holds."""
    leaves, k = scene(200, torch.float32, device, degree=degree, distance=2.5)
    whole = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=degree, raw=True)
    part = [x.detach()[:n].clone().requires_grad_() for x in leaves[:6]]
    p = splat_project(*part, leaves[6], k, WIDTH, HEIGHT, sh_degree=degree, raw=True)
    v = [torch.randn_like(x) for x in differentiable(p)]
    got = torch.autograd.grad(differentiable(p), part, v)
    rest = [torch.cat([a, torch.zeros_like(b[n:])]) for a, b in zip(v, differentiable(whole))]
    want = torch.autograd.grad(differentiable(whole), leaves[:6], rest)
    for name in Projected.__annotations__:
        assert torch.equal(getattr(p, name), getattr(whole, name)[:n])
    for a, b in zip(got, want):
        assert torch.equal(a, b[:n]) and not b[n:].any()


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_very_many_splats(device, degree):
    """Enough that gradients of the harmonics pass by the caches; the last pack is not whole."""
    leaves, k = scene(70_001, torch.float32, device, degree=degree)
    leaves = [x.detach() for x in leaves]
    v = torch.randn(70_001, 3, device=device)

    def harmonics_gradient(rows):
        part = [x[rows].requires_grad_() for x in leaves[:6]]
        color = splat_project(*part, leaves[6], k, WIDTH, HEIGHT, sh_degree=degree, raw=True).color
        return torch.autograd.grad(color, part[5], v[rows])[0]

    parts = [harmonics_gradient(slice(i, i + 10_000)) for i in range(0, 70_001, 10_000)]
    assert torch.equal(harmonics_gradient(slice(None)), torch.cat(parts))


def test_non_contiguous_and_mixed_inputs():
    leaves, k = scene(50, torch.float32)
    plain = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=3, raw=True)
    strided = [x.detach().repeat_interleave(2, 0)[::2].requires_grad_() for x in leaves[:6]]
    p = splat_project(*strided, leaves[6].double(), k.double(), WIDTH, HEIGHT, sh_degree=3, raw=True)
    assert torch.equal(p.conic, plain.conic) and torch.equal(p.color, plain.color)
    a, b = (torch.autograd.grad(q.conic.sum() + q.color.sum(), x[5])[0] for q, x in ((p, strided), (plain, leaves)))
    assert torch.equal(a, b)


def test_without_gradients_nothing_is_kept():
    leaves, k = scene(50, torch.float32)
    with torch.no_grad():
        p = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=3, raw=True)
    assert not p.color.requires_grad
    q = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=3, raw=True)
    assert torch.equal(p.color, q.color) and q.color.requires_grad and not q.radius.requires_grad


def test_threads_change_nothing():
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            leaves, k = scene(5000, torch.float32)
            p = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=3, raw=True)
            out = differentiable(p)
            results.append([*out, *torch.autograd.grad([x.sum() for x in out], leaves)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for r in results[1:] for a, b in zip(results[0], r))


OUTPUTS = """
import sys, torch
from splats import HEIGHT, WIDTH, synthetic_camera, synthetic_splats
from neural3d.ops.splat_project import splat_project
camera, k = synthetic_camera(0.7)
leaves = [x.float().requires_grad_() for x in (*synthetic_splats(1003, size=0.03), camera)]
p = splat_project(*leaves, k, WIDTH, HEIGHT, sh_degree=3, raw=True, antialiased=True)
out = [p.xy, p.conic, p.depth, p.opacity, p.color]
g = torch.Generator().manual_seed(0)
v = [torch.rand(x.shape, generator=g) for x in out]
torch.save([*out, p.radius, *torch.autograd.grad(out, leaves, v)], sys.argv[1])
"""


def test_every_instruction_set_agrees(tmp_path):
    results = []
    tests = os.path.dirname(os.path.dirname(__file__))
    path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
    for isa in instruction_sets():
        run = [sys.executable, "-c", OUTPUTS, str(tmp_path / isa)]
        subprocess.run(run, env=os.environ | {"NEURAL3D_ISA": isa, "PYTHONPATH": path}, check=True)
        results.append(torch.load(tmp_path / isa))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6 * a.detach().abs().max().item())


def test_bad_input_is_a_sentence():
    leaves, k = scene(10, torch.float32)
    leaves = [x.detach() for x in leaves]
    options = dict(sh_degree=3)

    def replaced(i, x):
        return [*leaves[:i], x, *leaves[i + 1 :]]

    for arguments, more, sentence in [
        (replaced(0, leaves[0].half()), {}, "float32 or float64"),
        (replaced(0, leaves[0][:, :2]), {}, "means must have shape"),
        (replaced(1, leaves[1][:9]), {}, "quats must have shape"),
        (replaced(2, leaves[2].double()), {}, "scales must be torch.float32"),
        (replaced(3, leaves[3][:, None]), {}, "opacities must have shape"),
        (replaced(4, None), {}, "both be given"),
        (replaced(5, leaves[5][:, :4]), {}, "0, 3, 8 or 15"),
        (replaced(5, leaves[5][:, :8]), {}, "sh_degree 3 needs more than the 8"),
        (leaves, dict(sh_degree=4), "sh_degree 4"),
        (replaced(6, leaves[6][:3]), {}, "camera_from_world must have shape"),
        (leaves, dict(near=0.0), "0 < near"),
        (leaves, dict(blur=-1.0), "blur >= 0"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            splat_project(*arguments, k, WIDTH, HEIGHT, **(options | more))
