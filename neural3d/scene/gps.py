"""Scale and up of a COLMAP model from where its photos' GPS says they stood.

Run as a program it aligns a model (see `align`): in a process of its own, as all that COLMAP does (see sfm/worker).
Imports nothing of neural3d, so that it starts at once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NOISE = 10.0  # metres by which a phone's position may be off; what spreads less says nothing
CERTAIN = 0.05  # standard error of the scale, and of up in radians (3°), from which GPS knows better than the photos do
AXIS, SQUASHED = 6378137.0, 0.0066943799901413165  # WGS 84: half the equator's diameter (m), eccentricity squared


def enu(places: Sequence[Sequence[float]]) -> np.ndarray:
    """Metres (n, 3) east, north and up of the median of places (latitude, longitude in degrees, altitude in metres).

    By way of WGS 84's earth-centred axes: with N = a / √(1 − e² sin²φ) a place is at ((N+h) cos φ cos λ,
    (N+h) cos φ sin λ, (N (1−e²) + h) sin φ), and east, north, up are the tangents there.
    """

    def centred(latitude: Any, longitude: Any, height: Any) -> np.ndarray:
        n = AXIS / np.sqrt(1 - SQUASHED * np.sin(latitude) ** 2)
        x, y = ((n + height) * np.cos(latitude) * f(longitude) for f in (np.cos, np.sin))
        return np.stack([x, y, (n * (1 - SQUASHED) + height) * np.sin(latitude)], -1)

    given = np.asarray(places, np.float64) * [np.pi / 180, np.pi / 180, 1]
    origin = np.median(given, axis=0)
    return (centred(*given.T) - centred(*origin)) @ axes_at(*origin[:2]).T


def axes_at(latitude: float, longitude: float) -> np.ndarray:
    """East, north and up, the rows, in WGS 84's earth-centred axes; angles in radians."""
    (sin_lat, sin_lon), (cos_lat, cos_lon) = (f([latitude, longitude]) for f in (np.sin, np.cos))
    east, north = [-sin_lon, cos_lon, 0], [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat]
    return np.array([east, north, [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat]])


def place_of(centred: np.ndarray) -> tuple[float, float, float]:
    """Latitude, longitude in degrees and altitude in metres of an earth-centred point (Bowring 1976: to 10⁻⁷ m)."""
    x, y, z = centred
    across, shorter = np.hypot(x, y), AXIS * np.sqrt(1 - SQUASHED)
    angle = np.arctan2(z * AXIS, across * shorter)
    rise = z + SQUASHED / (1 - SQUASHED) * shorter * np.sin(angle) ** 3
    latitude = np.arctan2(rise, across - SQUASHED * AXIS * np.cos(angle) ** 3)
    height = across * np.cos(latitude) + z * np.sin(latitude) - AXIS * np.sqrt(1 - SQUASHED * np.sin(latitude) ** 2)
    return float(np.degrees(latitude)), float(np.degrees(np.arctan2(y, x))), float(height)


def spread(positions: np.ndarray) -> float:
    """Metres across the middle half of positions (n, 3)."""
    return float(2 * np.median(np.linalg.norm(positions - np.median(positions, axis=0), axis=1)))


def align(model: Path, places: Mapping[str, Sequence[float]]) -> str | None:
    """Moves a model, in place, to metres with x east, y north and z up; what that rests on, as a sentence.

    places: as in CameraGroup. None, and the model stays as it is, where GPS does not determine scale and up to within
    CERTAIN: fewer than three photos, too near each other for its noise, in one line, or at odds with the model.
    Raises DiskFull, and the model stays as it is, where COLMAP, which does not say so, had no room to write.
    """
    if len(places) < 3 or spread(positions := enu(list(places.values()))) < NOISE:
        return None
    from neural3d.disk import no_room  # not where this runs as a program

    part = model.with_name(f".{model.name}.part")
    part.mkdir(exist_ok=True)
    try:
        job = {"model": str(model), "out": str(part), "names": list(places), "positions": positions.tolist()}
        worker = subprocess.run(
            [sys.executable, "-P", __file__], input=json.dumps(job), capture_output=True, text=True, check=False
        )
        found = json.loads(worker.stdout or "null") if worker.returncode == 0 else None
        if found:
            sizes = {file.name: file.stat().st_size for file in model.iterdir()}
            if any(file.stat().st_size < sizes.get(file.name, 0) for file in part.iterdir()):
                raise no_room(model, sum(sizes.values()))
            for file in part.iterdir():
                file.replace(model / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return found and f"scale and up from the GPS of {found['photos']} photos, residual {found['residual']:.1f} m"


def main() -> None:
    import pycolmap

    job = json.loads(sys.stdin.read())
    model = pycolmap.Reconstruction(job["model"])
    options = pycolmap.RANSACOptions()
    options.max_error = NOISE
    moved = pycolmap.align_reconstruction_to_locations(model, job["names"], np.array(job["positions"]), 3, options)
    if moved is None:
        return
    model.transform(moved)
    centres = {model.image(i).name: model.image(i).projection_center() for i in model.reg_image_ids()}
    pairs = [(centres[name], place) for name, place in zip(job["names"], job["positions"]) if name in centres]
    found, told = np.array(pairs).swapaxes(0, 1)
    errors = np.linalg.norm(found - told, axis=1)
    agree = errors < NOISE
    if (residual := significant(found[agree], errors[agree])) is None or agree.mean() < 0.5:
        return
    model.write(job["out"])
    print(json.dumps({"photos": int(agree.sum()), "residual": residual}))


def significant(positions: np.ndarray, errors: np.ndarray) -> float | None:
    """The residual: root mean square of the errors (n,) in metres, for n positions (n, 3); None: it is too large.

    A similarity takes 7 of their 3 n numbers. Where they spread by σ along their second axis, √n of them at once fix
    the scale, and the tilt about the first axis, to residual / (σ √n).
    """
    if (n := len(positions)) < 3:
        return None
    residual = float(np.sqrt((errors**2).sum() * 3 / (3 * n - 7)))
    second = np.linalg.svd(positions - positions.mean(0), compute_uv=False)[1] / np.sqrt(n)
    return residual if residual < CERTAIN * second * np.sqrt(n) else None


if __name__ == "__main__":
    main()
