"""A picture of where a surface is wrong: result and truth, each coloured by its distance to the other, from two sides.

Drawn by casting rays, so that it needs neither a display nor OpenGL, and every pixel shows an exact distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import Visible
from neural3d.geometry.solid import Solid
from neural3d.render.images import to_bytes

# Porcelain where all is well, then ever hotter: green, yellow, red, violet. Light and shadow are left to the shape.
_MAP = np.array([[238, 239, 240], [140, 212, 190], [253, 214, 96], [238, 104, 58], [170, 26, 88], [78, 12, 92]]) / 255
_UNSEEN = np.array([0.52, 0.57, 0.65])  # truth that does not count
_PAPER, _INK, _FAINT = (252, 252, 250), (40, 43, 50), (115, 119, 128)
_LAMP = np.array([-0.5, 0.6, 0.62])  # where the light comes from, in the picture's axes: left, above, behind the eye
_FINE = 2  # rays per pixel and axis
_SKY_RAYS, _SKY_REACH = 4, 0.3  # per ray that hits; in diagonals of the truth's box


def error_picture(
    result: Mesh,
    truth: Mesh,
    *,
    up: Sequence[float] = (0.0, 0.0, 1.0),
    visible: Visible | None = None,
    scale: float | None = None,
    width: int = 640,
) -> UInt8[np.ndarray, "height width 3"]:
    """Two rows, result and truth; two columns, opposite sides; below, what the colours mean.

    The meshes are in one frame, with coordinates of order 1. up: its direction up. visible: which points of the truth
    count, see `mesh_metrics.compare`; the others are grey. scale: the distance of the last colour, in % of the diagonal
    of the truth's box; None: a round number that 95 % of what is shown stays below. width: of a panel, in pixels.
    """
    solids = Solid(result), Solid(truth)
    diagonal = float(np.linalg.norm(solids[1].box[1] - solids[1].box[0]))
    points = _shown_points(result, truth, room=0.15 * diagonal)
    views = [_View(points, sign, up, distance=2.5 * diagonal) for sign in (1, -1)]
    size = 1.04 * np.max([view.high - view.low for view in views], axis=0)  # one scale for both sides
    height = round(width * float(np.clip(size[1] / size[0], 0.5, 1.5)))
    pixel = max(size[0] / width, size[1] / height) / _FINE
    panels = [
        _Panel(own, other, view, view.directions(_FINE * width, _FINE * height, pixel), diagonal, counts)
        for own, other, counts in ((solids[0], solids[1], None), (solids[1], solids[0], visible))
        for view in views
    ]
    if scale is None:
        shown = np.concatenate([[0.0], *(panel.error[panel.counts] for panel in panels)])
        scale = _round_up(max(1e-3, np.percentile(shown, 95)))  # below: the rounding of float32
    pictures = [panel.picture(scale).reshape(height, _FINE, width, _FINE, 3).mean((1, 3)) for panel in panels]
    return _sheet(pictures, scale, unseen=visible is not None)


class _View:
    """An eye that looks from three quarters above or, sign −1, from the opposite side below.

    axes: right, up and back of its picture. low, high: what the points cover in it, in tangents of angles.
    """

    def __init__(self, points: np.ndarray, sign: int, up: Sequence[float], distance: float):
        upward = np.asarray(up, np.float64) / np.linalg.norm(up)
        right = np.eye(3)[np.argmin(np.abs(upward))]
        right -= (right @ upward) * upward
        right /= np.linalg.norm(right)
        front = np.cross(right, upward)  # +z where y is up, −y where z is up
        turn, rise = np.radians(30), np.radians(20)
        back = sign * (np.cos(rise) * (np.cos(turn) * front + np.sin(turn) * right) + np.sin(rise) * upward)
        side = np.cross(upward, back)
        side /= np.linalg.norm(side)
        self.axes = np.stack([side, np.cross(back, side), back])
        self.eye = (points.min(0) + points.max(0)) / 2 + distance * back
        x, y, z = self.axes @ (points - self.eye).T
        self.low, self.high = np.min([-x / z, -y / z], axis=1), np.max([-x / z, -y / z], axis=1)

    def directions(self, width: int, height: int, pixel: float) -> Float[np.ndarray, "N 3"]:
        """Unit vectors through the pixels, row by row, of a picture around the middle of the points."""
        middle = (self.low + self.high) / 2
        x = middle[0] + (np.arange(width) + 0.5 - width / 2) * pixel
        y = middle[1] - (np.arange(height) + 0.5 - height / 2) * pixel
        local = np.stack([*np.meshgrid(x, y), np.full((height, width), -1.0)], axis=-1).reshape(-1, 3)
        return local / np.linalg.norm(local, axis=1, keepdims=True) @ self.axes


class _Panel:
    """One surface from one side. error: where rays hit it, in %; counts: which of these are not to be grey."""

    def __init__(
        self, own: Solid, other: Solid, view: _View, directions: np.ndarray, diagonal: float, counts: Visible | None
    ):
        t, face = own.first_hit(view.eye, directions)
        self.hit = face >= 0
        directions, face = directions[self.hit], face[self.hit]
        points = view.eye + t[self.hit, None] * directions
        normals = own.normals[face]
        normals = np.where((normals * directions).sum(1, keepdims=True) > 0, -normals, normals)
        self.error = 100 / diagonal * other.closest(points)[0]
        self.counts = np.ones(len(points), bool) if counts is None else counts(points)
        lamp = np.clip(normals @ (_LAMP / np.linalg.norm(_LAMP) @ view.axes), 0, 1)
        self.light = 0.3 + 0.42 * _sky(own, points, normals, diagonal) + 0.33 * lamp

    def picture(self, scale: float) -> Float[np.ndarray, "N 3"]:
        color = np.where(self.counts[:, None], colour_of(self.error / scale), _UNSEEN)
        pixels = np.tile(np.array(_PAPER) / 255, (len(self.hit), 1))
        pixels[self.hit] = np.clip(color * self.light[:, None], 0, 1)
        return pixels


def _sky(
    solid: Solid, points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], diagonal: float
) -> Float[np.ndarray, "N"]:
    """The share of an overcast sky that reaches each point, by a few rays in directions as likely as their cosine."""
    rng = np.random.default_rng(0)
    start = points + 2e-3 * diagonal * normals  # off the surface, so that it does not shade itself
    free = np.zeros(len(points))
    for _ in range(_SKY_RAYS):
        ball = rng.standard_normal(points.shape, np.float32)
        ray = normals + 0.999 * ball / np.linalg.norm(ball, axis=1, keepdims=True)
        free += ~solid.blocked(start, ray / np.linalg.norm(ray, axis=1, keepdims=True), far=_SKY_REACH * diagonal)
    return free / _SKY_RAYS


def colour_of(share: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N 3"]:
    """sRGB of a distance given as a share of the scale; the last colour from 1 on."""
    place = np.clip(share, 0, 1) * (len(_MAP) - 1)
    return np.stack([np.interp(place, np.arange(len(_MAP)), _MAP[:, k]) for k in range(3)], axis=-1)


def _shown_points(result: Mesh, truth: Mesh, room: float) -> Float[np.ndarray, "N 3"]:
    """The truth's vertices, and those of the result near its box: stray pieces must not make all else small."""
    own, others = (mesh.vertices[np.unique(mesh.faces)].astype(np.float64) for mesh in (truth, result))
    near = np.all((others >= own.min(0) - room) & (others <= own.max(0) + room), axis=1)
    return np.concatenate([own, others[near]])


