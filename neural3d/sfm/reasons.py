"""Why photos got no pose: read from COLMAP's database of features and verified matches, in the user's words."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

FEW_FEATURES = 200  # below this a photo rarely keeps the 30 matches to points that COLMAP asks of a pose
PAIR = 2147483647  # COLMAP's number of a pair (a, b) of image ids, a < b, is PAIR · a + b
FLAT = (5, 6)  # COLMAP's kinds of two-view geometry without parallax: the camera turned, or the scene is a plane
MISSED = 1.5e-3  # reprojection error by the picture's long side: of 17 right models 0.03–0.11 %, of 2 wrong 0.2, 0.3 %
HARDLY_MOVED = 4.0  # degrees between the rays that meet in a point: real captures have 20, a camera that turns has 2


@dataclass
class Evidence:
    """features: number by photo. matches: verified, by pairs of photos. flat: share of the pairs without parallax."""

    features: dict[str, int]
    matches: dict[frozenset[str], int]
    flat: float

    def partners(self, name: str) -> dict[str, int]:
        """The photos that share verified matches with one, and how many."""
        return {other: n for pair, n in self.matches.items() if name in pair for other in pair - {name}}


def read_evidence(database: Path) -> Evidence:
    """Opened for writing, so that what COLMAP left in a journal beside it comes into the file when it is closed."""
    with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True)) as connection:
        names = dict(connection.execute("SELECT image_id, name FROM images"))
        features = dict(connection.execute("SELECT image_id, rows FROM keypoints"))
        pairs = connection.execute("SELECT pair_id, rows, config FROM two_view_geometries WHERE rows > 0").fetchall()
    matches = {frozenset(names[i] for i in divmod(pair, PAIR)): rows for pair, rows, _ in pairs}
    flat = sum(kind in FLAT for *_, kind in pairs) / max(1, len(pairs))
    return Evidence({name: features.get(i, 0) for i, name in names.items()}, matches, flat)


def why_missing(evidence: Evidence, models: list[list[str]]) -> dict[str, str]:
    """The reason for each photo that is not in the first model.

    models: the names of the photos of each separate model, the kept one first.
    """
    kept = set(models[0]) if models else set()
    return {name: _why(evidence, name, kept, models[1:]) for name in evidence.features if name not in kept}


def _why(evidence: Evidence, name: str, kept: set[str], others: list[list[str]]) -> str:
    if (features := evidence.features[name]) < FEW_FEATURES:
        return f"too few features ({features}): blurred, dark, or without texture"
    if group := next((group for group in others if name in group), None):
        return f"belongs to a group of {len(group)} photos that does not overlap enough with the rest"
    partners = evidence.partners(name)
    if not partners:
        return "no other photo matches it: not enough overlap"
    if kept and not (linked := [n for other, n in partners.items() if other in kept]):
        return f"matches only {_some(partners)}, which are not registered either: not enough overlap with the model"
    if kept:
        return f"its {sum(linked)} verified matches with {len(linked)} registered photos are too few for a pose"
    return f"its {sum(partners.values())} verified matches with {len(partners)} photos gave no pose"


def _some(names: dict[str, int]) -> str:
    shown = sorted(names, key=lambda name: -names[name])[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def doubts(angle: float, registered: int, photos: int, miss: float = 0.0) -> list[str]:
    """What makes a model that was found suspicious. angle: median between the rays that meet in a point, in degrees.

    miss: mean reprojection error by the picture's long side.
    """
    found = []
    if miss > MISSED:
        found.append(
            f"points miss their photos by {miss:.2%} of the picture, twice as much as usual: the lens is another (try "
            "--camera-model OPENCV or OPENCV_FISHEYE), something moved, or the subject looks alike from several sides"
        )
    if angle < HARDLY_MOVED:
        found.append(f"the camera hardly moved (points are seen within {angle:.1f}°), so depths may be made up")
    if 2 * registered < photos:
        found.append(
            "fewer than half of the photos have a pose: more photos in between would help, and for smooth or shiny "
            "things a newspaper under them"
        )
    return found


def remedy(evidence: Evidence) -> str:
    """What to do where no photo got a pose."""
    if sum(n < FEW_FEATURES for n in evidence.features.values()) > len(evidence.features) / 2:
        return (
            "Photograph something with texture, in focus and in good light, at full size; smooth or shiny things on a "
            "newspaper."
        )
    if not evidence.matches:
        return "The photos do not show the same thing: take them so that neighbours share two thirds of the picture."
    if evidence.flat > 0.5:
        return (
            "Either the camera turned on the spot or everything lies in one plane: walk around something that stands "
            "out, so that near things move before far ones."
        )
    return "Take more photos between these, in small steps around the subject."
