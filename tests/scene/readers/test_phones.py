"""Captures of phones' apps, written here in each layout from known cameras: points of the world land on the pixels."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from captures import HEIGHT, WIDTH, cloud, quaternion, ring, write_picture
from PIL import Image
from scipy.spatial.transform import Rotation

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera, pixel_centres
from neural3d.loading import load_scene
from neural3d.render.images import save_film
from neural3d.scene.doctor import describe
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers import open_capture

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
CENTRE = (1.0, -0.5, 2.0)


def arkit_ring(count=10, size=(WIDTH, HEIGHT)):
    """Cameras all around, level with respect to +y; each with a lens of its own, as autofocus makes them."""
    cameras = ring(count=count, centre=CENTRE, up=(0, 1, 0), radius=3.0)
    return [
        Camera("PINHOLE", *size, torch.tensor([60.0 + 0.1 * i, 61 + 0.1 * i, 25, 17]), c.world_from_camera)
        for i, c in enumerate(cameras)
    ]


def check(scene, truth):
    """By photo: points known in the world are where the true camera sees them, at the true depth."""
    points = torch.from_numpy(cloud(CENTRE))
    s = scene.scene_from_capture
    assert len(scene.views) == len(truth)
    for view in scene.views:
        xy, z = truth[view.image_path.name].project(points)
        seen, depth = view.camera.project(points @ s[:3, :3].T + s[:3, 3])
        torch.testing.assert_close(seen, xy, atol=1e-4, rtol=0)
        torch.testing.assert_close(depth, z * torch.linalg.det(s[:3, :3]) ** (1 / 3), rtol=1e-5, atol=0)


def up_is(scene, axis):
    turned = scene.scene_from_capture[:3, :3] @ torch.tensor(axis, dtype=torch.float64)
    torch.testing.assert_close(turned / turned.norm(), torch.tensor([0.0, 0, 1]).double(), atol=1e-6, rtol=0)


def opengl_pose(camera):
    return camera.world_from_camera.numpy() @ OPENGL


def sphere_depth(camera, size, radius=0.8, centre=CENTRE):
    """z in millimetres of a ball, 0 beside it, in a depth picture of a smaller size."""
    small = camera.resized(*size)
    o, d = (x.double() for x in small.rays(pixel_centres(*size)))
    offset = torch.tensor(centre).double() - o
    along = (offset * d).sum(-1)
    gap = radius**2 - (offset.norm(dim=-1) ** 2 - along**2)
    t = along - gap.clamp(min=0).sqrt()
    return torch.where(gap > 0, 1000 * t * (d @ small.forward), 0.0).round().numpy().astype(np.uint16)


def check_points(scene, radius=0.8, centre=CENTRE):
    """They lie on the ball, as well as whole millimetres allow."""
    inverse = torch.linalg.inv(scene.scene_from_capture).numpy()
    places = scene.points[0] @ inverse[:3, :3].T + inverse[:3, 3]
    distances = np.linalg.norm(places - centre, axis=1)
    assert len(places) > 100 and np.abs(distances - radius).max() < 0.003


def write_polycam(root, cameras, kind="corrected_", depth=True):
    for i, camera in enumerate(cameras):
        name, keyframes = f"{1000 + i}", root / "keyframes"
        write_picture(keyframes / f"{kind}images" / f"{name}.jpg", i)
        (keyframes / f"{kind}cameras").mkdir(parents=True, exist_ok=True)
        pose = opengl_pose(camera)
        entry = {f"t_{row}{column}": pose[row, column] for row in range(3) for column in range(4)}
        entry |= dict(zip(("fx", "fy", "cx", "cy"), camera.params.tolist()))
        entry |= {"width": WIDTH, "height": HEIGHT, "blur_score": 100.0, "timestamp": 1000 + i}
        (keyframes / f"{kind}cameras" / f"{name}.json").write_text(json.dumps(entry))
        if depth:
            for folder, pixels in (("depth", sphere_depth(camera, (24, 18))), ("confidence", confident((24, 18)))):
                (keyframes / folder).mkdir(exist_ok=True)
                Image.fromarray(pixels).save(keyframes / folder / f"{name}.png")
    return root


def confident(size):
    return np.full(size[::-1], 255, np.uint8)


@pytest.mark.parametrize("kind", ["corrected_", ""])
def test_polycam(tmp_path, kind):
    cameras = arkit_ring()
    write_polycam(tmp_path, cameras, kind)
    for path in (tmp_path, tmp_path / "keyframes"):
        scene = load_scene(path)
        check(scene, {f"{1000 + i}.jpg": c for i, c in enumerate(cameras)})
    up_is(scene, (0, 1, 0))
    check_points(scene)
    assert dict(describe(scene))["read as"] == "polycam: Polycam, raw export"
    assert any("ARKit's: Polycam has not optimised" in n for n in scene.notes) == (kind == "")


def test_polycam_takes_corrected_cameras_where_there_are_any(tmp_path):
    """ARKit's own drifted by a metre; photos that were thrown away are left out."""
    cameras = arkit_ring()
    write_polycam(tmp_path, cameras)
    drifted = torch.eye(4, dtype=torch.float64)
    drifted[0, 3] = 1
    write_polycam(tmp_path, [c.moved(drifted) for c in cameras], kind="", depth=False)
    (tmp_path / "keyframes/corrected_images/1003.jpg").unlink()
    scene = load_scene(tmp_path)
    check(scene, {f"{1000 + i}.jpg": c for i, c in enumerate(cameras) if i != 3})
    assert any("1 of 10 cameras have no photo" in n for n in scene.notes)
    shutil.rmtree(tmp_path / "keyframes/corrected_images")  # then the photos as taken, with the better poses
    check(load_scene(tmp_path), {f"{1000 + i}.jpg": c for i, c in enumerate(cameras)})


