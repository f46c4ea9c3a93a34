import math
import os
import subprocess
import sys

import pytest
import torch
from instruction_sets import instruction_sets
from reference.splat_project import splat_project as reference_project
from reference.splat_raster import splat_raster as reference

from neural3d.ops.splat_raster import splat_raster

WIDTH, HEIGHT = 71, 45  # more than one tile each way, on every device, and no whole number of them


def splats(
    n, channels=3, dtype=torch.float32, device="cpu", *, size=4.0, opaque=1.0, width=WIDTH, height=HEIGHT, seed=0
):
    """xy, conic, depth, opacity, features: ellipses of about `size` pixels around the image, some of them outside."""
    g = torch.Generator().manual_seed(0)

    def uniform(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    xy = uniform(n, 2) * torch.tensor([width + 20, height + 20]) - 10
    radii, angle = size * torch.exp(torch.randn(n, 2, generator=g, dtype=torch.float64) * 0.7), uniform(n) * math.pi
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(n, 2, 2)
    q = (turn / radii[:, None] ** 2) @ turn.mT
    conic = torch.stack([q[:, 0, 0], q[:, 0, 1], q[:, 1, 1]], -1)
    values = xy, conic, uniform(n) * 5 + 0.1, uniform(n) * opaque, uniform(n, channels)
    return [v.to(device, dtype).contiguous() for v in values]


def leaves_of(values):
    """The differentiable ones of what `splats` returns."""
    return [v.requires_grad_() for i, v in enumerate(values) if i != 2]


def close(got, want, tolerance):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance * float(want.detach().abs().max() + 1e-30))


def compare(values, background=None, tolerance=1e-4, width=WIDTH, height=HEIGHT):
    """Image, alpha and all gradients against the reference."""
    leaves = leaves_of(values) + ([] if background is None else [background.requires_grad_()])
    ours = splat_raster(*values, width, height, background=background)
    want = reference(*values, width, height, background=background)
    torch.manual_seed(0)
    v = [torch.randn_like(x) for x in want]
    for a, b in zip(ours, want):
        close(a, b, tolerance)
    for a, b in zip(torch.autograd.grad(ours, leaves, v), torch.autograd.grad(want, leaves, v)):
        close(a, b, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 8, 11])
def test_matches_the_loop_and_its_gradients(device, dtype, channels):
    background = torch.rand(channels, dtype=dtype, device=device) if channels != 2 else None
    compare(splats(90, channels, dtype, device), background, 1e-4 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize(
    "n,size,opaque",
    [(9, 0.8, 3), (400, 5, 0.97), (120, 25, 0.97), (120, 60, 0.97)],
    ids=["capped", "stops", "large", "larger"],
)
def test_matches_at_all_sizes(device, n, size, opaque):
    """The first has opacities over 0.99, but hardly two at a pixel: T behind two is 1e-4, and rounding would decide."""
    values = splats(n, 3, torch.float64, device, size=size, opaque=opaque)
    compare(values, tolerance=1e-9)
    if n == 400:
        assert (splat_raster(*values, WIDTH, HEIGHT)[1] > 0.999).float().mean() > 0.5


@pytest.mark.parametrize("width,height", [(1, 1), (1, 33), (33, 1), (32, 64), (31, 17)])
def test_odd_images(device, width, height):
    background = torch.rand(3, dtype=torch.float64, device=device)
    compare(splats(40, 3, torch.float64, device, width=width, height=height), background, 1e-9, width, height)


def test_thin_ellipses_lose_no_pixel(device):
    """A thousand times longer than wide, across many tiles: the cells they touch must be found to the last."""
    values = splats(30, 3, torch.float64, device)
    angle = torch.linspace(0, math.pi, 30, dtype=torch.float64, device=device)
    long, wide = 1 / 500**2, 1 / 0.6**2
    conic = torch.stack(
        [
            long * angle.cos() ** 2 + wide * angle.sin() ** 2,
            (long - wide) * angle.cos() * angle.sin(),
            long * angle.sin() ** 2 + wide * angle.cos() ** 2,
        ],
        -1,
    )
    values[1] = conic
    compare(values, tolerance=1e-9)
    single = [v.detach().float() for v in values]
    got, exact = splat_raster(*single, WIDTH, HEIGHT)[0], reference(*values, WIDTH, HEIGHT)[0]
    assert (got - exact).abs().max() < 0.01


def test_gradients_by_differences():
    """float64; ellipses so wide and opacities such that no α is near 1/255 or 0.99 and no pixel stops."""
    xy, conic, depth, opacity, features = splats(6, 3, torch.float64, width=7, height=6, size=9)
    opacity = (0.2 + 0.7 * opacity).requires_grad_()
    background = torch.rand(3, dtype=torch.float64, requires_grad=True)
    leaves = [xy.requires_grad_(), conic.requires_grad_(), opacity, features.requires_grad_(), background]
    assert torch.autograd.gradcheck(
        lambda x, c, o, f, b: splat_raster(x, c, depth, o, f, 7, 6, background=b), leaves, atol=1e-6
    )


def test_each_output_alone(device):
    values = splats(30, 3, torch.float64, device)
    leaves = leaves_of(values)
    for k in range(2):
        ours, want = (f(*values, WIDTH, HEIGHT)[k].square().sum() for f in (splat_raster, reference))
        for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(want, leaves, allow_unused=True)):
            close(a, torch.zeros_like(a) if b is None else b, 1e-9)


