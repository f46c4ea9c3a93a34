import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import box_outline, outline_of
from neural3d.render.path_files import write_camera_path
from neural3d.render.paths import FILL, bearings, camera_path, look_at, middle_of, suited_path
from neural3d.scene.scene import Scene, View

UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def vec(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scene_of(
    poses: list[torch.Tensor], model: str = "SIMPLE_RADIAL", params: tuple = (120.0, 40.0, 31.0, 0.1)
) -> Scene:
    views = [View(f"{k}.png", Camera(model, 81, 60, vec(*params), pose), Path("none")) for k, pose in enumerate(poses)]
    similarity = torch.eye(4, dtype=torch.float64)
    similarity[:3, :3] = 0.5 * torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    similarity[:3, 3] = vec(0.1, 0.2, 0.3)
    aabb = torch.tensor([[-1.0, -1, -0.5], [1.0, 1, 0.7]])
    split = {"train": list(range(len(views)))[:-1], "test": [len(views) - 1], "val": []}
    return Scene("test", Path("a/capture"), "transforms", views, split, aabb, False, 0.1, 10.0, similarity)


def around(count: int = 12, distance: float = 3.0, height: float = 1.5) -> Scene:
    angles = [0.3 + 2 * math.pi * k / count for k in range(count)]
    eyes = [vec(distance * math.cos(a), distance * math.sin(a), 0.1 + height) for a in angles]
    return scene_of([look_at(eye, vec(0, 0, 0.1), UP) for eye in eyes])


def facing() -> Scene:
    """Five by five cameras on a wall, all looking along −y."""
    eyes = [vec(x, 4.0, z) for x in np.linspace(-1, 1, 5) for z in np.linspace(-0.5, 0.5, 5)]
    return scene_of([look_at(eye, vec(0, 0, 0), UP) for eye in eyes])


def assert_rigid(camera: Camera) -> None:
    r = camera.world_from_camera[:3, :3]
    torch.testing.assert_close(r @ r.T, torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0)
    assert torch.det(r) > 0


def test_look_at_puts_the_target_in_the_middle_and_up_upward():
    for eye, up in ((vec(1, 2, 3), UP), (vec(0, 0, 5), UP), (vec(0, 0, -5), UP), (vec(3, 0, 0), vec(0, -1, 0))):
        pose = look_at(eye, vec(0.2, 0, 0) * eye.norm() * 0, up)
        camera = Camera("PINHOLE", 20, 10, vec(10, 10, 10, 5), pose)
        assert_rigid(camera)
        xy, z = camera.project(vec(0, 0, 0))
        torch.testing.assert_close(xy, vec(10, 5))
        assert z == pytest.approx(eye.norm().item())
        xy_up, _ = camera.project(0.01 * up)
        assert xy_up[1] <= 5 + 1e-6, "image y points down"


def test_splits_are_the_captured_cameras():
    scene = around()
    path = camera_path(scene, "test")
    assert path.names == ["11.png"] and path.cameras[0] is scene.views[11].camera
    assert len(camera_path(scene, "train").cameras) == 11
    with pytest.raises(UserError, match="no val views"):
        camera_path(scene, "val")
    with pytest.raises(UserError, match="Unknown path 'sideways'"):
        camera_path(scene, "sideways")


def test_orbit_keeps_height_and_distance_and_looks_at_the_middle():
    scene = around()
    path = camera_path(scene, "orbit", count=16)
    middle = scene.aabb.double().mean(0)
    centres = torch.stack([c.centre for c in path.cameras])
    torch.testing.assert_close((centres - middle)[:, :2].norm(dim=1), torch.full((16,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(centres[:, 2], torch.full((16,), 1.6, dtype=torch.float64))
    torch.testing.assert_close(centres[0], scene.views[0].camera.centre, atol=1e-6, rtol=0)
    steps = (centres.roll(-1, 0) - centres).norm(dim=1)
    torch.testing.assert_close(steps, steps[:1].expand(16))  # closed and even
    for camera in path.cameras:
        assert_rigid(camera)
        xy, z = camera.project(middle)
        torch.testing.assert_close(xy, vec(40.5, 30))
        assert z > 0 and (camera.width, camera.height) == (81, 60)
        assert camera.model == "PINHOLE" and abs(camera.world_from_camera[2, 0]) < 1e-9, "level"
    assert reaches(path.cameras, scene) == pytest.approx(FILL)


def reaches(cameras: list[Camera], scene: Scene) -> float:
    """How far from the middle, at most, the outline is seen, in half pictures."""
    pixels = torch.stack([camera.project(outline_of(scene))[0] for camera in cameras])
    half = vec(cameras[0].width, cameras[0].height) / 2
    return float(((pixels - half).abs() / half).max())


def one_side(arc: float, count: int = 30, seed: int = 0) -> Scene:
    """Cameras at uneven distances and heights on an arc (degrees) about the origin."""
    rng = np.random.default_rng(seed)
    middle, poses = vec(0, 0, 0.1), []
    for turn in np.radians(np.linspace(-arc / 2, arc / 2, count) + 70):
        rise, distance = rng.uniform(0.1, 0.6), rng.uniform(2.5, 3.5)
        away = vec(math.cos(turn) * math.cos(rise), math.sin(turn) * math.cos(rise), math.sin(rise))
        poses.append(look_at(middle + distance * away, middle, UP))
    box = torch.stack([middle - 0.5, middle + 0.5])
    return replace(scene_of(poses), outline=box_outline(box))


@pytest.mark.parametrize(("arc", "kind"), [(60, "spiral"), (150, "spiral"), (250, "spiral"), (300, "orbit")])
def test_the_film_stays_where_the_photos_are(arc, kind):
    """Of a part of the circle a spiral within it; an orbit where photos are all around. Never below, above, nearer."""
    scene = one_side(arc)
    chosen, why = suited_path(scene)
    assert chosen == kind and "photos" in why
    cameras = camera_path(scene, chosen, count=60).cameras
    photos = scene.cameras("train")
    _, rise, far = bearings(photos, middle_of(scene))
    azimuth, elevation, distance = bearings(cameras, middle_of(scene))
    assert (distance >= far.min()).all() and (distance <= far.max()).all()
    assert (elevation >= rise.min()).all() and (elevation <= rise.max()).all()
    if kind == "spiral":
        off = torch.remainder(azimuth - math.radians(70) + math.pi, 2 * math.pi) - math.pi
        assert off.abs().max() <= math.radians(arc / 2) and off.abs().max() > 0.8 * math.radians(arc / 2)
    assert reaches(cameras, scene) == pytest.approx(FILL, abs=0.01)


def test_rooms_are_walked_through():
    """Cameras that look outwards have nothing in common; the film passes them, and stays between them."""
    eyes = [vec(math.cos(a), math.sin(a), 0.1 * k) for k, a in enumerate(np.linspace(0, 6, 40))]
    scene = scene_of([look_at(eye, 3 * eye, UP) for eye in eyes])
    kind, why = suited_path(scene)
    assert kind == "walk" and "no one subject" in why
    cameras = camera_path(scene, "walk", count=90).cameras
    assert len(cameras) == 90
    centres, photos = (torch.stack([c.centre for c in some]) for some in (cameras, scene.cameras("train")))
    assert torch.cdist(centres, photos).amin(1).max() < 0.2


@pytest.mark.parametrize(("step", "kind"), [(0.3, "walk"), (0.02, "spiral")])
def test_streets_are_walked_along(step, kind):
    """All photos show the end of the street, which is no reason to turn before it; steps aside are wider than these."""
    eyes = [vec(0.05 * (-1) ** k, 4.0 - step * k, 0.1) for k in range(12)]
    scene = scene_of([look_at(eye, vec(0.0, -30.0, 0.1), UP) for eye in eyes])
    assert suited_path(scene)[0] == kind


def test_spiral_stays_within_the_photographs_and_sees_the_subject():
    scene = facing()
    path = camera_path(scene, "spiral", count=40)
    centres = torch.stack([c.centre for c in path.cameras])
    assert 0.7 < centres[:, 0].abs().max() < 1.1
    assert 0.35 < centres[:, 2].abs().max() < 0.55
    for camera in path.cameras:
        assert_rigid(camera)
        xy, z = camera.project(vec(0, 0, 0))
        assert z > 0 and (xy - vec(40.5, 30)).abs().max() < 6
        xy_up, _ = camera.project(vec(0, 0, 0.2))
        assert xy_up[1] < xy[1], "upright"
    with pytest.raises(UserError, match="orbit"):
        camera_path(around(), "spiral")


def test_panoramas_orbit_as_a_square_window():
    scene = around()
    for view in scene.views:
        view.camera = replace(view.camera, model="EQUIRECTANGULAR", params=vec(81, 60))
    camera = camera_path(scene, "orbit", count=3).cameras[0]
    assert (camera.width, camera.height) == (60, 60) and camera.params[0] >= 30 and camera.params[2] == 30


def nerfstudio_path(scene: Scene) -> dict:
    """OpenGL camera 4 before the capture's origin along its +x, looking back at it, z up; vertical field 60°."""
    entry = {"camera_to_world": [0, 0, 1, 4, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1], "fov": 60, "aspect": 2}
    return {
        "camera_type": "perspective", "render_height": 100, "render_width": 200, "fps": 30, "seconds": 2,
        "camera_path": [entry, {**entry, "fov": 90}],
    }  # fmt: skip


def test_nerfstudio_paths_are_in_the_captures_frame(tmp_path):
    scene = around()
    file = tmp_path / "path.json"
    file.write_text(json.dumps(nerfstudio_path(scene)))
    path = camera_path(scene, str(file))
    assert path.fps == 30 and path.names == ["0000", "0001"]
    first, second = path.cameras
    assert_rigid(first)
    move = scene.scene_from_capture
    torch.testing.assert_close(first.centre, (move @ vec(4, 0, 0, 1))[:3])
    xy, z = first.project((move @ vec(0, 0, 0, 1))[:3])
    torch.testing.assert_close(xy, vec(100, 50))
    assert z == pytest.approx(4 * 0.5)
    xy, _ = first.project((move @ vec(0, 0, 4 * math.tan(math.radians(30)), 1))[:3])
    torch.testing.assert_close(xy, vec(100, 0), atol=1e-9, rtol=0)  # the vertical field's upper edge
    xy, _ = first.project((move @ vec(0, 1, 0, 1))[:3])
    assert xy[0] > 100, "the camera's right is the capture's +y"
    assert second.params[0] == pytest.approx(50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera_type": "fisheye"}, "not supported"),
        ({"camera_path": []}, "no list 'camera_path' or 'keyframes'"),
        ({"camera_path": {"0": 1}}, "'camera_path' is no list of cameras"),
        ({"camera_path": [], "keyframes": [{"matrix": [1, 2], "fov": 50}]}, "key frame 0: the pose must be"),
        ({"render_width": 0}, "'render_width' must be a positive"),
        ({"camera_path": [{"camera_to_world": [1, 2, 3], "fov": 50}]}, "camera 0: the pose must be"),
        ({"camera_path": [{"camera_to_world": [math.nan] * 16, "fov": 50}]}, "camera 0: the pose holds NaN"),
        ({"camera_path": [{"camera_to_world": list(np.eye(4).ravel()), "fov": 200}]}, "under 180"),
        ({"camera_path": [{"camera_to_world": list(np.eye(4).ravel())}]}, "'fov' must be a positive"),
    ],
)
def test_broken_path_files_are_named(tmp_path, change, message):
    scene = around()
    file = tmp_path / "path.json"
    file.write_text(json.dumps(nerfstudio_path(scene) | change))
    with pytest.raises(UserError, match=message) as caught:
        camera_path(scene, str(file))
    assert "path.json" in str(caught.value)
    file.write_text('{"camera_path": [')
    with pytest.raises(UserError, match="no complete JSON"):
        camera_path(scene, str(file))
    with pytest.raises(UserError, match="missing"):
        camera_path(scene, str(tmp_path / "other.json"))


def keyframes_around(scene: Scene) -> list[Camera]:
    """Uneven ones, of different lenses and sizes, not all looking at one point."""
    eyes = [vec(3, 0, 1), vec(1, 2.5, 1.5), vec(0.8, 2.6, 1.5), vec(-3, 0.5, 0.2), vec(-1, -3, 2)]
    poses = [look_at(eye, vec(0.1 * k, 0, 0.2), UP) for k, eye in enumerate(eyes)]
    cameras = [Camera("PINHOLE", 80, 60, vec(70 + 10 * k, 70 + 10 * k, 40, 30), pose) for k, pose in enumerate(poses)]
    cameras[2] = cameras[2].resized(160, 120)
    return cameras


def test_a_written_path_passes_its_key_frames_and_reads_back(tmp_path):
    scene = around()
    keys = keyframes_around(scene)
    write_camera_path(tmp_path / "a" / "path.json", keys, scene, fps=10, seconds=4)
    path = camera_path(scene, str(tmp_path / "a" / "path.json"))
    assert path.fps == 10 and len(path.cameras) == 4 * 10 + 1
    for key, camera in zip(keys, path.cameras[::10]):
        torch.testing.assert_close(camera.world_from_camera, key.world_from_camera, atol=1e-7, rtol=0)
        torch.testing.assert_close(camera.params, key.resized(80, 60).params, atol=1e-6, rtol=0)
        assert (camera.width, camera.height) == (80, 60)
    file = tmp_path / "keys.json"
    content = json.loads((tmp_path / "a" / "path.json").read_text())
    assert torch.tensor(content["keyframes"][0]["matrix"]).reshape(4, 4)[:3, 3].numpy() == pytest.approx(
        (torch.linalg.inv(scene.scene_from_capture) @ torch.cat([keys[0].centre, vec(1)]))[:3].numpy(), abs=1e-6
    )  # the capture's own frame
    del content["camera_path"]
    file.write_text(json.dumps(content))
    again = camera_path(scene, str(file))
    assert len(again.cameras) == len(path.cameras)
    for a, b in zip(again.cameras, path.cameras):
        torch.testing.assert_close(a.world_from_camera, b.world_from_camera, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="at least one key frame"):
        write_camera_path(file, [], scene, seconds=1)
    write_camera_path(file, keys[:1], scene, seconds=1)
    assert len(camera_path(scene, str(file)).cameras) == 1


def test_key_frames_keep_their_own_times_and_may_close_a_circle(tmp_path):
    scene = around()
    write_camera_path(tmp_path / "path.json", keyframes_around(scene), scene, fps=10, seconds=4)
    content = json.loads((tmp_path / "path.json").read_text())
    content["camera_path"], content["is_cycle"] = [], True
    content["keyframes"][2] |= {"override_transition_enabled": True, "override_transition_sec": 0.3}
    (tmp_path / "path.json").write_text(json.dumps(content))
    path = camera_path(scene, str(tmp_path / "path.json"))
    assert len(path.cameras) == 10 + 3 + 3 * 10, "the third key frame is reached in 0.3 s, the first again in 1 s"
    for key, at in zip(keyframes_around(scene), (0, 10, 13, 23, 33)):
        torch.testing.assert_close(path.cameras[at].centre, key.centre, atol=1e-7, rtol=0)
    del content["keyframes"][2]["override_transition_sec"]
    (tmp_path / "path.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="'override_transition_sec' must be a positive"):
        camera_path(scene, str(tmp_path / "path.json"))
