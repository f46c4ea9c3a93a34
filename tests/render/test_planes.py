"""Flat splats as planes: against points of a plane, where depths of centres are wrong, and by differences."""

from types import SimpleNamespace

import torch

from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.cameras import Camera
from neural3d.geometry.rotations import quaternion_from_rotation, rotation_from_axis_angle
from neural3d.render.planes import plane_depth, splat_planes
from neural3d.render.splats import pinhole_intrinsics, render_splats

CAMERA = Camera("PINHOLE", 48, 40, torch.tensor([60.0, 62, 25, 19]), torch.eye(4))


def wall(turn: torch.Tensor, depth: float = 3.0, axis: int = 2, spacing: float = 0.3) -> Gaussians:
    """Opaque flat splats, far apart and wide, on a plane through (0, 0, depth) with the normal R e_z.

    axis: which of their own is the short one; every other splat faces away from the camera.
    """
    steps = torch.arange(-15, 16) * spacing
    x, y = (v.flatten() for v in torch.meshgrid(steps, steps, indexing="ij"))
    means = torch.stack([x, y, 0 * x], 1) @ turn.T + torch.tensor([0, 0, depth])
    exchange = torch.eye(3).roll(-(axis + 1), 0)  # its column `axis` is e_z
    about = rotation_from_axis_angle(torch.tensor([torch.pi, 0, 0]))
    turns = torch.stack([turn @ exchange, turn @ about @ exchange])[torch.arange(len(x)) % 2]
    scales = torch.full((3,), spacing).index_fill(0, torch.tensor(axis), 1e-4)
    n = len(x)
    return Gaussians(
        means, scales.log().expand(n, 3), quaternion_from_rotation(turns), torch.full((n,), 3.0), torch.zeros(n, 3),
        torch.zeros(n, 0, 3),
    )  # fmt: skip


def test_the_depth_of_a_slanted_wall_is_exact():
    """Splats a tenth of the distance apart: their centres' depths are off by as much, the plane's is not."""
    turn = rotation_from_axis_angle(torch.tensor([0.7, 0.3, 0.0]))
    normal = -turn[:, 2]
    _, direction = CAMERA.rays()
    true = (normal[2] * 3 / (direction @ normal))[..., None] * direction[..., 2:]
    for axis in range(3):
        out = render_splats(wall(turn, axis=axis), CAMERA)
        assert (out.alpha > 0.95).all()
        torch.testing.assert_close(out.depth, true, rtol=2e-4, atol=0)
        torch.testing.assert_close(out.normal, normal.expand_as(out.normal), rtol=0, atol=1e-4)


def test_planes_face_the_camera_in_its_own_frame():
    turn = rotation_from_axis_angle(torch.tensor([0.0, 0.5, 0.0]))
    camera_from_world = torch.eye(4)
    camera_from_world[:3, :3] = rotation_from_axis_angle(torch.tensor([0.2, -0.4, 1.0]))
    camera_from_world[:3, 3] = torch.tensor([0.3, -0.2, 0.5])
    splats = wall(turn)
    planes = splat_planes(splats, camera_from_world)
    centres = splats.means @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    assert (planes[:, 3] < 0).all()
    torch.testing.assert_close((planes[:, :3] * centres).sum(1), planes[:, 3], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close((planes[:, :3] @ camera_from_world[:3, :3] @ turn[:, 2]).abs(), torch.ones(len(planes)))


def test_gradients_by_differences():
    torch.manual_seed(0)
    splats = wall(rotation_from_axis_angle(torch.tensor([0.2, 0.3, 0.1]))).selected(torch.arange(5)).double()
    camera_from_world = torch.eye(4, dtype=torch.float64)
    camera_from_world[:3, 3] = torch.tensor([0.1, 0.2, 0.3])

    def planes(means, quats):
        return splat_planes(
            SimpleNamespace(means=means, quats=quats, log_scales=splats.log_scales.detach()), camera_from_world
        )

    leaves = [x.detach().requires_grad_() for x in (splats.means, splats.quats)]
    assert torch.autograd.gradcheck(planes, leaves)


def test_a_plane_seen_from_its_edge_has_no_depth():
    planes = torch.tensor([[[0.0, 0, -1, -2], [-1, 0, -0.001, -1]]])
    assert plane_depth(planes, torch.tensor([0.0, 0, 1]).expand(1, 2, 3)).flatten().tolist() == [2.0, 0.0]
    assert pinhole_intrinsics(CAMERA).tolist() == [60, 62, 25, 19]
