"""What EXIF says of a photo: which camera and lens, its focal length in pixels, exposure, and where it stood (GPS).

Exchangeable image file format (CIPA DC-008); its numbers come from cameras, phones and whatever edited the file since,
so that each is checked before it is believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

MAKE, MODEL, ORIENTATION, EXIF, GPS = 0x010F, 0x0110, 0x0112, 0x8769, 0x8825  # the last two hold tags of their own
EXPOSURE_TIME, F_NUMBER, ISO, FOCAL, MAKER_NOTE = 0x829A, 0x829D, 0x8827, 0x920A, 0x927C
WIDTH, HEIGHT, PLANE_RESOLUTION, PLANE_UNIT, FOCAL_35MM, LENS = 0xA002, 0xA003, 0xA20E, 0xA210, 0xA405, 0xA434
LATITUDE, LONGITUDE, ALTITUDE = (1, 2), (3, 4), (5, 6)  # each with its reference (N or S, E or W, below the sea) first

FILM_DIAGONAL = math.hypot(36, 24)  # mm: what "35 mm equivalent" compares diagonals with
UNITS = {2: 25.4, 3: 10.0, 4: 1.0}  # mm in FocalPlaneResolutionUnit
PLAUSIBLE = (0.3, 20.0)  # focal length by the picture's longer side: from the widest lenses to a long telephoto
SAME_SHAPE = 0.02  # by which two aspect ratios may differ for rounding, or rows that a camera trims
AGREE = 1.3  # factor between the two focal lengths beyond which one of them must be wrong


@dataclass(frozen=True)
class Shot:
    """camera: make and model. focal, focal_35mm: in mm, as taken and on 36 × 24 mm film. focal_pixels: of this file.

    ev: log2(N²/t · 100/ISO), the light that the exposure was set for. place: latitude and longitude in degrees and the
    altitude in metres (WGS 84). Each None where nothing believable is said.
    """

    camera: str | None = None
    lens: str | None = None
    focal: float | None = None
    focal_35mm: float | None = None
    focal_pixels: float | None = None
    ev: float | None = None
    place: tuple[float, float, float] | None = None


def read_shot(exif: Image.Exif, size: tuple[int, int]) -> Shot:
    """Of a photo whose file is `size` pixels now, upright or not: only which side is longer counts."""
    details = exif.get_ifd(EXIF)
    make, model = _text(exif.get(MAKE)), _text(exif.get(MODEL))
    if make and model and model.lower().startswith(make.lower().split()[0]):
        make = None  # "Canon", "Canon EOS 100D"
    return Shot(
        camera=" ".join(filter(None, (make, model))) or None,
        lens=_text(details.get(LENS)),
        focal=_positive(details.get(FOCAL)),
        focal_35mm=_positive(details.get(FOCAL_35MM)),
        focal_pixels=focal_pixels(details, size),
        ev=_exposure_value(details),
        place=_place(exif.get_ifd(GPS)),
    )


def focal_pixels(details: dict[int, Any], size: tuple[int, int]) -> float | None:
    """The focal length F in pixels of a file that is `size` now; None where nothing believable is said.

    Of the 35 mm equivalent: f = F₃₅ · diagonal / 43.27 mm, true of whole pictures, whatever their size. Of the sensor:
    f = F · r · s, with r its pixels per mm (FocalPlaneXResolution) and s = size now / size taken (PixelXDimension), as
    programs that shrink photos keep both. Of a crop (another shape than was taken) neither holds. Where the two
    disagree the first is taken: r is what programs, and some cameras at reduced sizes, get wrong.
    """
    long, short = max(size), min(size)
    taken = sorted(filter(None, (_positive(details.get(WIDTH)), _positive(details.get(HEIGHT)))))
    if len(taken) == 2 and abs(taken[1] / taken[0] * short / long - 1) > SAME_SHAPE:
        return None
    found = []
    if film := _positive(details.get(FOCAL_35MM)):
        found.append(film * math.hypot(*size) / FILM_DIAGONAL)
    focal, resolution = _positive(details.get(FOCAL)), _positive(details.get(PLANE_RESOLUTION))
    unit = UNITS.get(details.get(PLANE_UNIT, 2))
    if focal and resolution and unit and len(taken) == 2:
        found.append(focal * resolution / unit * long / taken[1])
    believable = [f for f in found if PLAUSIBLE[0] < f / long < PLAUSIBLE[1]]
    if len(believable) == 2 and 1 / AGREE < believable[1] / believable[0] < AGREE:
        return believable[1]  # the equivalent is rounded to whole millimetres, the sensor's pitch is not
    return believable[0] if believable else None


def _exposure_value(details: dict[int, Any]) -> float | None:
    time, aperture = _positive(details.get(EXPOSURE_TIME)), _positive(details.get(F_NUMBER))
    iso = _positive(details.get(ISO)) or 100.0
    return math.log2(aperture**2 / time * 100 / iso) if time and aperture else None


def _place(gps: dict[int, Any]) -> tuple[float, float, float] | None:
    latitude, longitude = _degrees(gps, *LATITUDE, "S"), _degrees(gps, *LONGITUDE, "W")
    altitude = _number(gps.get(ALTITUDE[1]))
    if latitude is None or longitude is None or altitude is None or latitude == longitude == 0:
        return None  # 0, 0: a receiver that had no fix
    below = gps.get(ALTITUDE[0]) in (1, b"\x01")
    return latitude, longitude, -altitude if below else altitude


def _degrees(gps: dict[int, Any], reference: int, value: int, negative: str) -> float | None:
    """Degrees, minutes and seconds as degrees, south and west negative."""
    parts = gps.get(value)
    numbers = [_number(part) for part in parts] if isinstance(parts, tuple) and len(parts) == 3 else []
    if not numbers or None in numbers:
        return None
    degrees = sum(n / 60**i for i, n in enumerate(numbers) if n is not None)
    return -degrees if _text(gps.get(reference)) == negative else degrees


def _text(value: Any) -> str | None:
    text = value.decode("ascii", "ignore") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return " ".join(text.replace("\0", " ").split()) or None


def _number(value: Any) -> float | None:
    """A finite number; the first where there are several, as in some cameras' ISO."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = _number(value)
    return number if number and number > 0 else None
