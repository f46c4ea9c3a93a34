"""Every reader on real data: what was read must agree with what the photos show."""

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from skimage.color import rgb2gray
from skimage.draw import polygon2mask
from skimage.feature import SIFT, match_descriptors

from neural3d.geometry.bounds import in_picture
from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.scene import Scene, View
from neural3d.scene.doctor import warnings

ALL = {
    "fox": ("transforms", "OPENCV", 50, 7),
    "plush_mit": ("colmap", "OPENCV", 93, 12),
    "nerf_synthetic_lego": ("blender", "PINHOLE", 100, 13),
    "synth_stool_cc0": ("blender", "PINHOLE", 70, 15),
    "middlebury_templeSparseRing": ("middlebury", "PINHOLE", 16, 2),
    "dtu_scan24_monosdf": ("idr", "PINHOLE", 49, 7),
}


@pytest.mark.parametrize("name", ALL)
def test_what_is_read(data_dir, name):
    reader, model, views, held_out = ALL[name]
    scene = load_scene(data_dir / name, downscale=2)
    assert (scene.reader, len(scene.views), len(scene.split["test"])) == (reader, views, held_out)
    assert {v.camera.model for v in scene.views} == {model}
    image = scene.views[-1].image()
    camera = scene.views[-1].camera
    assert image.shape == (camera.height, camera.width, 4 if reader == "blender" else 3)
    assert scene.unbounded == (reader in ("transforms", "colmap", "idr"))
    assert scene.background == {"blender": "white", "middlebury": "black"}.get(reader)
    distances = torch.stack([v.camera.centre.norm() for v in scene.views])
    assert distances.min() > 1 and distances.max() < 7  # cameras surround the cube and are a few units away
    assert not set(scene.split["train"]) & set(scene.split["test"])


@pytest.mark.parametrize("name", ["fox", "plush_mit"])
@pytest.mark.parametrize("downscale", [1, 4])
def test_points_lie_where_they_were_observed(data_dir, name, downscale):
    """pycolmap reads the tracks and projects; our cameras, turned, scaled and reduced, must agree with both."""
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap reads the tracks")
    scene = load_scene(data_dir / name, downscale=downscale)
    model = pycolmap.Reconstruction(data_dir / name / "sparse" / "0")
    points = {i: p.xyz for i, p in model.points3D.items()}
    s, views = scene.scene_from_capture, {v.name: v for v in scene.views}
    errors, differences = [], []
    for image in model.images.values():
        seen = [p for p in image.points2D if p.has_point3D()]
        xyz = np.array([points[p.point3D_id] for p in seen])
        xy, z = views[image.name].camera.project(torch.from_numpy(xyz) @ s[:3, :3].T + s[:3, 3])
        assert (z > 0).all()
        xy = downscale * xy.numpy()
        errors.append(np.linalg.norm(xy - [p.xy for p in seen], axis=1))
        theirs = model.cameras[image.camera_id].img_from_cam(image.cam_from_world() * xyz)
        differences.append(np.linalg.norm(xy - theirs, axis=1))
    assert np.concatenate(errors).mean() < 1
    assert np.concatenate(differences).max() < 1e-3
    assert len(scene.points[0]) == len(points)


@pytest.mark.parametrize("name", ["fox", "plush_mit"])
def test_region_of_interest_is_the_subject(data_dir, name):
    """Some of the points, not most of the room; seen by nearly all cameras; and +z is up: cameras are level."""
    scene = load_scene(data_dir / name)
    points = torch.from_numpy(scene.points[0])
    share = ((points > scene.aabb[0]) & (points < scene.aabb[1])).all(-1).double().mean()
    assert 0.2 < share < 0.8
    seen = [in_picture(v.camera, torch.zeros(1, 3).double())[0].item() for v in scene.views]
    assert np.mean(seen) > 0.9
    axes = torch.stack([v.camera.world_from_camera[:3, :3] for v in scene.views])
    assert axes[:, 2, 0].abs().median() < np.sin(np.radians(10)) and axes[:, 2, 1].mean() < -0.5


@pytest.mark.parametrize("name", ["nerf_synthetic_lego", "synth_stool_cc0"])
def test_silhouettes_agree(data_dir, name):
    """The visual hull of training views covers the alpha of held-out views: wrong poses would carve it away."""
    scene = load_scene(data_dir / name, downscale=4)
    steps = torch.linspace(-1, 1, 65).double()
    grid = torch.cartesian_prod(steps, steps, steps)
    grid = grid[((grid >= scene.aabb[0]) & (grid <= scene.aabb[1])).all(-1)]
    kept = torch.ones(len(grid), dtype=torch.bool)
    for i in scene.split["train"][::3]:
        kept &= ~(look_up(scene.views[i], grid) < 1)
    hull = grid[kept]
    for i in scene.split["test"][::4]:
        camera = scene.views[i].camera
        covered = np.zeros((camera.height, camera.width), bool)
        x, y = camera.project(hull)[0].long().T.clamp(0, 99)
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):  # cells are about 1.5 pixels wide
                covered[(y + dy).clamp(0, 99), (x + dx).clamp(0, 99)] = True
        opaque = scene.views[i].image()[..., 3] > 250
        assert covered[opaque].mean() > 0.98
    assert len(hull) < 0.35 * len(grid)  # and the hull is no mere box


