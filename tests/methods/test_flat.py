"""The losses that draw splats onto a surface, from splats to their gradients and back."""

import torch
from render.test_planes import CAMERA, wall

from neural3d.data.rays import PhotoBatch
from neural3d.files.quantised import FLAT
from neural3d.geometry.rotations import quaternion_from_rotation, rotation_from_axis_angle
from neural3d.methods.flat import Parts, flatten, plane_features, plane_losses
from neural3d.ops.splat_project import splat_project
from neural3d.ops.splat_raster import splat_raster
from neural3d.render.splats import pinhole_intrinsics


def test_the_shortest_axis_becomes_the_normal():
    splats = wall(torch.eye(3))
    with torch.no_grad():
        splats.log_scales[:] = torch.tensor([0.1, 0.3, 0.2]).log()
        splats.log_scales[0] = torch.tensor([0.3, 0.2, 0.1]).log()
    flatten(splats)
    torch.testing.assert_close(splats.log_scales[1].exp(), torch.tensor([0.2 * FLAT, 0.3, 0.2]))
    torch.testing.assert_close(splats.log_scales[0].exp(), torch.tensor([0.3, 0.2, 0.2 * FLAT]))
    before = splats.log_scales.clone()
    flatten(splats)
    assert torch.equal(before, splats.log_scales)


def test_turned_splats_in_layers_become_one_surface():
    """A wall whose splats are turned by a third of a radian and moved by a tenth: both losses fall, and truly so."""
    torch.manual_seed(0)
    upright = torch.eye(3)
    splats = wall(upright)
    with torch.no_grad():
        turns = rotation_from_axis_angle(0.3 * torch.randn(len(splats), 3))
        splats.quats[:] = quaternion_from_rotation(turns)
        splats.means[:, 2] += 0.1 * torch.randn(len(splats))
        splats.opacity_logits[:] = 1
    flatten(splats)
    assert splats.flat.all()
    k = pinhole_intrinsics(CAMERA).float()
    photo = PhotoBatch(0, torch.full((CAMERA.height, CAMERA.width, 3), 0.5), None, None)

    def losses(step: int):
        p = splat_project(
            splats.means, splats.quats, splats.log_scales, splats.opacity_logits, splats.sh_dc, splats.sh_rest,
            torch.eye(4), k, CAMERA.width, CAMERA.height, sh_degree=0, raw=True,
        )  # fmt: skip
        features = torch.cat([p.color, plane_features(splats, torch.eye(4))], 1)
        image, alpha = splat_raster(p.xy, p.conic, p.depth, p.opacity, features, CAMERA.width, CAMERA.height)
        first = step % 2, step // 2 % 2
        color, planes, alpha = Parts.apply(image, alpha, first)
        assert torch.equal(color, image[..., :3]) and torch.equal(planes, image[first[0] :: 2, first[1] :: 2, 3:])
        return plane_losses(photo, planes, alpha, k, first)

    optimizer = torch.optim.Adam([{"params": [splats.quats], "lr": 2e-2}, {"params": [splats.means], "lr": 4e-3}])
    before = [x.item() for x in losses(0)]
    for step in range(60):
        optimizer.zero_grad()
        sum(losses(step)).backward()
        optimizer.step()
    after = [x.item() for x in losses(0)]
    assert after[0] < 0.3 * before[0] and after[1] < 0.6 * before[1]


def test_parts_give_back_their_gradients():
    image = torch.rand(5, 6, 8, dtype=torch.float64, requires_grad=True)
    alpha = torch.rand(5, 6, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda i, a: Parts.apply(i, a, (1, 0)), (image, alpha))
