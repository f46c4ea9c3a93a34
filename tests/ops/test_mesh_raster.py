import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from instruction_sets import instruction_sets
from reference.mesh_raster import mesh_raster as reference
from reference.mesh_raster import on_plane
from scipy.spatial import Delaunay

from neural3d.geometry.cameras import Camera
from neural3d.ops.mesh_raster import interpolate, mesh_raster, texture_lookup


def soup(width, height, dtype=torch.float32, device="cpu", batch=2, vertices=40, faces=60, behind=5, seed=0):
    """Random faces in and around a picture, some of whose corners are behind the camera."""
    g = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height], dtype=torch.float64)
    xy = (torch.rand(batch, vertices, 2, generator=g, dtype=torch.float64) * 1.6 - 0.3) * size
    z = torch.rand(batch, vertices, 1, generator=g, dtype=torch.float64) * 2 + 0.5
    z[:, :behind] *= -1
    f = torch.stack([torch.randperm(vertices, generator=g)[:3] for _ in range(faces)]).int()
    return torch.cat([xy, z], -1).to(device, dtype), f.to(device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (67, 33), (16, 80)])
def test_matches_the_loop(device, dtype, size):
    pixels, faces = soup(*size, dtype, device)
    face, barycentrics, depth = (x.cpu().numpy() for x in mesh_raster(pixels, faces, *size))
    assert face.dtype == np.int32 and face.shape == (2, *size[::-1])
    tolerance = 2e-6 if dtype == torch.float32 else 1e-13
    for i in range(2):
        want = reference(pixels[i].cpu().numpy(), faces.cpu().numpy(), *size)
        np.testing.assert_array_equal(face[i], want[0])
        np.testing.assert_allclose(barycentrics[i], want[1], atol=tolerance)
        np.testing.assert_allclose(depth[i], want[2], rtol=tolerance, atol=0)


def test_barycentrics_are_those_of_the_point_in_space():
    """A camera's rays, where they meet the face: the right place and depth, however the face is tilted."""
    camera = Camera("PINHOLE", 40, 30, torch.tensor([35.0, 38.0, 19.0, 16.0]), torch.eye(4))
    corners = torch.tensor([[-2.0, -1.0, 2.0], [2.0, -1.5, 3.0], [0.5, 3.0, 9.0]], dtype=torch.float64)
    xy, z = camera.project(corners)
    r = mesh_raster(torch.cat([xy, z[:, None]], 1)[None], torch.tensor([[0, 1, 2]], dtype=torch.int32), 40, 30)
    seen = r.face[0] >= 0
    assert seen.float().mean() > 0.2
    points = r.barycentrics[0][seen] @ corners
    _, directions = camera.rays()
    rays = directions[seen].double()
    torch.testing.assert_close(points / points[:, 2:], rays / rays[:, 2:], rtol=0, atol=1e-6)
    torch.testing.assert_close(points[:, 2], r.depth[0][seen])