def _round_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= 0.9999 * value))


def _sheet(panels: list[Float[np.ndarray, "H W 3"]], scale: float, unseen: bool) -> UInt8[np.ndarray, "h w 3"]:
    """Panels two by two, a title over each row, the colour bar below."""
    margin, title, foot = 24, 34, 92
    height, width = panels[0].shape[:2]
    sheet = Image.new("RGB", (2 * width + 2 * margin, 2 * (height + title) + margin + foot), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(19), ImageFont.load_default(15)
    for row, text in enumerate(("Result, by its distance to the truth", "Truth, by its distance to the result")):
        y = margin + row * (height + title)
        draw.text((margin, y - 6), text, _INK, font)
        for column in range(2):
            panel = Image.fromarray(to_bytes(panels[2 * row + column]))
            sheet.paste(panel, (margin + column * width, y + title - 8))
    x, y, length, thick = margin, sheet.height - foot + 22, min(520, width), 16
    bar = colour_of(np.linspace(0, 1, length))
    sheet.paste(Image.fromarray(to_bytes(np.repeat(bar[None], thick, 0))), (x, y))
    draw.rectangle((x, y, x + length - 1, y + thick - 1), outline=_FAINT)
    for share in (0, 0.25, 0.5, 0.75, 1):
        place = x + share * (length - 1)
        draw.line((place, y + thick, place, y + thick + 4), _FAINT)
        label = f"{share * scale:.4g} %" if share < 1 else f"{scale:.4g} % and more"
        draw.text((place, y + thick + 7), label, _INK, small, anchor="la" if share in (0, 1) else "ma")
    x += length + 130
    draw.text((x, y - 4), "exact distance to the other surface,", _FAINT, small)
    draw.text((x, y + 14), "in % of the diagonal of the truth's bounding box", _FAINT, small)
    if unseen:
        draw.rectangle((x, y + 37, x + 14, y + 49), fill=tuple(to_bytes(_UNSEEN).tolist()))
        draw.text((x + 22, y + 34), "not counted: fewer than two training views see it", _FAINT, small)
    return np.asarray(sheet)
