"""What ends up on the screen: solids, points, clipping, lines, errors."""

import math

import numpy as np
import pytest
import torch
import trimesh
from balls import RADIUS, ball_field, ball_mesh, overlap, silhouette
from neural3d.viewer.camera import looking
from neural3d.viewer.items import Lines, box_lines, draw_lines, frustum_corners, photo_planes, thumbnail
from neural3d.viewer.painter import painter
from neural3d.viewer.picture import Shot, error_heat, error_picture, photo_pixels
from neural3d.viewer.solids import Clip, Cloud, Solid
from neural3d.viewer.state import State
from PIL import Image

from neural3d.geometry.cameras import Camera
from neural3d.metrics import psnr
from neural3d.render import RenderOut
from neural3d.scene import View

WHITE = torch.ones(3)
FRONT = looking(torch.tensor([0.0, -1, 0]), torch.zeros(3), 3.0)


def test_a_ball_is_where_projection_puts_it():
    camera = FRONT.camera(120, 90)
    out = Solid.of_meshes([ball_mesh()]).render(camera, WHITE)
    assert overlap(out.alpha[..., 0].numpy() > 0.5, silhouette(camera)) > 0.97
    assert float(out.depth[45, 60]) == pytest.approx(3 - RADIUS, abs=2e-3)
    assert torch.allclose(out.normal[45, 60], torch.tensor([0, -1.0, 0]), atol=0.05)
    assert (out.rgb[0, 0] == 1).all() and float(out.depth[0, 0]) == 0


def test_textures_lie_the_right_way_up():
    """Red above, blue below, as its OBJ says: v grows upwards."""
    picture = Image.new("RGB", (8, 8), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 4, 8, 8))
    corners = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1.0]])
    visual = trimesh.visual.TextureVisuals(uv=np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]), image=picture)
    quad = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    rgb = Solid.of_meshes([ball_mesh(), quad]).render(FRONT.camera(100, 100), WHITE).rgb.numpy()
    assert rgb[25, 25, 0] > 0.7 > 0.3 > rgb[25, 25, 2] and rgb[75, 75, 2] > 0.7 > 0.3 > rgb[75, 75, 0]


def test_clipping_opens_what_it_cuts():
    """A ball without its front half shows the inside of its back."""
    back = Clip(torch.eye(4), torch.tensor([[-1.0, 0, -1], [1, 1, 1]]))
    camera = FRONT.camera(60, 60)
    out = Solid.of_meshes([ball_mesh()]).render(camera, WHITE, back)
    assert float(out.depth[30, 30]) == pytest.approx(3 + RADIUS, abs=5e-3)
    scaled = torch.diag(torch.tensor([2.0, 2, 2, 1]))  # the same box, said in a frame of half the unit
    again = Solid.of_meshes([ball_mesh()]).render(camera, WHITE, Clip(scaled, 2 * back.box))
    assert torch.allclose(out.depth, again.depth, atol=1e-5)


def test_fields_are_clipped_at_their_surface(tmp_path):
    paint = painter(ball_field(tmp_path))
    camera = FRONT.camera(60, 60)
    upper = Clip(torch.eye(4), torch.tensor([[-1.0, -1, 0], [1, 1, 1]]))
    alpha = paint(camera, WHITE, upper).alpha[..., 0]
    assert alpha[25, 30] == 1 and alpha[35, 30] == 0


def test_nearer_points_hide_farther_ones():
    points = np.array([[0, 0, 0], [0, -1, 0], [0, 0, 0.5]], np.float32)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    out = Cloud(points, colors).render(FRONT.camera(101, 101), WHITE)
    assert out.rgb[50, 50].tolist() == [0, 1, 0] and float(out.depth[50, 50]) == pytest.approx(2)
    assert int(out.alpha.sum()) < 200 and (out.rgb[..., 2] == 1)[out.alpha[..., 0] > 0].any()


def test_lines_are_drawn_before_and_faint_behind_what_is_there():
    camera = FRONT.camera(200, 100)
    lines = Lines.of(np.array([[[-1, 0, 0], [1, 0, 0]]]), (255, 0, 0))
    for depth, drawn in ((0.0, True), (5.0, True), (1.0, False)):
        picture = np.full((100, 200, 3), 255, np.uint8)
        draw_lines(picture, np.full((10, 20), depth), camera, lines)
        middle = picture[48:53, 100, 1]
        assert (middle.min() < 120) == drawn and middle.min() < 250


