"""The turntable: what a hand at the mouse expects."""

import math
from dataclasses import replace

import pytest
import torch
from neural3d.viewer.camera import Eye, first_eye, framed, looking, photo_eye, tile, zoomed_on

from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import box_outline
from neural3d.render.paths import FILL

EYE = looking(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.1, 0.2, 0.3]), 3.0)


def pixel(eye: Eye, point: torch.Tensor) -> torch.Tensor:
    return eye.camera(400, 300).project(point)[0]


def test_looks_at_its_pivot_upright():
    assert torch.allclose(pixel(EYE, EYE.pivot), torch.tensor([200.0, 150.0]).double())
    above = pixel(EYE, EYE.pivot + torch.tensor([0, 0, 0.2]))
    assert above[0] == pytest.approx(200) and above[1] < 150


def test_turning_keeps_the_pivot_and_follows_the_hand():
    turned = EYE.turned(0.3, 0.2)
    assert torch.allclose(pixel(turned, EYE.pivot), torch.tensor([200.0, 150.0]).double())
    assert float((turned.centre - EYE.pivot).norm()) == pytest.approx(3)
    near = EYE.pivot - EYE.rotation[:, 2]  # on the side of the subject that faces the eye
    moved = pixel(turned, near)
    assert moved[0] > 205 and moved[1] > 155  # dragged right and down
    assert float(turned.rotation[2, 0]) == pytest.approx(0, abs=1e-12)  # level


def test_does_not_go_over_the_pole_and_does_not_drift():
    eye = EYE
    for _ in range(2000):
        eye = eye.turned(0.1, 0.3)
    assert float(eye.rotation[2, 1]) < 0 and float(eye.centre[2]) > float(eye.pivot[2])
    assert torch.allclose(eye.rotation @ eye.rotation.T, torch.eye(3).double(), atol=1e-9)


def test_panning_takes_the_pivot_along():
    moved = pixel(EYE.panned(0.1, -0.2), EYE.pivot)  # shares of the height, 300 pixels
    assert moved.tolist() == pytest.approx([230, 90])


def test_zoom_has_limits():
    eye = EYE
    for _ in range(1000):
        eye = eye.closer(0.5)
    assert eye.distance == pytest.approx(1e-3)


def test_a_point_becomes_the_pivot():
    point = torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64)
    eye = EYE.about(point)
    assert torch.allclose(eye.centre, EYE.centre) and torch.allclose(
        pixel(eye, point), torch.tensor([200.0, 150]).double()
    )


@pytest.mark.parametrize("aspect", [0.3, 1.0, 3.0])
def test_a_framed_box_fills_the_picture(aspect):
    box = torch.tensor([[-1.0, -0.2, 0], [0.5, 0.4, 1.5]])
    middle = box.double().mean(0)
    eye = framed(box_outline(box), replace(EYE, pivot=middle), aspect)
    width, height = round(300 * aspect), 300
    xy, z = eye.camera(width, height).project(torch.cartesian_prod(*box.double().T))
    reach = ((xy / torch.tensor([width, height]) - 0.5).abs() * 2).max()
    assert (z > 0).all() and float(reach) == pytest.approx(FILL, abs=0.01)


@pytest.mark.parametrize("aspect", [0.3, 1.0, 3.0])
def test_a_place_is_zoomed_on_from_where_the_eye_stands(aspect):
    """A small subject by a long lens; what no lens fits, from farther away."""
    for size, stays in ((0.33, True), (50.0, False)):
        outline = EYE.pivot + box_outline(torch.tensor([[-size] * 3, [size] * 3]))
        eye = zoomed_on(outline, EYE, aspect)
        xy, z = eye.camera(round(300 * aspect), 300).project(outline)
        reach = ((xy / torch.tensor([round(300 * aspect), 300]) - 0.5).abs() * 2).max()
        assert (z > 0).all() and float(reach) == pytest.approx(FILL, abs=0.01)
        assert torch.allclose(eye.centre, EYE.centre) == stays


def test_a_photos_eye_sees_what_the_photo_saw():
    params = torch.tensor([300.0, 300, 200, 150])
    camera = Camera("PINHOLE", 400, 300, params, EYE.rolled(0.4).world_from_camera)
    eye = photo_eye(camera, torch.tensor([[-1.0] * 3, [1.0] * 3]))
    assert torch.allclose(eye.world_from_camera, camera.world_from_camera)
    assert math.isclose(float(eye.camera(400, 300).params[1]), 300)


def test_tiles_are_parts_of_the_picture():
    camera = EYE.camera(40, 30)
    part = tile(camera, 10, 20, 8, 5)
    assert torch.allclose(part.rays()[1], camera.rays()[1][20:25, 10:18], atol=1e-6)


def test_first_views_are_upright_and_from_as_far_as_the_photos(tmp_path):
    """A method has learnt nothing nearer than the photos: there a splat run draws nothing at all."""
    from balls import RADIUS, ball_field

    subject = ball_field(tmp_path)
    eye = first_eye(subject, 1.5)
    assert torch.allclose(eye.pivot, torch.zeros(3).double(), atol=1e-6) and float(eye.rotation[2, 1]) < 0
    distances = [float(view.camera.centre.norm()) for view in subject.scene.views]
    assert min(distances) - 0.01 < eye.distance < max(distances) + 0.01
    reach = RADIUS / (eye.distance**2 - RADIUS**2) ** 0.5 / math.tan(math.radians(eye.fov) / 2)
    assert reach == pytest.approx(FILL, abs=0.05)
