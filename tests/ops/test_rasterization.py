import math

import pytest
import torch
from reference.splat_project import splat_project as reference_project
from reference.splat_raster import splat_raster as reference_raster

from neural3d.ops.rasterization import rasterization

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


def matrix():
    fx, fy, cx, cy = INTRINSICS
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


@pytest.mark.parametrize("model, lens", [("pinhole", "pinhole"), ("ortho", "orthographic"), ("fisheye", "fisheye")])
def test_two_cameras_match_the_references_and_their_gradients(device, model, lens):
    values = gaussians(device=device)
    views = torch.stack([camera(), torch.linalg.inv(camera())])
    views[1, 2, 3] = 5
    views, ks = views.to(device).requires_grad_(), torch.stack([matrix(), matrix() * 0.9]).to(device).requires_grad_()
    backgrounds = torch.tensor([[0.2, 0.5, 0.9], [0.1, 0.0, 1.0]], dtype=torch.float64, device=device).requires_grad_()
    images, alphas, info = rasterization(
        *values, views, ks, WIDTH, HEIGHT, sh_degree=3, backgrounds=backgrounds, camera_model=model
    )
    assert images.shape == (2, HEIGHT, WIDTH, 3) and alphas.shape == (2, HEIGHT, WIDTH, 1) and info["n_cameras"] == 2
    want = []
    for view, k, background in zip(views, ks, backgrounds):
        p = reference_project(
            *values[:4], values[4][:, 0], values[4][:, 1:], view, torch.stack([k[0, 0], k[1, 1], k[0, 2], k[1, 2]]),
            WIDTH, HEIGHT, sh_degree=3, near=0.01, blur=0.3, lens=lens,
        )  # fmt: skip
        want.append(reference_raster(p.xy, p.conic, p.depth, p.opacity, p.color, WIDTH, HEIGHT, background=background))
    leaves = [*values, views, ks, backgrounds]
    v = torch.randn_like(images)
    pictures, opacities = (torch.stack(x) for x in zip(*want))
    torch.testing.assert_close(images, pictures, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(alphas, opacities, rtol=1e-8, atol=1e-8)
    ours, theirs = (
        torch.autograd.grad([i, a], leaves, [v, v[..., :1]]) for i, a in ((images, alphas), (pictures, opacities))
    )
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


def test_render_modes(device):
    means, quats, scales, opacities, coefficients = (v.detach() for v in gaussians(device=device))
    colors, backgrounds = coefficients[:, 0].sigmoid(), torch.tensor([[0.2, 0.5, 0.9]], device=device).double()
    scene = means, quats, scales, opacities, colors, camera().to(device)[None], matrix().to(device)[None], WIDTH, HEIGHT
    rgb, alpha, info = rasterization(*scene, backgrounds=backgrounds)
    pictures = {
        mode: rasterization(*scene, backgrounds=backgrounds, render_mode=mode)[0]
        for mode in ("D", "ED", "RGB+D", "RGB+ED")
    }
    xy, conic, depth, opacity = (info[name][0] for name in ("means2d", "conics", "depths", "opacities"))
    depth = reference_raster(xy, conic, depth, opacity, depth[:, None], WIDTH, HEIGHT)[0][None]
    torch.testing.assert_close(pictures["D"], depth)
    seen = alpha > 0
    assert seen.any() and not seen.all()
    torch.testing.assert_close(pictures["ED"][seen], (depth / alpha)[seen])
    assert not pictures["ED"][~seen].any()
    for mode in ("D", "ED"):
        torch.testing.assert_close(pictures[f"RGB+{mode}"], torch.cat([rgb, pictures[mode]], -1))


def test_colors_of_each_camera():
    *scene, _ = (v.detach() for v in gaussians())
    colors = torch.rand(2, 40, 4, dtype=torch.float64)
    views, ks = camera().expand(2, 4, 4), matrix().expand(2, 3, 3)
    both, _, _ = rasterization(*scene, colors, views, ks, WIDTH, HEIGHT, rasterize_mode="antialiased")
    for own, image in zip(colors, both):
        alone = rasterization(*scene, own, views[:1], ks[:1], WIDTH, HEIGHT, rasterize_mode="antialiased")[0]
        assert torch.equal(alone[0], image)


def test_means2d_keep_their_gradient_and_its_absolute_sum():
    values = gaussians()
    image, _, info = rasterization(
        *values, camera()[None], matrix()[None], WIDTH, HEIGHT, sh_degree=1, absgrad=True, near_plane=0.1
    )
    means2d = info["means2d"]
    means2d.retain_grad()
    image.square().sum().backward()
    assert (means2d.absgrad >= means2d.grad.abs() * (1 - 1e-9)).all()
    assert (means2d.absgrad > 2 * means2d.grad.abs()).any()


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"render_mode": "depth"}, "render_mode must be one of RGB"),
        ({"camera_model": "ftheta"}, "camera_model must be one of pinhole, ortho, fisheye"),
        ({"rasterize_mode": "fast"}, "rasterize_mode must be classic or antialiased"),
        ({"colors": torch.zeros(40, 3)}, r"colors must have shape \(N, K, 3\)"),
        ({"viewmats": torch.eye(4)}, r"viewmats must have shape \(C, 4, 4\)"),
        ({"Ks": torch.eye(3)}, r"Ks must have shape \(1, 3, 3\)"),
        ({"backgrounds": torch.zeros(3)}, r"backgrounds must have shape \(1, D\)"),
    ],
)
def test_bad_input_is_a_sentence(changed, words):
    names = "means", "quats", "scales", "opacities", "colors"
    given = dict(zip(names, (v.detach() for v in gaussians())))
    given |= dict(viewmats=camera()[None], Ks=matrix()[None], width=WIDTH, height=HEIGHT, sh_degree=1)
    with pytest.raises(ValueError, match=words):
        rasterization(**{**given, **changed})
