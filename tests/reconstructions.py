"""Reconstructions without photos: COLMAP's synthetic cameras, points and what they see of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap


def reconstruction(
    database: Path,
    photos: int = 12,
    lens: str = "SIMPLE_RADIAL",
    params: tuple = (900, 400, 300, 0.0),
    noise: float = 0.0,
) -> pycolmap.Reconstruction:
    """Cameras around a cloud of points, with every match in the database; noise: of what they see, in pixels."""
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = options.num_cameras_per_rig = 1
    options.num_frames_per_rig, options.num_points3D = photos, 150
    options.camera_width, options.camera_height = 800, 600
    options.camera_model_id = getattr(pycolmap.CameraModelId, lens)
    options.camera_params = list(params)
    disturbance = pycolmap.SyntheticNoiseOptions()
    disturbance.point2D_stddev = noise
    with pycolmap.Database.open(str(database)) as opened:
        model = pycolmap.synthesize_dataset(options, opened)
        if noise:
            pycolmap.synthesize_noise(disturbance, model, opened)
    return model


def without(model: pycolmap.Reconstruction, images: set[int]) -> pycolmap.Reconstruction:
    copy = pycolmap.Reconstruction(model)
    for i in images:
        copy.deregister_frame(copy.image(i).frame_id)
    return copy


def street(photos: int = 12, focal: float = 900.0) -> pycolmap.Reconstruction:
    """Cameras that only go forward between walls, ground and sky; what they see is 0.3 pixels off."""
    rng = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", focal, 800, 600)
    model.add_camera_with_trivial_rig(camera)
    side = rng.integers(4, size=400)
    xyz = np.stack([rng.uniform(-3, 3, 400), rng.uniform(-2, 2, 400), rng.uniform(8, 30, 400)], 1)
    xyz[:, 0] = np.where(side < 2, 6.0 * side - 3, xyz[:, 0])
    xyz[:, 1] = np.where(side > 1, 4.0 * side - 10, xyz[:, 1])
    tracks: list[list[tuple[int, int]]] = [[] for _ in xyz]
    for k in range(photos):
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), -np.array([0.02 * (-1) ** k, 0.01 * k, 0.5 * k]))
        xy = camera.img_from_cam(pose * xyz) + rng.normal(0, 0.3, (len(xyz), 2))
        seen = np.flatnonzero(((xy > 0) & (xy < (800, 600))).all(1))
        image = pycolmap.Image(f"{k:02d}.jpg", xy[seen], camera_id=1, image_id=k + 1)
        model.add_image_with_trivial_frame(image, pose)
        for number, i in enumerate(seen):
            tracks[i].append((k + 1, number))
    for point, track in zip(xyz, tracks):
        if len(track) >= 2:
            model.add_point3D(point, pycolmap.Track([pycolmap.TrackElement(*element) for element in track]))
    model.update_point_3d_errors()
    return model
