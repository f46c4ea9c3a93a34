"""Known cameras in, the same cameras out: every reader on small captures written here."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from captures import (
    HEIGHT,
    OPENCV_PARAMS,
    WIDTH,
    cloud,
    names,
    ring,
    write_blender,
    write_colmap,
    write_idr,
    write_middlebury,
    write_picture,
    write_transforms,
)
from PIL import Image

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.scene import Scene, readers

CENTRE = (1.0, -2.0, 0.5)
BOX = np.array([[0.2, -2.9, 0.0], [1.8, -1.1, 1.0]])


def check_cameras(scene: Scene, truth: dict[str, Camera], centre=CENTRE) -> None:
    """The scene's cameras show points of the capture where the true cameras do, and stand where those stand."""
    points = torch.from_numpy(cloud(centre))
    s = scene.scene_from_capture
    moved = points @ s[:3, :3].T + s[:3, 3]
    assert {v.name for v in scene.views} == set(truth)
    for view in scene.views:
        expected = truth[view.name].resized(view.camera.width, view.camera.height)
        xy, z = expected.project(points)
        xy_scene, z_scene = view.camera.project(moved)
        torch.testing.assert_close(xy_scene, xy, atol=1e-4, rtol=0)
        torch.testing.assert_close(z_scene, z * torch.linalg.det(s[:3, :3]) ** (1 / 3), rtol=1e-5, atol=0)


def check_frame(scene: Scene) -> None:
    """scene_from_capture is a similarity, and the aabb touches the cube [−1, 1]³ along its longest side."""
    m = scene.scene_from_capture[:3, :3]
    scale = torch.linalg.det(m) ** (1 / 3)
    torch.testing.assert_close(m @ m.T, scale**2 * torch.eye(3).double(), atol=1e-9, rtol=0)
    assert scene.aabb.abs().max() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(scene.aabb[0], -scene.aabb[1], atol=1e-5, rtol=0)
    assert 0 < scene.near < scene.far


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("extension", [True, False])
@pytest.mark.parametrize(
    "model,params",
    [
        ("PINHOLE", (60.0, 61, 25, 17)),
        ("OPENCV", OPENCV_PARAMS),
        ("OPENCV_FISHEYE", (30.0, 31, 25, 17, 0.02, -0.003, 0.001, 0)),
    ],
)
def test_transforms(tmp_path, model, params, shared, extension):
    cameras = ring(model, params)
    scene = load_scene(write_transforms(tmp_path, cameras, shared, extension))
    check_cameras(scene, dict(zip(names(cameras), cameras)))
    check_frame(scene)
    assert scene.reader == "transforms" and scene.unbounded and scene.points is None
    assert [scene.views[i].name for i in scene.split["test"]] == ["000.png", "008.png"]
    torch.testing.assert_close(scene.scene_from_capture[:3, :3] / scene.scene_from_capture[0, 0], torch.eye(3).double())