def test_lines_past_the_eye_end_before_it():
    camera = FRONT.camera(200, 100)
    picture = np.full((100, 200, 3), 255, np.uint8)
    through = Lines.of(np.array([[[0.0, 2, -0.5], [0, -20, -0.5]], [[0, -9, 0], [0, -20, 0]]]), (0, 0, 0))
    draw_lines(picture, np.zeros((1, 1)), camera, through)
    dark = picture[..., 0] < 200
    assert dark[64:, 99:101].any(1).all() and not dark[:50].any()  # down to the lower edge, and nothing above


def test_a_box_has_twelve_edges():
    lines = box_lines(torch.tensor([[0.0, 0, 0], [1, 2, 3]]), (0, 0, 0))
    assert sorted(np.linalg.norm(lines.ends[:, 0] - lines.ends[:, 1], axis=1).tolist()) == [1] * 4 + [2] * 4 + [3] * 4


def test_photos_stand_upright_on_their_frustums(tmp_path):
    subject = ball_field(tmp_path)
    view = subject.scene.views[0]
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[:5] = 255  # white above
    planes = photo_planes([view], [picture], 0.2)
    behind = view.camera.world_from_camera.clone()
    behind[:3, 3] -= 0.3 * view.camera.forward
    camera = type(view.camera)(view.camera.model, 48, 48, view.camera.params, behind)
    out = planes.render(camera, torch.zeros(3))
    assert out.alpha[24, 24] == 1 and out.rgb[18, 24].mean() > 0.9 and out.rgb[30, 24].mean() < 0.1
    assert frustum_corners(view.camera, 0.2).shape == (5, 3)
    view.image_path.unlink()
    assert thumbnail(view).shape == (1, 1, 3)


def test_the_small_picture_of_a_panorama_s_part_is_that_part(tmp_path):
    """Of a panorama that is white behind, the front is black."""
    pixels = np.full((100, 200, 3), 255, np.uint8)
    pixels[:, 60:140] = 0
    Image.fromarray(pixels).save(tmp_path / "pano.png")
    part = Camera("PINHOLE", 40, 40, torch.full((4,), 20.0), torch.eye(4))
    lens = Camera("EQUIRECTANGULAR", 200, 100, torch.tensor([200.0, 100]), torch.eye(4))
    small = thumbnail(View("a", part, tmp_path / "pano.png", lens=lens))
    assert small.shape[0] == small.shape[1] > 40 and (small == 0).all()


def test_the_error_is_the_difference_and_its_psnr(tmp_path):
    subject = ball_field(tmp_path)
    view = subject.scene.views[0]
    camera = view.camera.resized(60, 60)
    photo = photo_pixels(view, camera, WHITE)
    rgb = torch.from_numpy(np.clip(photo + 0.1, 0, 1))
    empty = torch.zeros(60, 60, 1)
    shot = Shot(camera, "error", (200, 100), WHITE, photo=view)
    sheet, score = error_picture(RenderOut(rgb, empty, empty, rgb), photo, shot)
    assert score == pytest.approx(psnr(rgb.numpy(), photo)) and sheet.shape == (100, 200, 3)
    left = (200 - 126) // 2
    assert np.abs(sheet[20:80, left : left + 60].astype(int) - photo * 255).max() < 2
    assert (sheet[50, left + 96] == error_heat(rgb.numpy() - photo)[30, 30]).all()


def test_the_state_speaks_as_export_listens(tmp_path):
    state = State.of(ball_field(tmp_path), 1.5)
    words = state.clip_words().split()
    assert words[0] == "--crop" and len(words) == 7
    low, high = np.reshape([float(w) for w in words[1:]], (2, 3))
    assert (high - low > 1).all() and (state.clip_range()[0] < low).all() and (state.clip_range()[1] > high).all()
    assert state.shot(0, 0).camera.width == 1  # a window of no size
    state.kind = "error"
    shot = state.shot(300, 100)
    assert shot.camera.height == 100 and math.isclose(shot.camera.width, 100) and shot.photo is state.view
