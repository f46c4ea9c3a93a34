"""The doctor of photos without poses, and of films: what they are, what to do better. `neural3d info` prints both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from neural3d.images.formats import missing_readers
from neural3d.images.video import describe_video, key_frames, sharpness
from neural3d.scene.gps import NOISE, enu, spread
from neural3d.sfm.footage import Footage
from neural3d.sfm.survey import PANORAMA, PhotoStats, blurred, copies, survey

FEW = 20  # photos: what README asks for at least
STOPS = 1.0  # between exposures, or between the photos' mean light, from which one colour looks like two
TURNED = " stored otherwise, and turned upright"
SOFT = 0.5  # of the sharpness of a film's median key frame


def describe_footage(footage: Footage) -> tuple[list[tuple[str, str]], list[str]]:
    """Label and value of what is known before any camera is, and advice, a sentence each."""
    return _describe_film(footage.path) if footage.is_video else _describe_photos(footage)


def _describe_photos(footage: Footage) -> tuple[list[tuple[str, str]], list[str]]:
    advice = missing_readers(footage.photos)
    unseen = {p for photos, _ in advice for p in photos}
    stats, unreadable = survey([p for p in footage.photos if p not in unseen])
    named = {footage.name(p): one for p, one in stats.items()}
    rows = [("photos", f"{len(footage.photos)}, without poses")]
    if len(folders := {p.parent for p in footage.photos}) > 1:
        rows.append(("folders", f"{len(folders)}: each is taken for a camera of its own"))
    if stats:
        rows += [*_what_exif_says(list(stats.values())), *_places(list(stats.values()))]
    if footage.intrinsics:
        fx, fy, cx, cy = footage.intrinsics
        rows.append(("K.txt", f"focal lengths {fx:g}, {fy:g}, principal point ({cx:g}, {cy:g}) px"))
    if footage.masks:
        rows.append(("masks", f"of {len(footage.masks)} of {len(footage.photos)} photos"))
    doubled = copies(stats)
    blurry = [footage.name(p) for p in blurred({p: v for p, v in stats.items() if p not in doubled})]
    if stats:
        rows.append(("blurred", _some(blurry) or "none stands out"))
        rows.append(("copies", _some(f"{footage.name(p)} of {footage.name(q)}" for p, q in doubled.items()) or "none"))
    said = [text for _, text in advice]
    said += [f"{footage.name(p)} {why}" for p, why in unreadable.items()]
    said += [f"{footage.name(p)} {PANORAMA}." for p, one in stats.items() if one.panorama]
    said += [f"{name} is left out: {why}" for name, why in footage.left_out.items()]
    return rows, said + _advise(named, blurry, len(footage.photos) - len(doubled), bool(footage.intrinsics))


def _what_exif_says(stats: Sequence[PhotoStats]) -> list[tuple[str, str]]:
    shots = [one.shot for one in stats]
    turned = sum(one.orientation != 1 for one in stats)
    sides = Counter("landscape" if w > h else "portrait" if h > w else "square" for w, h in (k.size for k in stats))
    stand = ", ".join(f"{n} {side}" for side, n in sides.most_common())
    focal = Counter((s.focal, s.focal_35mm, s.focal_pixels) for s in shots)
    values = [e for s in shots if (e := s.ev) is not None]
    light = [one.light for one in stats]
    exposure = f"for light of EV {min(values):.1f} to {max(values):.1f}; " if values else ""
    return [
        ("photo size", _counted("{}×{}".format(*one.size) for one in stats)),
        ("orientation", stand + (f"; {turned} of them{TURNED}" if turned else "")),
        ("camera", _counted(filter(None, (s.camera for s in shots))) or "not said"),
        *([("lens", _counted(filter(None, (s.lens for s in shots))))] if any(s.lens for s in shots) else []),
        ("focal length", _some(_focal(*key) for key, _ in focal.most_common())),
        ("exposure", f"{exposure}mean brightness varies by {np.ptp(light):.1f} stops"),
    ]


def _focal(millimetres: float | None, film: float | None, pixels: float | None) -> str:
    said = [f"{millimetres:g} mm"] if millimetres else []
    said += [f"{film:g} mm on 35 mm film"] if film else []
    said += [f"{pixels:.0f} px"] if pixels else []
    return " = ".join(said) or "not said"


def _places(stats: Sequence[PhotoStats]) -> list[tuple[str, str]]:
    places = [one.shot.place for one in stats if one.shot.place]
    if not places:
        return []
    positions = enu(places)
    width, depth, height = np.ptp(positions, axis=0)
    enough = len(places) >= 3 and spread(positions) >= NOISE
    use = "may give scale and up" if enough else f"too near each other for scale and up ({NOISE:.0f} m are needed)"
    return [("GPS", f"of {len(places)} photos, over {width:.0f} × {depth:.0f} m, {height:.0f} m in height: {use}")]


def _advise(stats: dict[str, PhotoStats], blurry: list[str], photos: int, calibrated: bool) -> list[str]:
    said = []
    if photos < FEW:
        said.append(f"{photos} photos are few: {FEW} to 100 are usual, each sharing two thirds with the next.")
    if blurry:
        said.append(f"{len(blurry)} photos are blurred, compared with the others: take them again, or leave them out.")
    if not stats:
        return said
    shots = [one.shot for one in stats.values()]
    values = [s.ev for s in shots if s.ev is not None]
    light = [one.light for one in stats.values()]
    low, high = np.percentile(values if len(values) > len(shots) / 2 else light, (5, 95))
    if high - low > STOPS:
        said.append(f"Exposure varies by {high - low:.1f} stops: use AE lock next time; per-image exposure helps.")
    if len({s.focal_35mm or s.focal for s in shots if s.focal}) > 1:
        said.append("The zoom changed in between: photos of each focal length count as another camera.")
    if not calibrated and all(s.focal_pixels is None for s in shots):
        said.append("EXIF tells no focal length: it is found from the photos, which takes more of them.")
    return said


def _describe_film(film: Path) -> tuple[list[tuple[str, str]], list[str]]:
    meta = describe_video(film)
    width, height = meta["size"]
    lies = meta["source_size"] != meta["size"]
    frames = list(key_frames(film))
    sharp = np.array([sharpness(f) for f in frames])
    light = np.log2([max(1e-4, ((f / 255) ** 2.2).mean()) for f in frames])
    rows = [
        ("video", f"{meta['duration']:.1f} s of {width}×{height} at {meta['fps']:g} frames per second"),
        ("orientation", ("portrait" if height > width else "landscape") + ("," + TURNED if lies else "")),
        ("exposure", f"mean brightness varies by {np.ptp(light):.1f} stops over {len(frames)} key frames"),
        ("blurred", f"{(sharp < SOFT * np.median(sharp)).sum()} of {len(frames)} key frames"),
    ]
    said = []
    if (sharp < SOFT * np.median(sharp)).mean() > 0.2:
        said.append("Much of the film is blurred by motion: walk slower, or film in better light.")
    if np.ptp(light) > STOPS:
        said.append("Exposure changes in the film: use AE lock next time; per-image exposure helps.")
    if meta["duration"] < 10:
        said.append("The film is short: half a minute around the subject gives more to choose from.")
    return rows, said


def _counted(values: Iterable[str]) -> str:
    return ", ".join(f"{count} of {value}" for value, count in Counter(values).most_common(4))


def _some(values: Iterable[str]) -> str:
    values = list(values)
    return ", ".join(values[:4]) + (f" and {len(values) - 4} more" if len(values) > 4 else "")