def test_transforms_with_reduced_photos(tmp_path):
    cameras = ring("OPENCV", OPENCV_PARAMS)
    write_transforms(tmp_path, cameras)
    for i, name in enumerate(names(cameras)):
        write_picture(tmp_path / "images_2" / name, i, (WIDTH // 2, HEIGHT // 2))
    scene = load_scene(tmp_path, images="images_2")
    assert scene.views[3].image().shape == (HEIGHT // 2, WIDTH // 2, 3)
    check_cameras(scene, dict(zip(names(cameras), cameras)))


def test_every_reader_is_in_the_table():
    """One module, one READER (transforms has BLENDER too); what serves several has none."""
    modules = {path.stem: importlib.import_module(f"neural3d.scene.readers.{path.stem}")
               for path in Path(readers.__file__).parent.glob("*.py") if path.stem != "__init__"}  # fmt: skip
    told = {x for module in modules.values() for x in vars(module).values() if isinstance(x, readers.reader.Reader)}
    assert told == set(readers.READERS.values()) and len(told) == len({x.name for x in told}) == 16


def test_a_reader_can_be_chosen(tmp_path):
    cameras = ring()
    write_transforms(tmp_path, cameras)
    write_colmap(tmp_path, cameras[:6], cloud(), True)
    assert len(load_scene(tmp_path).views) == 10 and load_scene(tmp_path).points is not None
    scene = load_scene(tmp_path, reader="colmap")
    assert scene.reader == "colmap" and len(scene.views) == 6
    with pytest.raises(UserError, match=r"unknown reader 'colmapp'; did you mean 'colmap'"):
        load_scene(tmp_path, reader="colmapp")
    with pytest.raises(UserError, match=r"holds nothing for the reader 'idr', which was asked for: cameras_sphere.npz"):
        load_scene(tmp_path, reader="idr")


def test_transforms_with_points_in_a_ply(tmp_path):
    """nerfstudio's sparse_pc.ply, in the frame of transforms.json."""
    write_transforms(tmp_path, ring(), ply_file_path="sparse_pc.ply")
    colours = np.tile(np.array([[10, 20, 30, 255]], np.uint8), (300, 1))
    trimesh.PointCloud(cloud(), colours).export(tmp_path / "sparse_pc.ply")
    scene = load_scene(tmp_path)
    s = scene.scene_from_capture.numpy()
    np.testing.assert_allclose(scene.points[0], cloud() @ s[:3, :3].T + s[:3, 3], atol=1e-4)
    assert (scene.points[1] == [10, 20, 30]).all()


def test_aabb_scale(tmp_path):
    """instant-ngp's unit cube is the region of interest, and aabb_scale 1 says that nothing lies outside."""
    write_transforms(tmp_path, ring(centre=(0, 0, 0)), aabb_scale=16)
    scene = load_scene(tmp_path)
    assert scene.unbounded and scene.scene_from_capture[0, 0] == pytest.approx(0.66)
    write_transforms(tmp_path, ring(centre=(0, 0, 0)), aabb_scale=1)
    assert not load_scene(tmp_path).unbounded


def test_transforms_with_angles_and_defaults(tmp_path):
    """camera_angle_x alone: square pixels, principal point in the middle, sizes from the photo."""
    cameras = ring("PINHOLE", (60.0, 60.0, WIDTH / 2, HEIGHT / 2))
    root = write_transforms(tmp_path, cameras)
    shared = json.loads((root / "transforms.json").read_text())
    angle = 2 * np.arctan(WIDTH / 2 / 60.0)
    (root / "transforms.json").write_text(json.dumps({"camera_angle_x": angle, "frames": shared["frames"]}))
    check_cameras(load_scene(root), dict(zip(names(cameras), cameras)))


def test_transforms_names_its_splits_and_masks(tmp_path):
    cameras = ring()
    root = write_transforms(tmp_path, cameras, train_filenames=["images/001.png"], test_filenames=["images/003.png"])
    (root / "masks").mkdir()
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, : WIDTH // 2] = 255
    Image.fromarray(mask).save(root / "masks" / "001.png.png")  # COLMAP's way
    Image.fromarray(mask).save(root / "masks" / "003.png")
    scene = load_scene(root, downscale=2)
    assert {k: [scene.views[i].name for i in v] for k, v in scene.split.items()} == {
        "train": ["001.png"],
        "test": ["003.png"],
    }
    views = {v.name: v for v in scene.views}
    for name in ("001.png", "003.png"):
        assert (views[name].mask() == mask[::2, ::2]).all()
    assert views["002.png"].mask() is None


def test_blender(tmp_path):
    cameras = ring("PINHOLE", (60.0, 60.0, WIDTH / 2, HEIGHT / 2), count=15, centre=(0, 0, 0))
    scene = load_scene(write_blender(tmp_path, cameras))
    train = [c for i, c in enumerate(cameras) if i % 5]
    truth = {f"train/r_{i}.png": c for i, c in enumerate(train)}
    check_cameras(scene, truth | {f"test/r_{i}.png": c for i, c in enumerate(cameras[::5])})
    check_frame(scene)
    assert scene.reader == "blender" and not scene.unbounded and scene.background == "white" and scene.has_alpha
    assert {k: len(v) for k, v in scene.split.items()} == {"train": 12, "test": 3}


def test_bounds_of_silhouettes_hug_the_subject(tmp_path):
    """A ball of radius 0.6 about (0.5, 0, 0) in Blender's frame: its hull, not Blender's cube nor the origin."""
    centre = (0.5, 0.0, 0.0)
    cameras = ring("PINHOLE", (60.0, 60.0, WIDTH / 2, HEIGHT / 2), count=30, centre=(0, 0, 0))
    scene = load_scene(write_blender(tmp_path, cameras, centre=centre))
    s = scene.scene_from_capture
    middle, half = torch.linalg.solve(s, torch.tensor([0.0, 0, 0, 1]).double())[:3], 1 / s[0, 0]
    assert (middle - torch.tensor(centre)).abs().max() < 0.15
    assert 0.6 <= half < 0.9  # pixels of 0.07, widened by one, and cells of 0.05


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["sparse/0", "sparse", ".", "colmap"])
def test_colmap(tmp_path, binary, model):
    cameras = ring("OPENCV", OPENCV_PARAMS, up=(0.2, -1.0, 0.1))
    scene = load_scene(write_colmap(tmp_path, cameras, cloud(), binary, model))
    check_cameras(scene, dict(zip(names(cameras), cameras)))
    check_frame(scene)
    s = scene.scene_from_capture
    xyz, rgb = scene.points
    np.testing.assert_allclose(xyz, cloud() @ s[:3, :3].numpy().T + s[:3, 3].numpy(), atol=1e-5)
    assert xyz.dtype == np.float32 and rgb.dtype == np.uint8 and (rgb == [10, 20, 30]).all()


def test_colmap_is_turned_upright_and_back(tmp_path):
    """The cameras' common up, here (0.2, −1, 0.1), becomes +z of the scene; scene_from_capture knows how to undo it."""
    up = np.array([0.2, -1.0, 0.1])
    scene = load_scene(write_colmap(tmp_path, ring("PINHOLE", up=up), cloud(), True))
    turned = scene.scene_from_capture[:3, :3].numpy() @ up
    np.testing.assert_allclose(turned / np.linalg.norm(turned), [0, 0, 1], atol=1e-6)
    inside = (scene.points[0] > scene.aabb[0].numpy()) & (scene.points[0] < scene.aabb[1].numpy())
    assert inside.all(1).mean() > 0.9


def test_colmap_models_of_one_focal_length(tmp_path):
    cameras = ring("SIMPLE_RADIAL", (60.0, 25.0, 17.0, -0.03))
    write_colmap(tmp_path, cameras, cloud(), False)
    check_cameras(load_scene(tmp_path), dict(zip(names(cameras), cameras)))


def test_colmap_reduced_photos(tmp_path):
    """images_2 beside cameras calibrated at full size: the cameras are resized to the photos."""
    cameras = ring("OPENCV", OPENCV_PARAMS)
    write_colmap(tmp_path, cameras, cloud(), True)
    for i, name in enumerate(names(cameras)):
        write_picture(tmp_path / "images_2" / name, i, (WIDTH // 2, HEIGHT // 2))
    scene = load_scene(tmp_path, images="images_2")
    assert scene.views[0].image().shape == (HEIGHT // 2, WIDTH // 2, 3)
    check_cameras(scene, dict(zip(names(cameras), cameras)))


def test_transforms_takes_points_of_a_model_in_another_frame(tmp_path):
    """Cameras from transforms.json; points from sparse/, whose frame is turned, scaled and moved: aligned, and said."""
    cameras = ring("OPENCV", OPENCV_PARAMS)
    write_transforms(tmp_path, cameras)
    other = torch.eye(4, dtype=torch.float64)
    other[:3, :3] = 0.4 * torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    other[:3, 3] = torch.tensor([5.0, 6, 7])
    write_colmap(
        tmp_path, [c.moved(other) for c in cameras], cloud() @ other[:3, :3].numpy().T + other[:3, 3].numpy(), True
    )
    scene = load_scene(tmp_path)
    assert scene.reader == "transforms" and any("brought into" in note for note in scene.notes)
    s = scene.scene_from_capture.numpy()
    np.testing.assert_allclose(scene.points[0], cloud() @ s[:3, :3].T + s[:3, 3], atol=1e-5)
    check_cameras(scene, dict(zip(names(cameras), cameras)))


@pytest.mark.parametrize("kind", ["pixels", "normalised", "extrinsics"])
def test_idr_and_dvr(tmp_path, kind):
    cameras = ring()
    scene = load_scene(write_idr(tmp_path, cameras, kind))
    check_cameras(scene, dict(zip(names(cameras), cameras)))
    check_frame(scene)
    s = scene.scene_from_capture  # the unit sphere of scale_mat fills the cube: radius 1.5 about CENTRE
    torch.testing.assert_close(torch.linalg.det(s[:3, :3]) ** (1 / 3), torch.tensor(1 / 1.5).double())
    torch.testing.assert_close(
        s[:3, :3] @ torch.tensor(CENTRE).double() + s[:3, 3], torch.zeros(3).double(), atol=1e-6, rtol=0
    )
    assert scene.reader == "idr" and scene.unbounded


def test_idr_masks_are_silhouettes(tmp_path):
    cameras = ring(count=20)
    scene = load_scene(write_idr(tmp_path, cameras, "pixels", masks=True))
    assert scene.has_alpha and not scene.unbounded and scene.background == "white"
    view = scene.views[3]
    assert view.mask() is None and (view.image()[..., 3] == np.asarray(Image.open(view.mask_path))).all()
    ignored = load_scene(tmp_path, masks="ignore")
    assert not ignored.has_alpha and ignored.views[3].mask() is not None


def test_idr_cropped_photos(tmp_path):
    """Photos that are the central square of what was calibrated, halved: the cameras follow."""
    cameras = ring()
    write_idr(tmp_path, cameras, "pixels")
    for i, name in enumerate(names(cameras)):
        write_picture(tmp_path / "image" / name, i, (HEIGHT // 2, HEIGHT // 2))
    scene = load_scene(tmp_path, calibration_size=[WIDTH, HEIGHT])
    truth, view = cameras[0], scene.views[0]
    points = torch.from_numpy(cloud())
    s = scene.scene_from_capture
    expected = (truth.project(points)[0] - torch.tensor([(WIDTH - HEIGHT) / 2, 0])) / 2
    torch.testing.assert_close(view.camera.project(points @ s[:3, :3].T + s[:3, 3])[0], expected, atol=1e-4, rtol=0)


def test_middlebury(tmp_path):
    cameras = ring()
    for path in (tmp_path, tmp_path / "toy_par.txt"):
        scene = load_scene(write_middlebury(tmp_path, cameras, BOX) if path == tmp_path else path)
        check_cameras(scene, dict(zip(names(cameras), cameras)))
        assert scene.reader == "middlebury" and not scene.unbounded and scene.background == "black"
    s = scene.scene_from_capture.numpy()
    corners = np.array(np.meshgrid(*BOX.T)).reshape(3, -1).T @ s[:3, :3].T + s[:3, 3]
    assert (np.abs(corners) <= scene.aabb[1].numpy()).all() and np.abs(corners).max() > 0.85


@pytest.mark.parametrize("number", ["..", "1e999"])
def test_middlebury_with_a_damaged_box(tmp_path, number):
    readme = write_middlebury(tmp_path, ring(), BOX) / "README.txt"
    readme.write_text(re.sub(r"\(-?[\d.]+ ", f"({number} ", readme.read_text(), count=1))
    assert number in readme.read_text() and load_scene(tmp_path).aabb.isfinite().all()


def test_nerfstudio_with_depth_masks_and_lenses_of_their_own(tmp_path):
    """Depth is passed over, the transform that was applied is told and not undone; each frame keeps its own lens."""
    cameras = ring("OPENCV", OPENCV_PARAMS)
    for i, camera in enumerate(cameras[::2]):
        fisheye = torch.tensor([30.0 + i, 31, 25, 17, 0.02, 0, 0, 0])
        cameras[2 * i] = Camera("OPENCV_FISHEYE", WIDTH, HEIGHT, fisheye, camera.world_from_camera)
    root = write_transforms(
        tmp_path, cameras, shared=False, orientation_override="none", applied_scale=1.0,
        applied_transform=[[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]],
    )  # fmt: skip
    content = json.loads((root / "transforms.json").read_text())
    (root / "masks").mkdir()
    for i, frame in enumerate(content["frames"]):
        frame["depth_file_path"] = f"depths/{i:03d}.png"  # of which none exists
        frame["mask_path"] = f"masks\\{i:03d}.png"
        Image.fromarray(np.full((HEIGHT, WIDTH), 255 * (i % 2), np.uint8)).save(root / "masks" / f"{i:03d}.png")
    (root / "transforms.json").write_text(json.dumps(content))
    scene = load_scene(root)
    check_cameras(scene, dict(zip(names(cameras), cameras)))
    assert [int(v.mask().max()) for v in scene.views] == [255 * (i % 2) for i in range(10)]


def write_blendernerf(root, cameras, alpha=False, scale=1.0):
    """What the add-on writes: instant-ngp's keys, an object's scale in the matrix, test cameras without pictures."""
    frames = []
    for i, camera in enumerate(cameras):
        write_picture(root / "train" / f"{i + 1:04d}.png", i, mode="RGBA" if alpha else "RGB")
        pose = camera.world_from_camera.numpy() @ np.diag([scale, -scale, -scale, 1])
        frames.append({"file_path": f"train\\{i + 1:04d}.png", "transform_matrix": pose.tolist()})
        frames[-1] |= {"rotation": 0.01} if scale == 1 else {}  # as scripts made after NeRF's do
    fx, fy, cx, cy = cameras[0].params.tolist()
    shared = {"camera_angle_x": 1.2, "camera_angle_y": 0.3, "fl_x": fx, "fl_y": fy, "k1": 0.0, "k2": 0.0, "p1": 0.0}
    shared |= {"p2": 0.0, "cx": cx, "cy": cy, "w": float(WIDTH), "h": float(HEIGHT), "aabb_scale": 4}
    (root / "transforms_train.json").write_text(json.dumps({**shared, "frames": frames}))
    test = [{**f, "file_path": f["file_path"].replace("train", "test")} for f in frames]
    (root / "transforms_test.json").write_text(json.dumps({**shared, "frames": test}))
    return root


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_blendernerf(tmp_path, scale):
    """Blender renders along the camera's axes however its object is scaled; the scene is where the cameras look."""
    cameras = ring("PINHOLE", (60.0, 61, 24, 18), count=12, centre=(20.0, -3, 1))
    write_blendernerf(tmp_path, cameras, scale=scale)
    colours = np.tile(np.array([[10, 20, 30, 255]], np.uint8), (300, 1))
    trimesh.PointCloud(cloud((20.0, -3, 1)), colours).export(tmp_path / "points3d.ply")
    scene = load_scene(tmp_path)
    check_cameras(scene, {f"train/{i + 1:04d}.png": c for i, c in enumerate(cameras)}, (20.0, -3, 1))
    assert any("transforms_test.json names no picture that exists" in n for n in scene.notes)
    assert (
        scene.unbounded
        and scene.background is None
        and {k: len(v) for k, v in scene.split.items()}
        == {
            "train": 10,
            "test": 2,
        }
    )
    s = scene.scene_from_capture.numpy()
    assert (np.abs(s[:3, :3] @ [20, -3, 1] + s[:3, 3]) < 0.2).all()
    assert len(scene.points[0]) == 300 and (scene.points[1] == [10, 20, 30]).all()
