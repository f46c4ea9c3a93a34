"""`--method auto`: which method suits what a user brings. Measured in benchmarks/results/captures_cpu_2026-11-29.md."""

from __future__ import annotations

from neural3d.geometry.solid import open_edges
from neural3d.methods.seeds import ENOUGH
from neural3d.scene import Scene
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.shape import Shape


def choose(data: Scene | Shape | ShapeSet) -> tuple[str, str]:
    """The method's name, and why in a few words that go on from "method: NAME, …"."""
    if isinstance(data, Scene):
        return choose_radiance(data)
    if isinstance(data, Shape):
        return choose_surface(data)
    if data.captures:
        return "dvr", "for captures of many objects"
    return "occupancy", "for a folder of shapes of any kind (many that are alike: deepsdf)"


def choose_radiance(scene: Scene) -> tuple[str, str]:
    """Splats, whatever the device, the bounds, the alpha and the minutes: of all captures measured there was none that
    ngp showed better after equal time, with sparse points to start from or without.
    """
    points = 0 if scene.points is None else len(scene.points[0])
    start = f"from {points:,} points" if points >= ENOUGH else "from random points, as the capture has none"
    return "splat", f"the sharpest after equal time, {start}"


def choose_surface(shape: Shape) -> tuple[str, str]:
    if shape.faces is None:
        return "igr", "for points: a closed surface through them"
    if loose := open_edges(shape.mesh):
        return "igr", f"for an open mesh ({loose:,} loose edges): a closed surface through its samples"
    return "sdf", "for a closed mesh: its signed distances"
