"""Reconstructions without photos: COLMAP's synthetic cameras, points and what they see of each other."""

from __future__ import annotations

from pathlib import Path

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
