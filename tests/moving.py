"""Figures that walk, by formulas: clips for tests, of nobody's recording."""

import math

import torch

from neural3d.body.motion import Motion
from neural3d.geometry.rotations import quaternion_from_axis_angle, quaternion_product
from neural3d.geometry.skeletons import Skeleton

NAMES = ("pelvis", "chest", "head", *(f"{s}_{p}" for s in ("left", "right")
         for p in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")))  # fmt: skip
PARENTS = (-1, 0, 1, 0, 3, 4, 1, 6, 7, 0, 9, 10, 1, 12, 13)
SIDE = [[0.1, 0.95, 0], [0.1, 0.5, 0], [0.1, 0.08, 0], [0.2, 1.45, 0], [0.45, 1.45, 0], [0.7, 1.45, 0]]
REST = [[0, 1, 0], [0, 1.25, 0], [0, 1.6, 0], *SIDE, *([-x, y, z] for x, y, z in SIDE)]
WALKER = Skeleton(NAMES, PARENTS, torch.tensor(REST, dtype=torch.float32))


def walking(seconds=4.0, rate=25.0, pace=1.0, phase=0.0, yaw=0.0, start=(0.0, 1.0, 0.0), loops=False):
    """Straight ahead at `pace` strides and metres a second, arms down and swinging, the world turned by `yaw`."""
    t = torch.arange(round(seconds * rate) + 1) / rate
    swing = torch.sin(2 * math.pi * pace * t + phase)
    turn = torch.zeros(len(t), len(NAMES), 3)
    for k, side in enumerate((1, -1)):
        turn[:, 3 + 6 * k, 0] = side * 0.5 * swing
        turn[:, 4 + 6 * k, 0] = 0.4 + 0.3 * side * torch.cos(2 * math.pi * pace * t + phase)
        turn[:, 7 + 6 * k, 1] = -side * (0.5 + 0.2 * side * swing)
    turn[:, 1, 1] = 0.1 * swing
    rotations = quaternion_from_axis_angle(turn)
    for k, side in enumerate((1, -1)):  # arms hang down, then swing
        down = quaternion_from_axis_angle(torch.tensor([0.0, 0, -side * 1.4]))
        ahead = quaternion_from_axis_angle(torch.stack([-side * 0.4 * swing, 0 * t, 0 * t], -1))
        rotations[:, 6 + 6 * k] = quaternion_product(ahead, down)
    about = quaternion_from_axis_angle(torch.tensor([0.0, yaw, 0]))
    rotations[:, 0] = quaternion_product(about, rotations[:, 0])
    places = torch.tensor(start) + (pace * t)[:, None] * torch.tensor([math.sin(yaw), 0, math.cos(yaw)])
    return Motion("walk", WALKER, rotations, places, rate, loops)