@pytest.mark.parametrize("grid", [2.0, 64.0, None], ids=["halves", "64ths", "any"])
def test_a_flat_triangulation_covers_each_pixel_once(device, grid):
    """Corners on a grid meet pixels' centres and lie on lines through them: a tie at every turn."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 24, (150, 2)) if grid is None else rng.integers(0, int(24 * grid) + 1, (150, 2)) / grid
    xy = np.unique(np.concatenate([xy, [[0, 0], [0, 24], [24, 0], [24, 24]]]).astype(np.float32), axis=0)
    faces = Delaunay(xy).simplices.astype(np.int32)
    faces = np.where(rng.random(len(faces))[:, None] < 0.5, faces, faces[:, ::-1])  # wound either way
    pixels = torch.tensor(np.c_[xy, np.ones(len(xy), np.float32)], device=device)[None]
    count = sum(
        (mesh_raster(pixels, torch.tensor(f[None].copy(), device=device), 24, 24).face >= 0).int() for f in faces
    )
    assert torch.equal(count[0], torch.ones_like(count[0]))


def test_a_fan_around_a_pixels_centre_covers_it_once(device):
    angle = torch.arange(11, dtype=torch.float64) * 2 * torch.pi / 11 + 0.1
    rim = torch.stack([4.5 + 3 * angle.cos(), 4.5 + 3 * angle.sin(), torch.ones(11)], 1)
    pixels = torch.cat([torch.tensor([[4.5, 4.5, 1]]), rim])[None].float().to(device)
    faces = torch.stack([torch.zeros(11), torch.arange(11) + 1, (torch.arange(11) + 1) % 11 + 1], 1).int().to(device)
    assert sum((mesh_raster(pixels, f[None], 9, 9).face[0, 4, 4] == 0).int() for f in faces) == 1


def test_slivers_leave_no_hole_and_stay_within_their_corners(device):
    """Two faces of one quad, split so that one is a thousandth of a pixel wide; far from the origin."""
    offset = torch.tensor([900.3, 700.7])
    xy = torch.tensor([[0.0, 0.0], [40.0, 1e-3], [80.0, 0.0], [40.0, 50.0], [40.0, -50.0]]) + offset
    pixels = torch.cat([xy, torch.tensor([[1.0], [9.0], [1.0], [1.0], [1.0]])], 1)[None].to(device)
    faces = torch.tensor([[0, 1, 2], [0, 3, 1], [1, 3, 2], [0, 2, 4]], dtype=torch.int32, device=device)
    r = mesh_raster(pixels, faces, 1000, 800)
    row = r.face[0, 690:712, 939:942]
    assert (row >= 0).all(), "no pixel between the faces"
    seen = r.face >= 0
    assert (r.barycentrics >= 0).all() and (r.depth[seen] >= 1).all() and (r.depth <= 9).all()
    torch.testing.assert_close(r.barycentrics[seen].sum(-1), torch.ones_like(r.depth[seen]))


def test_of_equal_depths_the_first_face_is_seen(device):
    pixels, _ = soup(20, 20, device=device, batch=1, vertices=3, behind=0, seed=3)
    faces = torch.tensor([[0, 1, 2]] * 40, dtype=torch.int32, device=device)
    face = mesh_raster(pixels, faces, 20, 20).face
    assert set(face.unique().tolist()) == {-1, 0}


def test_a_floor_under_the_camera_reaches_from_below_to_the_horizon(device):
    """A plane one unit below, far behind and far ahead of the camera: its depth at each pixel is known."""
    space = torch.tensor([[-1e3, 1, -50], [1e3, 1, -50], [0, 1, 1e4]], dtype=torch.float64)
    pixels = torch.stack([space[:, 0] / space[:, 2] * 30 + 16, space[:, 1] / space[:, 2] * 30 + 16, space[:, 2]], 1)
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    r = mesh_raster(pixels[None].float().to(device), faces, 32, 32)
    y = torch.arange(32, device=device) + 0.5
    want = torch.where(y > 16, 30 / (y - 16), 0)[:, None].expand(32, 32)
    torch.testing.assert_close(r.depth[0], want.float(), rtol=1e-4, atol=0)


def test_what_cannot_be_seen(device):
    """Behind the camera, without area, beside the picture, at z = 0, not finite: nothing, and nothing spoilt."""
    good = [[2.0, 2.0, 1.0], [9.0, 2.0, 1.0], [2.0, 9.0, 1.0]]
    bad = {
        "behind": [[2, 2, -1], [9, 2, -1], [2, 9, -2]],
        "a point": [[5, 5, 1]] * 3,
        "a line": [[1, 1, 1], [5, 5, 1], [9, 9, 1]],
        "beside": [[-900, 2, 1], [-100, 2, 1], [-100, 9, 1]],
        "z = 0": [[2, 2, 0], [9, 2, 0.5], [2, 9, 0.5]],
        "NaN": [[float("nan"), 2, 0.5], [9, 2, 0.5], [2, 9, 0.5]],
        "infinite": [[2, float("inf"), 0.5], [9, 2, 0.5], [2, 9, 0.5]],
        "depth NaN": [[2, 2, float("nan")], [9, 2, 0.5], [2, 9, 0.5]],
        "far beyond float32": [[-3e38, 2, 0.5], [3e38, 2, 0.5], [2, 3e38, 0.5]],
    }
    pixels = torch.tensor([good + corners for corners in bad.values()], device=device)
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32, device=device)
    alone = mesh_raster(pixels[:1], faces[:1], 12, 12)
    assert (alone.face == 0).sum() > 20
    r = mesh_raster(pixels.requires_grad_(), faces, 12, 12)
    for i, name in enumerate(bad):
        if name == "far beyond float32":
            continue
        assert torch.equal(r.face[i], alone.face[0]), name
        assert torch.equal(r.barycentrics[i], alone.barycentrics[0]) and torch.equal(r.depth[i], alone.depth[0]), name
    (r.barycentrics[:-1, ..., 0].sum() + r.depth[:-1].sum()).backward()
    assert pixels.grad[:-1].isfinite().all() and not pixels.grad[:, 3:].any()


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 0), (2, 5, 0)], ids=["no picture", "no vertex", "no face"])
def test_nothing_to_draw(device, shape):
    batch, vertices, count = shape
    pixels = torch.rand(batch, vertices, 3, device=device, requires_grad=True)
    r = mesh_raster(pixels, torch.zeros(count, 3, dtype=torch.int32, device=device), 7, 5)
    assert r.face.shape == (batch, 5, 7) and (r.face == -1).all() and not r.depth.any() and not r.barycentrics.any()
    (r.depth.sum() + r.barycentrics.sum()).backward()
    assert pixels.grad.shape == (batch, vertices, 3) and not pixels.grad.any()


@pytest.mark.parametrize("size", [(13, 11), (40, 37)])
def test_gradients(device, size):
    """Against float64 finite differences, where no pixel changes its face; each output alone, too."""
    pixels, faces = soup(*size, torch.float64, device, vertices=20, faces=12, behind=2, seed=1)
    face = mesh_raster(pixels, faces, *size).face
    g = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(*face.shape, 3, generator=g).double().to(device),
        torch.randn(face.shape, generator=g).to(device),
    ]

    def loss(p, parts):
        r = mesh_raster(p, faces, *size)
        return sum(((r.barycentrics, 1 / (1 + r.depth))[k] * weights[k]).sum() for k in parts), r.face

    for parts in ((0,), (1,), (0, 1)):
        leaf = pixels.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, parts)[0], leaf)
        checked = 0
        for _ in range(12):
            way = torch.randn(pixels.shape, generator=g, dtype=torch.float64).to(device)
            (after, f1), (before, f0) = loss(pixels + 1e-7 * way, parts), loss(pixels - 1e-7 * way, parts)
            if torch.equal(f0, face) and torch.equal(f1, face):
                torch.testing.assert_close((after - before) / 2e-7, (gradient * way).sum(), rtol=2e-6, atol=2e-6)
                checked += 1
        assert checked > 6


def test_float32_gradients_are_those_of_float64(device):
    pixels, faces = soup(50, 40, torch.float64, device, behind=0, seed=2)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = pixels.to(dtype).requires_grad_()
        r = mesh_raster(leaf, faces, 50, 40)
        v = torch.linspace(-1, 1, r.barycentrics.numel(), dtype=dtype, device=device).view_as(r.barycentrics)
        gradients.append(
            torch.autograd.grad((r.barycentrics * v).sum() + (r.depth * v[..., 0]).sum(), leaf)[0].double()
        )
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[1].abs().max()


def test_a_large_picture_is_the_same_in_pieces(device):
    """Rows and columns far from the origin: the same faces, moved by whole pixels (exactly, as they are 64ths)."""
    pixels, faces = soup(64, 48, device=device, batch=1)
    pixels[..., :2] = (pixels[..., :2] * 64).round() / 64
    moved = pixels + torch.tensor([1000.0, 300.0, 0.0], device=device)
    whole = mesh_raster(moved, faces, 1100, 400)
    part = mesh_raster(pixels, faces, 64, 48)
    assert torch.equal(whole.face[:, 300:348, 1000:1064], part.face)


def picture_and_gradient(pixels, faces, width, height):
    leaf = pixels.clone().requires_grad_()
    r = mesh_raster(leaf, faces, width, height)
    (gradient,) = torch.autograd.grad((r.barycentrics**2).sum() + r.depth.sum(), leaf)
    return [*r, gradient]


def test_threads_change_nothing():
    pixels, faces = soup(150, 130, batch=3, vertices=900, faces=1500)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(picture_and_gradient(pixels, faces, 150, 130))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for r in results[1:] for a, b in zip(results[0], r))


OUTPUTS = """
import sys, torch
sys.path[:0] = [sys.argv[2]]
from ops.test_mesh_raster import picture_and_gradient, soup
torch.save(picture_and_gradient(*soup(90, 70, vertices=300, faces=500), 90, 70), sys.argv[1])
"""


def test_every_instruction_set_draws_the_same(tmp_path):
    """Not about the same: nothing is fused. Gradients are sums in another order."""
    results = []
    tests = os.path.dirname(os.path.dirname(__file__))
    for isa in instruction_sets():
        run = [sys.executable, "-c", OUTPUTS, str(tmp_path / isa), tests]
        subprocess.run(run, env=os.environ | {"NEURAL3D_ISA": isa}, check=True)
        results.append(torch.load(tmp_path / isa))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0][:3], other[:3]))
        torch.testing.assert_close(results[0][3], other[3], rtol=1e-4, atol=1e-4 * float(other[3].abs().max()))


def test_interpolated_attributes_are_linear_on_the_face(device):
    pixels, faces = soup(30, 20, torch.float64, device, behind=0)
    r = mesh_raster(pixels, faces, 30, 20)
    # 1 / z of the corners' own depths, weighted in space: depth itself, interpolated
    depth = interpolate(pixels[..., 2:], faces, r.face, r.barycentrics)
    torch.testing.assert_close(depth[..., 0], r.depth)
    shared = torch.rand(pixels.shape[1], 5, dtype=torch.float64, device=device)
    one = interpolate(shared, faces, r.face, r.barycentrics)
    assert torch.equal(one, interpolate(shared.expand(2, -1, -1), faces, r.face, r.barycentrics))
    b, y, x = (r.face >= 0).nonzero()[7]
    corners = shared[faces[r.face[b, y, x]].long()]
    torch.testing.assert_close(one[b, y, x], r.barycentrics[b, y, x] @ corners)
    assert not one[r.face < 0].any()


def test_interpolate_gradients():
    _, faces = soup(4, 4)
    g = torch.Generator().manual_seed(0)
    face = torch.randint(-1, 60, (2, 3, 4), generator=g, dtype=torch.int32)
    attributes = torch.rand(2, 40, 3, generator=g, dtype=torch.float64, requires_grad=True)
    b = torch.rand(2, 3, 4, 3, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: interpolate(a, faces, face, b), (attributes, b))
    assert torch.autograd.gradcheck(lambda a, b: interpolate(a, faces, face, b), (attributes[0], b))


def test_a_textures_texels_are_where_they_belong(device):
    texture = torch.rand(4, 6, 3, dtype=torch.float64, device=device)
    u, v = torch.meshgrid((torch.arange(6) + 0.5) / 6, (torch.arange(4) + 0.5) / 4, indexing="xy")
    centres = torch.stack([u, v], -1).to(texture)
    torch.testing.assert_close(texture_lookup(texture, centres), texture, rtol=0, atol=1e-6)
    between = texture_lookup(texture, centres[1, 2] * 0.25 + centres[1, 3] * 0.75)
    torch.testing.assert_close(between, texture[1, 2] * 0.25 + texture[1, 3] * 0.75, rtol=0, atol=1e-6)
    torch.testing.assert_close(texture_lookup(texture, centres.new_tensor([-3.0, 0.0])), texture[0, 0])
    uv = torch.rand(7, 2, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(texture_lookup, (texture.requires_grad_(), uv))


def test_agrees_with_pytorch3d():
    rasterizer = pytest.importorskip("pytorch3d.renderer.mesh.rasterize_meshes", reason="pytorch3d is not installed")
    from pytorch3d.structures import Meshes

    pixels, faces = soup(32, 32, batch=1, behind=0)
    space = torch.stack([1 - pixels[..., 0] / 16, 1 - pixels[..., 1] / 16, pixels[..., 2]], -1)
    theirs, depth, barycentrics, _ = rasterizer.rasterize_meshes(
        Meshes(space, faces[None].long()), 32, perspective_correct=True, faces_per_pixel=1
    )
    ours = mesh_raster(pixels, faces, 32, 32)
    same = ours.face == theirs[..., 0]
    assert same.float().mean() > 0.99
    seen = same & (ours.face >= 0)
    torch.testing.assert_close(ours.depth[seen], depth[..., 0][seen], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.barycentrics[seen], barycentrics[..., 0, :][seen], rtol=1e-3, atol=1e-3)


def test_bad_input_is_a_sentence():
    pixels, faces = soup(8, 8)
    for arguments, sentence in [
        ((pixels[0], faces, 8, 8), "pixels must have shape"),
        ((pixels[..., :2], faces, 8, 8), "pixels must have shape"),
        ((pixels.half(), faces, 8, 8), "pixels must be float32 or float64"),
        ((pixels, faces.long(), 8, 8), "faces must be int32"),
        ((pixels, faces[:, :2], 8, 8), "faces must have shape"),
        ((pixels, faces + 1, 8, 8), "faces name vertices 1 to 40; there are 40"),
        ((pixels, faces - 1, 8, 8), "faces name vertices -1 to 38"),
        ((pixels, faces, 0, 8), "width and height must be 1 to 32767, not 0 and 8"),
        ((pixels, faces, 8, 1 << 15), "width and height must be 1 to 32767"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            mesh_raster(*arguments)


def test_the_reference_agrees_with_a_ray():
    """The twin itself: Möller and Trumbore's system, solved for one pixel."""
    corners = np.array([[3.0, 2.0, 2.0], [20.0, 4.0, 5.0], [9.0, 18.0, 3.0]])
    b, depth = on_plane(corners, np.array(10.5), np.array(8.5))
    points = np.c_[corners[:, :2] * corners[:, 2:], corners[:, 2]]
    np.testing.assert_allclose(b @ points, depth * np.array([10.5, 8.5, 1]))
    np.testing.assert_allclose(b.sum(), 1)