def test_one_splat_is_the_formula(device):
    """α to float rounding where it is at least 1/255, nothing below; float32."""
    conic = torch.tensor([[0.02, 0.007, 0.013]], device=device)
    xy, one = torch.tensor([[30.2, 21.7]], device=device), torch.ones(1, device=device)
    image, alpha = splat_raster(xy, conic, one, 0.73 * one, one[:, None], WIDTH, HEIGHT)
    y, x = torch.meshgrid(
        torch.arange(HEIGHT, device=device) + 0.5, torch.arange(WIDTH, device=device) + 0.5, indexing="ij"
    )
    dx, dy = x.double() - xy[0, 0].double(), y.double() - xy[0, 1].double()
    a, b, c = conic[0].double()
    exact = (0.73 * one).double() * torch.exp(-0.5 * (a * dx**2 + c * dy**2) - b * dx * dy)
    exact[exact < 1 / 255] = 0
    assert 100 < (exact > 0).sum() < exact.numel()
    assert ((image[..., 0].double() - exact).abs() <= 1e-6 * exact).all()
    assert ((alpha[..., 0].double() - exact).abs() <= 2e-7).all()


def test_stopped_pixels_hide_and_capped_ones_do_not_push(device):
    """Three opaque splats at a pixel: T = 1, 0.01, then it would fall below 1e-4: the third is not seen."""
    xy = torch.full((3, 2), 2.5, device=device)
    conic = torch.tensor([[1e-4, 0.0, 1e-4]], device=device).repeat(3, 1)
    depth, features = torch.tensor([3.0, 1.0, 2.0], device=device), torch.eye(3, device=device)
    opacity = torch.tensor([0.9, 1.0, 0.97], device=device)
    leaves = [x.requires_grad_() for x in (xy, conic, opacity, features)]
    image, _ = splat_raster(xy, conic, depth, opacity, features, 5, 5)
    pixel = image[2, 2].detach()
    close(pixel, torch.tensor([0.0, 0.99, 0.0097], device=device), 1e-5)
    v_xy, _, v_opacity, v_features = torch.autograd.grad(image[2, 2, 1] + image[2, 2, 2], leaves)
    assert not v_features[0].any() and v_opacity[0] == 0 and not v_xy[0].any(), "hidden"
    assert v_opacity[1] == 0 and not v_xy[1].any() and v_features[1, 1] > 0.9, "capped: no slope, but a colour"
    close(v_opacity[2], torch.tensor(0.01, device=device), 1e-4)


def test_order_is_by_depth_and_then_by_number(device):
    values = splats(50, device=device)
    values[2][10:20] = values[2][10]
    image = splat_raster(*values, WIDTH, HEIGHT)[0]
    order = torch.arange(50, device=device).flip(0)
    order[30:40] = order[30:40].flip(0)  # those of equal depth keep their order
    assert torch.equal(splat_raster(*(v[order] for v in values), WIDTH, HEIGHT)[0], image)
    far = [*values[:2], values[2] - 100, *values[3:]]
    assert torch.equal(splat_raster(*far, WIDTH, HEIGHT)[0], image), "negative depths order as well"