def look_up(view: View, points: torch.Tensor) -> torch.Tensor:
    """The largest alpha within a pixel of where points appear; 255 outside the picture."""
    inside, xy, _ = in_picture(view.camera, points)
    alpha = torch.from_numpy(view.image()[..., 3].astype(np.float32))[None, None]
    wide = torch.nn.functional.max_pool2d(alpha, 3, 1, 1)[0, 0]
    x, y = torch.where(inside, xy.T, 0).long()
    return torch.where(inside, wide[y, x], 255.0)


def test_stool_mesh_and_depth(data_dir):
    """Ground truth: mesh vertices fall on opaque pixels; depth along our rays lands on the mesh."""
    import trimesh

    root = data_dir / "synth_stool_cc0"
    scene = load_scene(root)
    s = scene.scene_from_capture
    mesh = trimesh.load(root / "gt_mesh.ply", process=False)
    vertices = torch.from_numpy(np.asarray(mesh.vertices)) @ s[:3, :3].T + s[:3, 3]
    assert (vertices >= scene.aabb[0]).all() and (vertices <= scene.aabb[1]).all()
    assert (vertices.abs().amax(0) > 0.8 * scene.aabb[1]).all()  # the bounds hug it
    for i in scene.split["train"][::10]:
        assert (look_up(scene.views[i], vertices) > 128).double().mean() > 0.99
    truth = trimesh.Trimesh(vertices.numpy(), mesh.faces, process=False)
    for number in (0, 8):
        view = next(v for v in scene.views if v.name == f"test/r_{number}.png")
        depth = torch.from_numpy(np.load(root / "test" / f"r_{number}_gt.npz")["depth"].astype(np.float64))
        origins, directions = view.camera.rays()
        hits = (origins + directions * (depth * torch.linalg.det(s[:3, :3]) ** (1 / 3))[..., None])[depth > 0]
        hits = hits[:: len(hits) // 100].double().numpy()
        _, distance, _ = trimesh.proximity.closest_point_naive(truth, hits)
        assert np.median(distance) < 2e-3  # float16 depths at 4 units are good to 2e-3


def matches(a: View, b: View) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (M, 2) of SIFT features that match in both photos."""
    features = []
    for view in (a, b):
        sift = SIFT(upsampling=1)
        sift.detect_and_extract(rgb2gray(view.image()))
        features.append((torch.from_numpy(sift.keypoints[:, ::-1] + 0.5), sift.descriptors))
    pairs = match_descriptors(features[0][1], features[1][1], max_ratio=0.7, cross_check=True)
    return features[0][0][pairs[:, 0]], features[1][0][pairs[:, 1]]


def epipolar_distance(a: Camera, b: Camera, xa: torch.Tensor, xb: torch.Tensor) -> torch.Tensor:
    """Distance in pixels of xb from the images of the rays through xa."""
    origins, directions = (t.double() for t in a.rays(xa))
    near, _ = b.project(origins + 2 * directions)
    far, _ = b.project(origins + 8 * directions)
    along = (far - near) / (far - near).norm(dim=-1, keepdim=True)
    offset = xb - near
    return (offset[:, 0] * along[:, 1] - offset[:, 1] * along[:, 0]).abs()


@pytest.mark.parametrize("name,pair", [("middlebury_templeSparseRing", (5, 6)), ("dtu_scan24_monosdf", (30, 31))])
def test_matches_lie_on_epipolar_lines(data_dir, name, pair):
    """Cameras read from matrices against the photos themselves; a wrong crop or axis puts matches far off."""
    scene: Scene = load_scene(data_dir / name)
    a, b = (scene.views[i] for i in pair)
    xa, xb = matches(a, b)
    distance = epipolar_distance(a.camera, b.camera, xa, xb)
    assert len(distance) > 40 and (distance < 1).double().mean() > 0.6 and distance.median() < 0.8
    off = b.camera.resized(b.camera.width + 6, b.camera.height + 6)  # the test can tell a crop wrong by 3 pixels
    assert epipolar_distance(a.camera, off, xa, xb).median() > 1.5


def test_temple_is_in_its_box(data_dir):
    """The box of README.txt projects into every photo, and what is bright lies inside its outline."""

    scene = load_scene(data_dir / "middlebury_templeSparseRing")
    for view in scene.views:
        xy, _ = view.camera.project(torch.cartesian_prod(*scene.aabb.T.double()))
        assert (xy > 0).all() and (xy < torch.tensor([640, 480])).all()
        outline = xy.numpy()[ConvexHull(xy.numpy()).vertices]
        inside = polygon2mask((480, 640), outline[:, ::-1])
        bright = view.image().mean(-1) > 100
        assert inside[bright].mean() > 0.98


def test_dtu_decides_the_crop_by_itself(data_dir):
    """Principal points outside the 384² photos and DTU's focal length: the central 1200² of 1600×1200, and said."""
    scene = load_scene(data_dir / "dtu_scan24_monosdf")
    assert any("1600×1200" in note for note in scene.notes)
    centres = torch.stack([v.camera.params[2:] for v in scene.views])
    assert (centres - 192).abs().max() < 20
    told = load_scene(data_dir / "dtu_scan24_monosdf", calibration_size=[1600, 1200])
    torch.testing.assert_close(told.views[7].camera.params, scene.views[7].camera.params)


@pytest.mark.parametrize("name", ALL)
def test_doctor_finds_real_captures_healthy(data_dir, name):
    said = warnings(load_scene(data_dir / name))
    expected = 2 if name == "middlebury_templeSparseRing" else 0  # 14 views; photos 1 and 11 do share a pose
    assert len(said) == expected, said
