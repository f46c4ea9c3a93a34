import torch
from toy import look_at

from neural3d.geometry.cameras import Camera
from neural3d.geometry.rays import box_span, unseen_patches

BOX = torch.tensor([[-1.0, -0.5, 0.0], [1.0, 0.5, 2.0]])


def test_span_ends_on_the_box_and_agrees_with_marching():
    torch.manual_seed(0)
    origins = torch.randn(300, 3) * 2
    directions = torch.nn.functional.normalize(torch.randn(300, 3) - 0.5 * origins, dim=-1)
    enter, leave = box_span(origins, directions, BOX)
    t = torch.linspace(0, 20, 20_001)
    points = origins[:, None] + t[:, None] * directions[:, None]
    inside = ((points > BOX[0]) & (points < BOX[1])).all(-1)
    hit = inside.any(1)
    assert 50 < hit.sum() < 250
    assert (leave - enter < 2e-3)[~hit].all()
    first = t[inside.float().argmax(1)]
    assert ((enter - first).abs() < 2e-3)[hit].all()
    assert ((leave - enter - inside.sum(1) * 1e-3).abs() < 3e-3)[hit].all()


def test_rays_along_axes_and_inside_faces():
    directions = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 0, -1.0], [1.0, 0, 0]])
    origins = torch.tensor([[-3.0, 0, 1], [-3.0, 0.6, 1], [0, 0, 1.0], [-3.0, 0.5, 1]])
    enter, leave = box_span(origins, directions, BOX)
    torch.testing.assert_close(enter[[0, 2]], torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(leave[[0, 2]], torch.tensor([4.0, 1.0]))
    assert enter[1] >= leave[1], "passes beside"
    assert enter.isfinite().all() and leave.isfinite().all(), "an origin in the plane of a face it runs along"


def test_unseen_patches_are_squares_seen_from_between_the_cameras():
    box = torch.tensor([[-0.6, -1.0, -0.5], [1.0, 0.8, 0.9]])
    flip = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    poses = [torch.from_numpy(look_at(2.4 * i, 0.2 + 0.1 * i, 3 + 0.2 * i)) @ flip for i in range(6)]
    cameras = [Camera("SIMPLE_PINHOLE", 24, 24, torch.tensor([33.0, 12, 12]), pose) for pose in poses]
    origins, directions = unseen_patches(cameras, box, 40, 5, 2, torch.Generator().manual_seed(0))
    assert origins.shape == directions.shape == (40 * 25, 3)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(1000))
    origins, directions = origins.view(40, 25, 3), directions.view(40, 5, 5, 3)
    assert torch.equal(origins[:, :1].expand_as(origins), origins), "a patch has one eye"
    focus = box.mean(0)
    reach = torch.stack([c.centre.float() for c in cameras]).sub(focus).norm(dim=-1)
    eyes = origins[:, 0]
    assert (eyes - focus).norm(dim=-1).min() > reach.min() - 1e-4 and (eyes - focus).norm(
        dim=-1
    ).max() < reach.max() + 1e-4
    assert len(eyes.unique(dim=0)) == 40
    # Neighbours are two pixels apart, as between pixels of a training photo.
    photo = cameras[0].rays()[1]
    pixel = torch.acos((photo[12, 12] * photo[12, 14]).sum())
    angle = torch.acos((directions[:, 2, 2] * directions[:, 2, 3]).sum(-1).clamp(max=1))
    assert (angle / pixel - 1).abs().max() < 0.2
    # Pictures stand upright: going down a patch, rays fall.
    assert (directions[:, 4, 2, 2] < directions[:, 0, 2, 2]).all()
