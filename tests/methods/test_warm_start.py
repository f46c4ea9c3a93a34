"""The field that `neus` starts from: what it looks at, and what that may cost."""

import pytest
import torch
from toy import ball_capture

from neural3d.fields.radiance import RadianceConfig
from neural3d.loading import load_scene
from neural3d.methods.warm_start import VIEW_PIXELS, VIEW_SHARE, VIEWS, WarmStart


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    scene = load_scene(ball_capture(tmp_path_factory.mktemp("ball"), train=30, size=24))
    torch.manual_seed(0)
    method = WarmStart(RadianceConfig(log2_table=12, levels=4, max_resolution=64, steps_per_unit=32), scene)
    with torch.no_grad():
        method.table.uniform_(-1, 1)  # some density that varies
    return method.eval()


def pixels(views):
    return sum(camera.width * camera.height for camera in views)


def test_depths_are_those_of_whole_pictures(start):
    camera = start.scene.cameras("train")[0]
    whole, alone = start.render(camera), start.depths(camera)
    assert 0.1 < whole.alpha.mean() < 1
    torch.testing.assert_close(alone.alpha, whole.alpha, atol=1e-3, rtol=0)
    torch.testing.assert_close(alone.depth, whole.depth, atol=5e-3, rtol=0)


def test_the_views_cost_a_share_of_the_training(start):
    start._drawn = 4_000  # rays, in a tenth of the training
    views = start._views(progress=0.1)
    assert len(views) <= VIEWS and pixels(views) == pytest.approx(VIEW_SHARE * 4_000 / 0.1, rel=0.1)
    assert pixels(start._views(progress=0.05)) > pixels(views), "the same rays in half the time: twice as many in all"
    start._drawn = 1 << 30
    assert {camera.width for camera in start._views(0.1)} == {min(24, VIEW_PIXELS)}, "no larger than the photos"
    start._drawn = 1
    assert {camera.width for camera in start._views(0.1)} == {8}, "and never so small that nothing is seen"
