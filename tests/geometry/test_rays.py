import torch

from neural3d.geometry.rays import box_span

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
