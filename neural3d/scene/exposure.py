"""Whether photos were exposed differently: the light of the same points in photos that show much the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from neural3d.geometry.bounds import every_nth
from neural3d.images.reading import read_image
from neural3d.scene.observed import Observed

if TYPE_CHECKING:
    from neural3d.scene.scene import Scene, View

PAIRS = 12  # of photos that are compared, spread over the capture
SHARED = 20  # points that both must show
DIFFERENCE = 0.12  # stops between the photos of the median pair, from which a gain for each photo is worth it …
CLEAR = 0.6  # … and as a share of how much single points differ, as they do by shine, shadow and blur
CLIPPED = 0.03, 0.97  # values outside say little of the light that fell on the sensor


def exposure_spread(scene: Scene, observed: Observed) -> float | None:
    """The most stops between neighbours among some photos, where exposure differs from one to the next; else None.

    Shading changes with the viewing angle and changes points one by one; exposure changes all points of a photo alike,
    and from one photo to its neighbour as well. So each photo is compared with the one that shares most points with it.
    """
    views = [v for v in scene.views if v.name in observed and len(observed[v.name][1])]
    if len(views) < 3:
        return None
    differences, spreads, light = [], [], {}
    for view, other in _neighbours(views, observed):
        for v in (view, other):
            if v.name not in light:
                light[v.name] = point_light(scene, v, observed)
        a, b = light[view.name], light[other.name]
        _, i, j = np.intersect1d(a[0], b[0], return_indices=True)
        if len(i) < SHARED:
            continue
        stops = a[1][i] - b[1][j]
        differences.append(np.median(stops))
        spreads.append(np.median(abs(stops - differences[-1])) * 1.4826)  # of a normal distribution
    sizes = np.abs(differences)
    if not differences or np.median(sizes) < DIFFERENCE or np.median(sizes / np.maximum(spreads, 1e-3)) < CLEAR:
        return None
    return float(sizes.max())


def _neighbours(views: list[View], observed: Observed) -> Iterator[tuple[View, View]]:
    """PAIRS photos, each with the one that shares most points with it; of several, the one taken nearest to it."""
    ids = np.concatenate([observed[v.name][1] for v in views])
    owner = np.repeat(np.arange(len(views)), [len(observed[v.name][1]) for v in views])
    centres = np.stack([v.camera.centre.numpy() for v in views])
    for i in every_nth(range(len(views)), PAIRS):
        shared = np.bincount(owner[np.isin(ids, observed[views[i].name][1])], minlength=len(views))
        shared[i] = -1  # not with itself
        away = np.linalg.norm(centres - centres[i], axis=1)
        yield views[i], views[np.lexsort((away, -shared))[0]]


def point_light(scene: Scene, view: View, observed: Observed) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the points that a photo shows neither black nor burnt out, ascending, and log₂ of their light there."""
    xy, ids, _ = observed[view.name]
    width, height = small_size(view)
    pixels = read_image(view.image_path, width, height, alpha=False)[..., :3] / 255
    x, y = (xy / scene.downscale * [width / view.camera.width, height / view.camera.height]).astype(int).T
    colors = pixels[y.clip(0, height - 1), x.clip(0, width - 1)]
    ids, first = np.unique(ids, return_index=True)
    colors = colors[first]
    usable = (colors.min(-1) > CLIPPED[0]) & (colors.max(-1) < CLIPPED[1])
    return ids[usable], 2.2 * np.log2(colors[usable]).mean(-1)


def small_size(view: View) -> tuple[int, int]:
    """Width and height at which a look at a photo is enough: about 200 pixels for the shorter side."""
    shrink = max(1, min(view.camera.width, view.camera.height) // 200)
    return view.camera.width // shrink, view.camera.height // shrink
