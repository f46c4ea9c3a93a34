"""Feet that stand: when they are planted, where they then stay, and legs bent so that they do."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.geometry.rotations import quaternion_between, rotation_from_axis_angle, rotation_from_quaternion

LOW, HIGH = 0.03, 0.05  # metres above where it stands: a point is planted below LOW, until it is above HIGH
SLOW, FAST = (0.2, 0.5), 1.5  # it is slow below a tenth of its swing, within these metres per second; fast: times that
SHORTEST = 0.06  # seconds; what is planted for less only brushes the ground
EASE = 0.12  # seconds over which a correction comes and goes
REACH = 0.998  # of a leg's length: a straight leg has no way to bend


def speeds(paths: Float[Tensor, "T ... 3"], rate: float) -> Float[Tensor, "T ..."]:
    """Metres per second, from the frame before to the frame after."""
    if len(paths) == 1:
        return torch.zeros_like(paths[..., 0])
    padded = torch.cat([2 * paths[:1] - paths[1:2], paths, 2 * paths[-1:] - paths[-2:-1]])
    return (padded[2:] - padded[:-2]).norm(dim=-1) * rate / 2


def slowness(speed: Float[Tensor, "T ..."]) -> float:
    """Metres per second below which feet stand. Recordings slide: the more, the faster they go."""
    return float((0.1 * speed.quantile(0.95)).clamp(*SLOW))


def ground_of(heights: Float[Tensor, "T points"], speed: Float[Tensor, "T points"]) -> float:
    """The height at which the lowest point is most often slow: the ground, also where some frames lie below it."""
    lowest, which = heights.min(1)
    slow = lowest[speed.gather(1, which[:, None])[:, 0] < slowness(speed)]
    slow = (slow if len(slow) else lowest).sort().values
    near = torch.searchsorted(slow, slow + LOW) - torch.arange(len(slow))  # how many are up to LOW above each
    first = int(near.argmax())
    return float(slow[first : first + int(near[first])].median())


def planted(
    points: Float[Tensor, "T feet 2 3"], heights: Float[Tensor, "T feet 2"], rate: float
) -> Bool[Tensor, "T feet 2"]:
    """When a foot's ankle and ball stand: around where they are low and slow, until they are high or fast.

    Of a foot that turns on the spot only the slower one does. heights: above where they stand.
    """
    speed = speeds(points, rate)
    slow = slowness(speed)
    enter, stay = (heights < LOW) & (speed < slow), (heights < HIGH) & (speed < FAST * slow)
    found = torch.zeros_like(enter)
    for order in (range(len(enter)), range(len(enter) - 1, -1, -1)):  # hysteresis, from both sides
        state = torch.zeros_like(enter[0])
        for t in order:
            state = enter[t] | (state & stay[t])
            found[t] |= state
    turns = speeds(points[:, :, 1] - points[:, :, 0], rate)[..., None] > SLOW[0]
    found &= ~(turns & found.all(-1, keepdim=True) & (speed > speed.amin(-1, keepdim=True)))
    flat = found.flatten(1)
    for point in range(flat.shape[1]):
        edges = np.flatnonzero(np.diff(np.r_[0, flat[:, point].numpy().astype(int), 0]))
        for first, last in edges.reshape(-1, 2):
            flat[first:last, point] = bool(last - first >= SHORTEST * rate)
    return flat.reshape(found.shape)


def slides(paths: Float[Tensor, "T points 3"], stands: Bool[Tensor, "T points"]) -> Float[Tensor, " N"]:
    """Metres that planted points move along the ground from one frame to the next, where they are planted in both."""
    moved = (paths[1:] - paths[:-1])[..., [0, 2]].norm(dim=-1)
    return moved[stands[1:] & stands[:-1]]


def settled(
    paths: Float[Tensor, "T 2 3"], stands: Bool[Tensor, "T 2"], heights: Float[Tensor, "2"], rate: float, rigid: bool
) -> Float[Tensor, "T 2 3"]:
    """A foot's two points, ankle and ball, moved as little and as smoothly as may be, so that they stand where planted.

    The corrections u of a coordinate minimise Σ u² + K⁴ |u_{t−1} − 2 u_t + u_{t+1}|² + c |u_ankle − u_ball|², a spline
    that fades in K frames, and, with weights that leave nothing of it, the movement of planted points, or their height
    above where they stand: of planted ones, and of those that would be in the ground. rigid: both move alike; what
    the foot's turning asks of two planted points is then shared by them.
    """
    count, ease, each = len(paths), max(EASE * rate, 1.0), 1 if rigid else 2  # unknowns in a frame
    stiff, together = ease**4, 30.0 * ease**2
    hard = 1e5 * max(stiff, together)
    unknown = np.arange(count)[:, None] * each + np.arange(2) * (each - 1)  # of frame and point
    both = (stands[1:] & stands[:-1]).numpy()
    found, below = paths.clone(), torch.zeros_like(stands)

    def add(bands: np.ndarray, row: int, at: np.ndarray, weight: float | np.ndarray) -> None:
        np.add.at(bands[row], at, weight)

    for _ in range(3):  # those in the ground are only known once others are moved
        for axis in range(3):
            # Row k of `bands` is the symmetric matrix's k-th diagonal, and the last one the right side.
            bands = np.zeros((2 * each + 2, count * each))
            bands[0] = 1
            for i, a in enumerate((1, -2, 1)):
                for j, b in enumerate((1, -2, 1)[: i + 1]):
                    bands[each * (i - j), each * j : each * (j + count - 2)] += stiff * a * b
            if not rigid:
                bands[0] += together
                bands[1, 0::2] -= together
            if axis == 1:
                fixed = (stands | below).numpy()
                add(bands, 0, unknown[fixed], hard)
                add(bands, -1, unknown[fixed], hard * (heights - paths[..., 1]).numpy()[fixed])
            else:
                now, then = unknown[:-1][both], unknown[1:][both]
                moves = hard * (paths[1:, :, axis] - paths[:-1, :, axis]).numpy()[both]
                for at, sign in ((now, 1), (then, -1)):
                    add(bands, 0, at, hard)
                    add(bands, -1, at, sign * moves)
                add(bands, each, now, -hard)
            corrections = scipy.linalg.solveh_banded(bands[:-1], bands[-1], lower=True)
            found[..., axis] = paths[..., axis] + torch.from_numpy(corrections[unknown])
        inside = found[..., 1] < heights - 1e-4
        if not (inside & ~(stands | below)).any():
            break
        below |= inside
    return found


def lowered(
    hips: Float[Tensor, "T legs 3"], ankles: Float[Tensor, "T legs 3"], lengths: Float[Tensor, " legs"], rate: float
) -> Float[Tensor, " T"]:
    """How far down the hips must go, smoothly, for legs to reach their ankles: 0 where they do."""
    away = ankles - hips
    flat = away[..., [0, 2]].square().sum(-1)
    room = (REACH * lengths).square() - flat
    needed = (-away[..., 1] - room.clamp(min=0).sqrt()).clamp(min=0).amax(1)
    width = max(round(EASE * rate), 1)
    padded = torch.nn.functional.pad(needed[None, None], (2 * width, 2 * width), mode="replicate")
    highest = torch.nn.functional.max_pool1d(padded, 2 * width + 1, 1)
    return _averaged(highest, width)[0, 0]


def eased(values: Float[Tensor, "T n"], rate: float) -> Float[Tensor, "T n"]:
    """Smoothed over EASE."""
    width = max(round(EASE * rate), 1)
    return _averaged(torch.nn.functional.pad(values.T[:, None], (width, width), mode="replicate"), width)[:, 0].T


def _averaged(values: Float[Tensor, "n 1 T_padded"], width: int) -> Float[Tensor, "n 1 T"]:
    window = torch.hann_window(2 * width + 3, periodic=False, dtype=values.dtype)[1:-1]
    return torch.nn.functional.conv1d(values, (window / window.sum())[None, None])


def reach(
    hip: Float[Tensor, "T 3"],
    knee: Float[Tensor, "T 3"],
    ankle: Float[Tensor, "T 3"],
    hinge: Float[Tensor, "T 3"],
    target: Float[Tensor, "T 3"],
) -> tuple[Float[Tensor, "T 3 3"], Float[Tensor, "T 3 3"]]:
    """Two bones' way to a target: world rotations that thigh and shin turn by, on top of what they are turned.

    The knee turns about its hinge (unit, world) until hip and ankle are as far apart as the target asks, of the two
    ways the one in which it bends; then the leg swings about the hip, by the least rotation.
    """
    thigh, shin = knee - hip, ankle - knee
    length = thigh.norm(dim=-1) + shin.norm(dim=-1)
    wanted = torch.minimum((target - hip).norm(dim=-1), REACH * length)
    along = (shin * hinge).sum(-1, keepdim=True) * hinge
    across = shin - along
    # |thigh + R(φ) shin|² = |thigh|² + |shin|² + 2 (c + a cos φ + b sin φ)
    a, b, c = ((thigh * v).sum(-1) for v in (across, torch.linalg.cross(hinge, across), along))
    asked = (wanted**2 - thigh.square().sum(-1) - shin.square().sum(-1)) / 2 - c
    cosine = (asked / torch.hypot(a, b).clamp(min=1e-12)).clamp(-1, 1)
    turn = rotation_from_axis_angle(hinge * (torch.atan2(b, a) + torch.acos(cosine))[:, None])
    end = thigh + (turn @ shin[..., None])[..., 0]
    swing = rotation_from_quaternion(quaternion_between(end, target - hip))
    return swing, swing @ turn
