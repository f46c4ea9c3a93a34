"""Lenses against pycolmap's own projection and against themselves backwards; cameras under change of size and frame."""

import math

import numpy as np
import pytest
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera, Cameras, pixel_centres, project, unproject
from neural3d.geometry.lenses import LENSES, distort, lens_of, named

FOCALS = {0: [640, 480], 1: [500, 321, 243], 2: [500, 510, 321, 243]}
DISTORTION = {
    "SIMPLE_RADIAL": [-0.1],
    "RADIAL": [-0.1, 0.02],
    "OPENCV": [-0.1, 0.02, 1e-3, -2e-3],
    "FULL_OPENCV": [0.1, 0.02, 1e-3, -2e-3, 0.01, 0.05, 0.02, 0.003],
    "SIMPLE_RADIAL_FISHEYE": [0.02],
    "RADIAL_FISHEYE": [0.02, -0.003],
    "OPENCV_FISHEYE": [0.02, -0.003, 1e-3, -2e-4],
    "THIN_PRISM_FISHEYE": [0.02, -0.003, 1e-3, -2e-3, 1e-3, -2e-4, 2e-3, -1e-3],
    "RAD_TAN_THIN_PRISM_FISHEYE": [0.02, -0.003, 1e-3, -2e-4, 1e-5, 1e-6, 1e-3, -2e-3, 1e-3, 2e-4, -1e-3, 3e-4],
    "FOV": [0.8],
    "SIMPLE_DIVISION": [-0.1],
    "DIVISION": [-0.1],
    "EUCM": [0.6, 1.1],
}


def parameters(model: str) -> torch.Tensor:
    return torch.tensor(FOCALS[LENSES[model].focals] + DISTORTION.get(model, []), dtype=torch.float64)


def rotation(*degrees: float) -> torch.Tensor:
    """Rotations about x, y, z, multiplied."""
    result = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(degrees):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, dtype=torch.float64)
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
        result = result @ turn
    return result


def posed(model: str, degrees=(10, 20, 30), centre=(1.0, -2.0, 0.5), size=(640, 480)) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = rotation(*degrees), torch.tensor(centre, dtype=torch.float64)
    return Camera(model, *size, parameters(model), pose)


def test_every_model_of_pycolmap_is_here():
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is the peer of the lens tests")
    assert set(LENSES) == set(pycolmap.CameraModelId.__members__) - {"INVALID"}


@pytest.mark.parametrize("model", LENSES)
def test_projection_is_pycolmaps(model):
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is the peer of the lens tests")
    params = parameters(model)
    peer = pycolmap.Camera(model=model, width=640, height=480, params=params.numpy())
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(500, 2)), 0.8 + abs(rng.normal(size=(500, 1)))], 1)
    points[0] = 0, 0, 1  # the axis: r = 0
    xy = project(model, params, torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(xy, peer.img_from_cam(points), atol=1e-8)

    pixels = pixel_centres(13, 9).reshape(-1, 2) * torch.tensor([640 / 13, 480 / 9])
    mine = unproject(model, params, pixels).numpy()
    theirs = peer.cam_ray_from_img(pixels.numpy())
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(mine, theirs, atol=1e-7)


@pytest.mark.parametrize("model", LENSES)
@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_unproject_is_the_inverse(model, dtype, tolerance):
    params = parameters(model).to(dtype)
    xy = pixel_centres(33, 25, dtype) * torch.tensor([640 / 33, 480 / 25], dtype=dtype)
    directions = unproject(model, params, xy)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(25, 33, dtype=dtype))
    assert (project(model, params, directions * 3) - xy).abs().max() < tolerance  # any distance along the ray


@pytest.mark.parametrize("model", LENSES)
def test_projection_is_differentiable(model):
    points = torch.tensor([[0.0, 0.0, 1.0], [0.3, -0.2, 1.5], [-0.7, 0.5, 1.1]], dtype=torch.float64)
    inputs = points.requires_grad_(), parameters(model).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, q: project(model, q, p), inputs)


@pytest.mark.parametrize("model", [m for m in LENSES if LENSES[m].distorts])
def test_jacobian_of_the_distortion(model):
    a, lens = named(model, parameters(model)), lens_of(model)
    uv = torch.tensor([0.3, -0.4], dtype=torch.float64)
    truth = torch.autograd.functional.jacobian(lambda q: torch.stack(distort(lens, a, q[0], q[1])[:2]), uv)
    torch.testing.assert_close(torch.stack(distort(lens, a, uv[0], uv[1])[2:]).reshape(2, 2), truth)


def test_behind_a_fisheye():
    """Equidistant lenses see past 90°: a point behind the image plane has a pixel, and that pixel its direction."""
    params = torch.tensor([100.0, 320, 240], dtype=torch.float64)
    point = torch.tensor([1.0, 0.5, -0.5], dtype=torch.float64)
    direction = unproject("SIMPLE_FISHEYE", params, project("SIMPLE_FISHEYE", params, point))
    torch.testing.assert_close(direction, point / point.norm())


