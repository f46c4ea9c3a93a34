"""The field that `neus` starts from: what it looks at, and what that may cost."""

import pytest
import torch
from toy import ball_capture

from neural3d.loading import load_scene
from neural3d.methods.ngp import NgpConfig
from neural3d.methods.scout import LOOK_PIXELS, LOOK_SHARE, LOOKS, Scout


@pytest.fixture(scope="module")
def scout(tmp_path_factory):
    scene = load_scene(ball_capture(tmp_path_factory.mktemp("ball"), train=30, size=24))
    torch.manual_seed(0)
    method = Scout(NgpConfig(log2_table=12, levels=4, max_resolution=64, steps_per_unit=32), scene)
    with torch.no_grad():
        method.table.uniform_(-1, 1)  # some density that varies
    return method.eval()


def pixels(looks):
    return sum(camera.width * camera.height for camera in looks)


def test_depths_are_those_of_whole_pictures(scout):
    camera = scout.scene.cameras("train")[0]
    whole, alone = scout.render(camera), scout.depths(camera)
    assert 0.1 < whole.alpha.mean() < 1
    torch.testing.assert_close(alone.alpha, whole.alpha, atol=1e-3, rtol=0)
    torch.testing.assert_close(alone.depth, whole.depth, atol=5e-3, rtol=0)


def test_the_looks_cost_a_share_of_the_training(scout):
    scout._drawn = 4_000  # rays, in a tenth of the training
    looks = scout._looks(progress=0.1)
    assert len(looks) <= LOOKS and pixels(looks) == pytest.approx(LOOK_SHARE * 4_000 / 0.1, rel=0.1)
    assert pixels(scout._looks(progress=0.05)) > pixels(looks), "the same rays in half the time: twice as many in all"
    scout._drawn = 1 << 30
    assert {camera.width for camera in scout._looks(0.1)} == {min(24, LOOK_PIXELS)}, "no larger than the photos"
    scout._drawn = 1
    assert {camera.width for camera in scout._looks(0.1)} == {8}, "and never so small that nothing is seen"
