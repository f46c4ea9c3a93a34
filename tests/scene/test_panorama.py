"""Panoramas become pinhole views that show what pinholes would have seen, all round and across the seam."""

import json
import math

import numpy as np
import pytest
import torch
from captures import cloud, look_at, opengl, ring, write_transforms
from PIL import Image

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera, pixel_centres
from neural3d.loading import load_scene
from neural3d.scene.panorama import FACES, looks_panoramic
from neural3d.scene.stored import read_scene, write_scene

WIDTH = 256


def sky(directions):
    """A colour for each direction of the world, smooth and different everywhere."""
    x, y, z = torch.as_tensor(directions).double().unbind(-1)
    return (torch.stack([x, y, z], -1) * 100 + 128).clamp(0, 255).numpy()


def write_panoramas(root, count=8, width=WIDTH, mask=False):
    """Cameras on a line that look all ways, tilted; of a world infinitely far away."""
    (root / "images").mkdir()
    frames, cameras = [], []
    for i in range(count):
        pose = torch.from_numpy(look_at((0.5 * i, 0.1 * i, 1.0), (math.cos(i), 5 * math.sin(i), 0.8), (0.1, 0, 1)))
        camera = Camera("EQUIRECTANGULAR", width, width // 2, torch.tensor([width, width // 2]), pose)
        pixels = sky(camera.rays(pixel_centres(width, width // 2))[1]).round().astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        if mask:
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.where(pixels[..., 2] > 128, 255, 0).astype(np.uint8)).save(root / "masks" / f"{i}.png")
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": opengl(camera)})
        cameras.append(camera)
    (root / "transforms.json").write_text(json.dumps({"camera_model": "EQUIRECTANGULAR", "frames": frames}))
    return cameras


@pytest.fixture
def scene(tmp_path):
    return write_panoramas(tmp_path, mask=True), load_scene(tmp_path, up="z")


def of_the_world(scene, camera):
    """The rays of a scene's camera, turned back into the capture's frame."""
    return camera.rays()[1].double() @ torch.nn.functional.normalize(scene.scene_from_capture[:3, :3], dim=0)


def test_faces_show_what_pinholes_see(scene):
    cameras, scene = scene
    assert len(scene.views) == 6 * len(cameras) and {v.name.split("_")[1][:-4] for v in scene.views} == set(FACES)
    for view in scene.views:
        assert view.camera.model == "PINHOLE" and view.camera.width == round(WIDTH / math.pi)
        want = sky(of_the_world(scene, view.camera))
        # Half a step of rounding twice, what interpolation misses, half a row at the poles; a pixel's shift costs 2.5.
        error = np.abs(view.image() - want)
        assert error.max() < 2 and error.mean() < 0.4, view.name
        assert np.abs(view.resized(40, 40).image() - sky(of_the_world(scene, view.resized(40, 40).camera))).max() < 3
        assert ((view.mask() == 255) == (want[..., 2] > 128)).mean() > 0.98


def test_points_land_where_they_do_in_the_panorama(scene):
    """Every direction is in one face; its pixel there and in the panorama show the same point."""
    cameras, scene = scene
    points = torch.from_numpy(cloud((2.0, 0, 1), count=500, radius=9))
    moved = points @ scene.scene_from_capture[:3, :3].T + scene.scene_from_capture[:3, 3]
    seen = torch.zeros(len(cameras), len(points))
    for view in scene.views:
        xy, z = view.camera.project(moved)
        inside = (z > 0) & (xy > 0).all(-1) & (xy < view.camera.width).all(-1)
        camera = cameras[int(view.name[0])]
        seen[int(view.name[0])] += inside
        torch.testing.assert_close(camera.project(points)[0][inside], view.lens.project(moved)[0][inside])
    assert (seen == 1).all()


def test_near_far_and_bounds_are_those_of_pinholes(scene):
    """A camera that looks all round has no field of view of nothing: bounds hold all cameras, far is beyond them."""
    _, scene = scene
    centres = torch.stack([v.camera.centre for v in scene.views]).float()
    assert ((centres > scene.aabb[0]) & (centres < scene.aabb[1])).all()
    assert scene.unbounded and 0.01 < scene.near < 0.2 and scene.far >= 100
    assert any("8 panoramas are cut into 48 pinhole views" in note for note in scene.notes)


def test_a_run_remembers_its_parts(scene, tmp_path):
    _, scene = scene
    write_scene(tmp_path / "scene.json", scene)
    back = read_scene(tmp_path / "scene.json")
    assert np.array_equal(back.views[7].image(), scene.views[7].image())


def test_smaller_copies_show_the_same(tmp_path):
    write_panoramas(tmp_path, count=3, width=512)
    scene = load_scene(tmp_path, downscale=2, up="z")
    for view in scene.views:
        assert view.camera.width == round(round(512 / math.pi) / 2)
        assert np.abs(view.image() - sky(of_the_world(scene, view.camera))).max() < 2.5


def test_parts_of_a_sphere_are_refused(tmp_path):
    write_panoramas(tmp_path)
    Image.new("RGB", (256, 100)).save(tmp_path / "images/3.png")
    with pytest.raises(UserError, match=r"3\.png is 256×100, but a panorama .* is twice as wide as high"):
        load_scene(tmp_path)


@pytest.mark.parametrize("model", ["VR180_L", "ORTHOPHOTO", "FISHEYE624", "EUCM"])
def test_what_no_reader_knows_is_refused(tmp_path, model):
    """Also lenses that neural3d knows and transforms.json has no parameters for."""
    with pytest.raises(UserError, match=rf"camera model '{model}'.* cut its photos into perspective views"):
        load_scene(write_transforms(tmp_path, ring(), camera_model=model))


def street(width, height, seed=0):
    """Sky over ground, with windows: not the same at both sides, though light above and dark below at both."""
    rng = np.random.default_rng(seed)
    fine = Image.fromarray(rng.integers(0, 120, (height // 8, width // 8), np.uint8)).resize((width, height))
    return np.clip(np.asarray(fine) + np.linspace(130, 0, height)[:, None], 0, 255).astype(np.uint8)


def test_panoramas_without_poses_are_told_from_wide_photos(tmp_path):
    cameras = write_panoramas(tmp_path, count=1, width=512)
    assert cameras and looks_panoramic((512, 256), np.asarray(Image.open(tmp_path / "images/0.png").convert("L")))
    wide = street(512, 256)
    assert not looks_panoramic((4000, 2000), wide)
    around = np.concatenate([wide[:, :256], wide[:, 255::-1]], 1)  # goes on where it began
    assert looks_panoramic((4000, 2000), around) and not looks_panoramic((4000, 3000), around)
    assert not looks_panoramic((4000, 2000), np.full((256, 512), 255, np.uint8))  # a white backdrop