def write_scanner3d(root, cameras):
    """Every third frame has a photo, as the app has it."""
    for i in range(3 * len(cameras)):
        camera, name = cameras[i // 3], f"{i:05d}"
        fx, fy, cx, cy = camera.params.tolist()
        entry = {
            "intrinsics": [fx, 0, cx - 0.5, 0, fy, cy - 0.5, 0, 0, 1],
            "cameraPoseARFrame": opengl_pose(camera).ravel().tolist(), "frame_index": i,
        }  # fmt: skip
        root.mkdir(exist_ok=True)
        (root / f"frame_{name}.json").write_text(json.dumps(entry))
        Image.fromarray(sphere_depth(camera, (24, 18))).save(root / f"depth_{name}.png")
        Image.fromarray(np.full((18, 24), 2, np.uint8)).save(root / f"conf_{name}.png")
        if i % 3 == 0:
            write_picture(root / f"frame_{name}.jpg", i)
    return root


def test_scanner3d(tmp_path):
    """Also, the photo's middle is where ARKit's `projectionMatrix` has it: half a pixel from its `intrinsics`."""
    cameras = arkit_ring()
    scene = load_scene(write_scanner3d(tmp_path / "scan", cameras))
    check(scene, {f"frame_{3 * i:05d}.jpg": c for i, c in enumerate(cameras)})
    up_is(scene, (0, 1, 0))
    check_points(scene)
    assert scene.reader == "scanner3d"


def test_depth_that_is_not_sure_is_no_point(tmp_path):
    root = write_scanner3d(tmp_path / "scan", arkit_ring())
    for path in root.glob("conf_*.png"):
        pixels = np.full((18, 24), 2, np.uint8)
        pixels[:, 12:] = 1
        Image.fromarray(pixels).save(path)
        depth = np.array(Image.open(root / path.name.replace("conf", "depth")))
        depth[:, 12:] += 500  # what is not sure is wrong
        Image.fromarray(depth).save(root / path.name.replace("conf", "depth"))
    check_points(load_scene(root))


def write_record3d(root, cameras, layout="rgbd", per_frame=True, size=(WIDTH, HEIGHT)):
    poses = []
    for i, camera in enumerate(cameras):
        write_picture(root / ("rgb" if layout == "rgb" else "rgbd") / f"{i}.jpg", i, size)
        pose = opengl_pose(camera)
        w, x, y, z = quaternion(pose[:3, :3])
        poses.append([x, y, z, w, *pose[:3, 3]])
    fx, fy, cx, cy = cameras[0].params.tolist()
    metadata = {"w": size[0], "h": size[1], "fps": 60, "K": [fx, 0, 0, 0, fy, 0, cx, cy, 1], "poses": poses}
    if per_frame:
        metadata["perFrameIntrinsicCoeffs"] = [c.params.tolist() for c in cameras]
    (root / ("metadata" if layout == "rgbd" else "metadata.json")).write_text(json.dumps(metadata))
    return root


@pytest.mark.parametrize("layout", ["rgbd", "rgb"])
def test_record3d(tmp_path, layout):
    cameras = arkit_ring(count=12)
    scene = load_scene(write_record3d(tmp_path, cameras, layout))
    check(scene, {f"{i}.jpg": c for i, c in enumerate(cameras)})
    assert [v.name for v in scene.views][-1] == "00011.jpg" and scene.reader == "record3d"
    up_is(scene, (0, 1, 0))  # which the level cameras tell


def test_record3d_portrait_with_one_lens(tmp_path):
    cameras = [
        Camera("PINHOLE", HEIGHT, WIDTH, torch.tensor([60.0, 61, 17, 25]), c.world_from_camera) for c in arkit_ring()
    ]
    write_record3d(tmp_path, cameras, per_frame=False, size=(HEIGHT, WIDTH))
    check(load_scene(tmp_path), {f"{i}.jpg": c for i, c in enumerate(cameras)})


def zipped(folder, file):
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
        archive.writestr("rgbd/0.depth", b"\0" * 100)
    return file


def test_record3d_as_it_is_shared(tmp_path):
    """The zip's photos and metadata are unpacked beside it, once; what lies there of another film is kept."""
    cameras = arkit_ring()
    file = zipped(write_record3d(tmp_path / "in", cameras), tmp_path / "film.r3d")
    for _ in range(2):
        scene = load_scene(file)
        check(scene, {f"{i}.jpg": c for i, c in enumerate(cameras)})
    assert sorted(p.name for p in (tmp_path / "film-r3d").iterdir()) == ["metadata", "rgbd"]
    assert not (tmp_path / "film-r3d/rgbd/0.depth").exists() and not list(tmp_path.glob("*.partial"))
    (tmp_path / "film-r3d/metadata").write_text("mine")
    with pytest.raises(UserError, match=r"film-r3d exists and is not of film\.r3d"):
        load_scene(file)
    assert (tmp_path / "film-r3d/metadata").read_text() == "mine"
    (tmp_path / "red.r3d").write_bytes(b"RED1" * 100)
    with pytest.raises(UserError, match=r"red\.r3d is no capture"):
        load_scene(tmp_path / "red.r3d")


def test_long_films_are_thinned(tmp_path):
    cameras = arkit_ring(count=10)
    write_record3d(tmp_path, [cameras[0]] * 700)
    scene = load_scene(tmp_path)
    assert len(scene.views) == 234 and any("Of 700 frames of the film, 234 are taken" in n for n in scene.notes)


def edit(path, **changes):
    content = json.loads(path.read_text())
    for key, value in changes.items():
        content.pop(key) if value is None else content.update({key: value})
    path.write_text(json.dumps(content))


POLYCAM, SCANNER, RECORD = "keyframes/corrected_cameras/1002.json", "frame_00003.json", "metadata"
DAMAGE = {
    "no pose": (write_polycam, POLYCAM, {"t_11": None}, r"1002\.json: 't_11' must be a finite number"),
    "focal length of words": (write_polycam, POLYCAM, {"fx": "wide"}, r"1002\.json: 'fx' must be a finite number"),
    "no focal length": (write_polycam, POLYCAM, {"fx": 0}, r"1002\.json: 'fx'.* must be positive"),
    "sheared": (write_polycam, POLYCAM, {"t_11": 3.0}, r"1002\.json: the pose's rotation is sheared"),
    "another size": (write_polycam, POLYCAM, {"width": 50}, r"1002\.jpg is 48×36 but .*1002\.json describes 50×36"),
    "short matrix": (write_scanner3d, SCANNER, {"cameraPoseARFrame": [1, 2]}, r"00003\.json: a matrix of 4 × 4"),
    "no intrinsics": (write_scanner3d, SCANNER, {"intrinsics": None}, r"00003\.json: a matrix of 3 × 3 numbers"),
    "no rotation": (write_record3d, RECORD, {"poses": [[0] * 7] * 10}, r"'poses' holds a rotation of nothing"),
    "poses cut": (write_record3d, RECORD, {"poses": [[0, 0, 0, 1, 0, 0]] * 10}, r"'poses' must be rows of 7"),
    "fewer lenses": (write_record3d, RECORD, {"perFrameIntrinsicCoeffs": [[9, 9, 9, 9]]}, r"10 poses need as many"),
    "no size": (write_record3d, RECORD, {"w": None}, r"metadata: 'w' must be rows of 1"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(tmp_path, damage):
    write, name, changes, message = DAMAGE[damage]
    edit(write(tmp_path, arkit_ring()) / name, **changes)
    with pytest.raises(UserError, match=message):
        load_scene(tmp_path)


def test_photos_that_are_all_gone(tmp_path):
    root = write_scanner3d(tmp_path / "scan", arkit_ring(2))
    for photo in root.glob("*.jpg"):
        photo.unlink()
    with pytest.raises(UserError, match="holds no photos"):
        load_scene(root)


def test_other_folders_are_not_taken_for_these(tmp_path):
    """Names alone decide nothing: another program's frame_00000.json, a metadata.json beside rgb/."""
    (tmp_path / "frame_00000.json").write_text("{}")
    (tmp_path / "metadata.json").write_text('{"poses": []}')
    write_picture(tmp_path / "rgb" / "0.jpg")
    with pytest.raises(UserError, match="one photo only"):
        load_scene(tmp_path)


FILM = (64, 48)


def write_stray(root, cameras, own=True):
    """A film of as many frames, and a line for each; `own` intrinsics as later versions write them."""
    (root / "depth").mkdir(parents=True)
    (root / "confidence").mkdir()
    rng = np.random.default_rng(0)
    save_film(root / "rgb.mp4", [rng.integers(0, 256, (FILM[1], FILM[0], 3), np.uint8) for _ in cameras])
    fx, fy, cx, cy = cameras[0].params.tolist()
    (root / "camera_matrix.csv").write_text(f"{fx}, 0.0, {cx - 0.5}\n0.0, {fy}, {cy - 0.5}\n0.0, 0.0, 1.0\n")
    names = ", fx, fy, cx, cy, distortion_center_x, distortion_center_y" if own else ""
    lines = [f"timestamp, frame, x, y, z, qx, qy, qz, qw{names}"]
    for i, camera in enumerate(cameras):
        w, x, y, z = quaternion(camera.world_from_camera[:3, :3].numpy()).tolist()
        fx, fy, cx, cy = camera.params.tolist()
        more = f", {fx}, {fy}, {cx - 0.5}, {cy - 0.5}, , " if own else ""
        place = ", ".join(repr(v) for v in camera.centre.tolist())
        lines.append(f"{100 + i / 60}, {i:06d}, {place}, {x!r}, {y!r}, {z!r}, {w!r}{more}")
        Image.fromarray(sphere_depth(camera, (32, 24))).save(root / "depth" / f"{i:06d}.png")
        Image.fromarray(np.full((24, 32), 2, np.uint8)).save(root / "confidence" / f"{i:06d}.png")
    (root / "odometry.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("own", [True, False])
def test_stray(tmp_path, own):
    cameras = arkit_ring(count=8, size=FILM)
    if not own:
        cameras = [Camera("PINHOLE", *FILM, cameras[0].params, c.world_from_camera) for c in cameras]
    write_stray(tmp_path, cameras, own)
    truth = {f"frame_{i:06d}.jpg": c for i, c in enumerate(cameras)}
    scene = load_scene(tmp_path)
    check(scene, truth)
    up_is(scene, (0, 1, 0))
    check_points(scene)
    assert dict(describe(scene))["read as"] == "stray: Stray Scanner"
    assert any("8 sharp frames of rgb.mp4 were written into rgb-frames" in note for note in scene.notes)
    (tmp_path / "rgb.mp4").write_bytes(b"")  # not decoded a second time
    check(load_scene(tmp_path), truth)


def test_stray_without_a_pose_for_any_frame(tmp_path):
    write_stray(tmp_path, arkit_ring(count=4, size=FILM))
    lines = (tmp_path / "odometry.csv").read_text().splitlines()
    (tmp_path / "odometry.csv").write_text(lines[0] + "\n")
    with pytest.raises(UserError, match=r"odometry\.csv has no pose for any frame of rgb\.mp4"):
        load_scene(tmp_path)


def write_arkitscenes(root, cameras, between=False):
    """Poses a tenth of a second apart, and a photo at each; `between`: only every second photo has a pose."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, camera in enumerate(cameras):
        seconds = f"{1000 + i / 10:.3f}"
        turn = Rotation.from_matrix(camera.world_from_camera[:3, :3].numpy().T)
        place = -turn.as_matrix() @ camera.centre.numpy()
        if not (between and i % 2):
            lines.append(" ".join(map(repr, [float(seconds), *turn.as_rotvec().tolist(), *place.tolist()])))
        write_picture(root / "lowres_wide" / f"41_{seconds}.png", i)
        fx, fy, cx, cy = camera.params.tolist()
        off = 0.5 * WIDTH / 1920
        (root / "lowres_wide_intrinsics").mkdir(exist_ok=True)
        (root / "lowres_wide_intrinsics" / f"41_{seconds}.pincam").write_text(
            f"{WIDTH} {HEIGHT} {fx!r} {fy!r} {cx - off!r} {cy - off!r}\n"
        )
        depth = sphere_depth(camera, (24, 18), centre=TURNED)
        for folder, pixels in (("lowres_depth", depth), ("confidence", confident((24, 18)))):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"41_{seconds}.png")
    (root / "lowres_wide.traj").write_text("\n".join(lines) + "\n")
    return root


TURNED = (1.0, -2.0, -0.5)  # CENTRE, once +z is up


def turned_ring(count):
    """As `arkit_ring`, but +z is up; and the turn."""
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    return [camera.moved(turn) for camera in arkit_ring(count)], turn


@pytest.mark.parametrize("inside", ["", "41_frames"])
def test_arkitscenes(tmp_path, inside):
    cameras, turn = turned_ring(10)
    write_arkitscenes(tmp_path / inside, cameras)
    scene = load_scene(tmp_path)
    up_is(scene, (0, 0, 1))
    assert dict(describe(scene))["read as"] == "arkitscenes: ARKitScenes, raw or 3DOD" and len(scene.views) == 10
    points = torch.from_numpy(cloud(CENTRE)) @ turn[:3, :3].T
    s = scene.scene_from_capture
    for view, camera in zip(scene.views, cameras):
        seen, _ = view.camera.project(points @ s[:3, :3].T + s[:3, 3])
        torch.testing.assert_close(seen, camera.project(points)[0], atol=1e-4, rtol=0)
    check_points(scene, centre=TURNED)


def test_arkitscenes_places_photos_between_poses(tmp_path):
    """Where a camera that turns and walks evenly was; what is after the last pose is left out."""
    cameras = []
    for i in range(8):
        pose = torch.eye(4, dtype=torch.float64)
        turn = Rotation.from_euler("xyz", [-90, 0, 10 * i], degrees=True)
        pose[:3, :3], pose[:3, 3] = torch.from_numpy(turn.as_matrix()), torch.tensor([0.1 * i, 0.2 * i, 1.5])
        cameras.append(Camera("PINHOLE", WIDTH, HEIGHT, torch.tensor([60.0, 61, 25, 17]), pose))
    write_arkitscenes(tmp_path, cameras, between=True)
    capture = open_capture(tmp_path, SceneOptions())
    assert len(capture.frames) == 7 and any("1 of 8 photos have no pose" in note for note in capture.notes)
    for frame, camera in zip(capture.frames, cameras):
        torch.testing.assert_close(frame.camera.world_from_camera, camera.world_from_camera, atol=1e-7, rtol=0)