def test_folded_distortion_stays_finite():
    """Past the radius where r (1 − 0.5 r²) turns back no direction exists; the answer must still be a unit vector."""
    params = torch.tensor([300.0, 320, 240, -0.5])
    directions = unproject("SIMPLE_RADIAL", params, pixel_centres(640, 480, torch.float32))
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(480, 640))


def test_unknown_model():
    with pytest.raises(UserError, match=r"FISHBOWL.*OPENCV"):
        unproject("FISHBOWL", torch.zeros(4), torch.zeros(2))


@pytest.mark.parametrize("model", LENSES)
@pytest.mark.parametrize("size", [(320, 240), (213, 159)])
def test_resizing_keeps_every_ray(model, size):
    camera = posed(model)
    small = camera.resized(*size)
    xy = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.tensor([640, 480])
    ratio = torch.tensor([size[0] / 640, size[1] / 480], dtype=torch.float64)
    torch.testing.assert_close(small.rays(xy * ratio)[1], camera.rays(xy)[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("model", ["PINHOLE", "OPENCV", "OPENCV_FISHEYE"])
def test_camera_projects_along_its_rays(model):
    camera = posed(model)
    origins, directions = camera.rays()
    assert origins.shape == directions.shape == (480, 640, 3) and origins.dtype == directions.dtype == torch.float32
    xy, z = camera.project(origins.double() + 2.5 * directions.double())
    assert (xy - pixel_centres(640, 480)).abs().max() < 1e-3
    torch.testing.assert_close(z, 2.5 * (directions.double() @ camera.forward), atol=1e-6, rtol=0)


def test_moving_camera_and_world_together_changes_nothing():
    """Invariance: a similarity applied to camera and points leaves pixels as they are and scales depths."""
    camera, similarity = posed("OPENCV"), torch.eye(4, dtype=torch.float64)
    similarity[:3, :3], similarity[:3, 3] = 0.3 * rotation(40, -70, 5), torch.tensor([3.0, 2, 1])
    points = camera.centre + torch.randn(20, 3, dtype=torch.float64) * 0.3 + 4 * camera.forward
    moved = camera.moved(similarity)
    turn = moved.world_from_camera[:3, :3]
    torch.testing.assert_close(turn @ turn.T, torch.eye(3).double())
    xy, z = camera.project(points)
    xy_moved, z_moved = moved.project(points @ similarity[:3, :3].T + similarity[:3, 3])
    torch.testing.assert_close(xy_moved, xy)
    torch.testing.assert_close(z_moved, 0.3 * z)


def mixed() -> list[Camera]:
    """Shared lenses, different lenses of one model, different models, different sizes."""
    return [
        posed("OPENCV"),
        posed("OPENCV", degrees=(-50, 3, 8), centre=(0, 1, 2)),
        posed("OPENCV", degrees=(5, 3, 8)).resized(317, 240),
        posed("PINHOLE", degrees=(90, 0, 4)),
        posed("OPENCV_FISHEYE", degrees=(0, 170, 4)),
    ]


@pytest.mark.parametrize("which", [slice(5), slice(1), slice(3), slice(3, 4)], ids=["all", "one", "lenses", "pinhole"])
def test_stack_makes_the_same_rays(which):
    cameras = mixed()[which]
    stack = Cameras.stack(cameras)
    generator = torch.Generator().manual_seed(1)
    view = torch.randint(len(cameras), (4000,), generator=generator)
    xy = torch.rand(4000, 2, generator=generator) * stack.sizes[view]
    origins, directions, forward = stack.rays(view, xy)
    for i, camera in enumerate(cameras):
        mine = view == i
        truth_origins, truth = camera.rays(xy[mine])
        torch.testing.assert_close(origins[mine], truth_origins)
        torch.testing.assert_close(directions[mine], truth, atol=3e-6, rtol=0)  # 3e-6 rad: 0.002 px
        torch.testing.assert_close(forward[mine], (truth.double() @ camera.forward).float(), atol=3e-6, rtol=0)


def test_stack_on_each_device(device):
    cameras = mixed()
    view, xy = torch.arange(5).repeat(100), torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 300
    here = Cameras.stack(cameras).rays(view, xy)
    there = Cameras.stack(cameras).to(device).rays(view.to(device), xy.to(device))
    for a, b in zip(here, there, strict=True):
        assert b.device.type == device.type
        torch.testing.assert_close(a, b.cpu(), atol=3e-6, rtol=0)


def test_stack_of_no_rays():
    origins, directions, forward = Cameras.stack(mixed()).rays(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2))
    assert origins.shape == directions.shape == (0, 3) and forward.shape == (0,)