def test_nothing_to_see(device):
    background = torch.tensor([0.1, 0.2, 0.3], device=device)
    for n, opacity in ((0, 1.0), (5, 0.0)):
        values = splats(n, device=device)
        values[3] = values[3] * opacity
        leaves = leaves_of(values)
        image, alpha = splat_raster(*values, 40, 30, background=background)
        assert torch.equal(image, background.expand(30, 40, 3)) and not alpha.any()
        for v in torch.autograd.grad(image.sum() + alpha.sum(), leaves):
            assert v.shape[0] == n and not v.any()


@pytest.mark.parametrize("which", range(4), ids=["xy", "conic", "depth", "opacity"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_touches_nothing(device, which, bad):
    values = splats(40, device=device)
    spoiled = [v.clone() for v in values]
    spoiled[which][7].view(-1)[0] = bad
    kept = torch.arange(40, device=device) != 7
    want = splat_raster(*(v[kept] for v in values), WIDTH, HEIGHT)[0]
    leaves = leaves_of(spoiled)
    image, _ = splat_raster(*spoiled, WIDTH, HEIGHT)
    assert torch.equal(image, want)
    for v in torch.autograd.grad(image.square().sum(), leaves):
        assert v.isfinite().all() and not v[7].any()


@pytest.mark.parametrize("conic", [(0.0, 0.0, 0.1), (0.1, 0.2, 0.1), (-0.1, 0.0, -0.1), (0.1, 0.1, 0.1)])
def test_no_ellipse_touches_nothing(device, conic):
    values = splats(20, device=device)
    kept = torch.arange(20, device=device) != 3
    want = splat_raster(*(v[kept] for v in values), WIDTH, HEIGHT)[0]
    values[1][3] = torch.tensor(conic)
    assert torch.equal(splat_raster(*values, WIDTH, HEIGHT)[0], want)


def test_nan_features_spoil_what_they_touch(device):
    values = splats(40, device=device)
    clean, _ = splat_raster(*values, WIDTH, HEIGHT)
    values[4][7] = math.nan
    image, _ = splat_raster(*values, WIDTH, HEIGHT)
    values[4][7] = 1e6
    seen = (splat_raster(*values, WIDTH, HEIGHT)[0] - clean).abs().amax(-1) > 1
    assert seen.any() and torch.equal(image.isnan().any(-1), seen) and torch.equal(image[~seen], clean[~seen])


@pytest.mark.parametrize("channels", [3, 8])
def test_abs_gradients(device, channels):
    """Σ over pixels of |∂L/∂xy|: one backward pass per pixel says what it must be. The others stay as they are."""
    values = splats(12, channels, torch.float64, device, width=9, height=5)
    leaves = leaves_of(values)
    xy = values[0]
    image, alpha = reference(*values, 9, 5)
    v, v_alpha = torch.randn_like(image), torch.randn_like(alpha)
    per_pixel = (image * v).sum(-1) + (alpha * v_alpha)[..., 0]
    want = sum(torch.autograd.grad(p, xy, retain_graph=True)[0].abs() for p in per_pixel.flatten())
    sums = torch.full_like(xy, math.nan)
    ours, our_alpha = splat_raster(*values, 9, 5, xy_abs_grad=sums.detach())
    got = torch.autograd.grad((ours * v).sum() + (our_alpha * v_alpha).sum(), leaves)
    close(sums.detach(), want, 1e-9)
    for a, b in zip(got, torch.autograd.grad(per_pixel.sum(), leaves)):
        close(a, b, 1e-9)


def test_many_splats_in_single_precision(device):
    """float32 against our float64: sorting with more than one part, many tiles, records from more than one."""
    values = splats(20_000, 3, torch.float64, device, width=300, height=200, opaque=0.3)
    results = []
    for dtype in (torch.float64, torch.float32):
        cast = [v.detach().to(dtype) for v in values]
        leaves = leaves_of(cast)
        out = splat_raster(*cast, 300, 200)
        results.append([*out, *torch.autograd.grad(out[0].square().sum() + out[1].sum(), leaves)])
    for exact, single in zip(*results):
        error = (single - exact).abs()
        assert error.norm() < 3e-4 * exact.norm(), "a few α fall on the other side of 1/255"
        assert (error > 1e-4 * exact.abs().max()).float().mean() < 1e-3


def test_same_bytes_in_any_order(device):
    """Of blocks and threads, on CUDA: sums have an order of their own."""
    values = splats(300, device=device)
    leaves = leaves_of(values)
    background = torch.rand(3, device=device, requires_grad=True)
    results = []
    for _ in range(2):
        out = splat_raster(*values, WIDTH, HEIGHT, background=background)
        results.append(torch.autograd.grad(out[0].square().sum() + out[1].sum(), [*leaves, background]))
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_threads_change_nothing():
    values = splats(9000, width=200, height=150)
    leaves = leaves_of(values)
    background = torch.rand(3, requires_grad=True)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            out = splat_raster(*values, 200, 150, background=background)
            results.append([*out, *torch.autograd.grad([x.square().sum() for x in out], [*leaves, background])])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for r in results[1:] for a, b in zip(results[0], r))


def test_strides_do_not_matter(device):
    values = splats(30, device=device)
    strided = [torch.stack([v, v], -1)[..., 0] for v in values]
    assert torch.equal(splat_raster(*strided, WIDTH, HEIGHT)[0], splat_raster(*values, WIDTH, HEIGHT)[0])


OUTPUTS = """
import sys, torch
from neural3d.ops.splat_raster import splat_raster
*values, background = torch.load(sys.argv[1])
leaves = [v.requires_grad_() for i, v in enumerate(values) if i != 2] + [background.requires_grad_()]
out = splat_raster(*values, 71, 45, background=background)
g = torch.Generator().manual_seed(0)
v = [torch.randn(x.shape, generator=g) for x in out]
torch.save([*(x.detach() for x in out), *torch.autograd.grad(out, leaves, v)], sys.argv[2])
"""


def test_every_instruction_set_agrees(tmp_path):
    torch.save([*splats(200), torch.rand(3)], tmp_path / "in")
    results = []
    for isa in instruction_sets():
        run = [sys.executable, "-c", OUTPUTS, str(tmp_path / "in"), str(tmp_path / isa)]
        subprocess.run(run, env=os.environ | {"NEURAL3D_ISA": isa}, check=True)
        results.append(torch.load(tmp_path / isa))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            close(b, a, 2e-5)


@pytest.mark.parametrize("case,tolerance", [("tiny", 2e-6), ("basic", 2e-6)])
def test_golden_pictures(data_dir, case, tolerance):
    """gsplat's pictures (golden_peers/README.md has the camera and the conventions)."""
    load_file = pytest.importorskip("safetensors.torch").load_file
    case = load_file(data_dir / "golden_peers" / "brush" / f"{case}_case.safetensors")
    camera = torch.eye(4, dtype=torch.float64)
    camera[:3, 3] = -torch.tensor([0.123, 0.456, -8.0])
    p = reference_project(
        case["means"].double(), case["quats"].double(), case["scales"].double().exp(),
        case["opacities"].double().sigmoid(), case["coeffs"][:, 0].double(), case["coeffs"][:, 1:].double(), camera,
        torch.tensor([61.5, 61.5, 61.5, 41.0], dtype=torch.float64), 123, 82, sh_degree=3, near=0.01, blur=0.3,
    )  # fmt: skip
    for dtype in (torch.float64, torch.float32):
        values = (x.to(dtype) for x in (p.xy, p.conic, p.depth, p.opacity, p.color))
        image, alpha = splat_raster(*values, 123, 82)
        assert (torch.cat([image, alpha], -1) - case["out_img"]).abs().max() < 5e-6


def test_bad_input_is_a_sentence():
    xy, conic, depth, opacity, features = splats(5)
    for arguments, sentence in [
        ((xy[:-1], conic, depth, opacity, features, 4, 4), "xy must have shape"),
        ((xy, conic[:, :2], depth, opacity, features, 4, 4), "conic must have shape"),
        ((xy, conic, depth.double(), opacity, features, 4, 4), "depth must be torch.float32"),
        ((xy, conic, depth, opacity[:, None], features, 4, 4), "opacity must have shape"),
        ((xy, conic, depth, opacity, features[:, 0], 4, 4), "features must have shape"),
        ((xy, conic, depth, opacity, features[:, :0], 4, 4), "C at least 1"),
        ((xy, conic, depth, opacity, features.half(), 4, 4), "float32 or float64"),
        ((xy, conic, depth, opacity, features, 0, 4), "width and height"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            splat_raster(*arguments)
    with pytest.raises(ValueError, match="at most 8 channels"):
        splat_raster(xy, conic, depth, opacity, features.repeat(1, 3), 4, 4, xy_abs_grad=torch.zeros(5, 2))
    with pytest.raises(ValueError, match="background must have shape"):
        splat_raster(xy, conic, depth, opacity, features, 4, 4, background=torch.zeros(2))
