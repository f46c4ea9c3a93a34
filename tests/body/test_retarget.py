"""Retargeting: directions of bones carried over, feet that stand, joints within limits; rigs found by their names."""

import dataclasses
import math

import pytest
import torch
from body.clips.written import swing

from neural3d.body import feet
from neural3d.body.anatomy import LIMITS, limb_at_rest, ranges
from neural3d.body.clips import amass, read_motion
from neural3d.body.motion import Motion
from neural3d.body.retarget import retarget, retargeted
from neural3d.body.rigs import ARM, LEG, SIDES, find_rig
from neural3d.errors import UserError
from neural3d.geometry.rotations import quaternion_from_axis_angle, rotation_from_axis_angle
from neural3d.geometry.skeletons import Skeleton

BONES = [(f"{side}_{a}", f"{side}_{b}") for side in SIDES for a, b in (("shoulder", "elbow"), ("elbow", "wrist"))]
LEGS = [(f"{side}_{a}", f"{side}_{b}") for side in SIDES for a, b in (("hip", "knee"), ("knee", "ankle"))]


def reposed(skeleton: Skeleton, turns: dict[str, list[float]], scale: float = 1.0) -> Skeleton:
    """The skeleton whose rest is a pose of this one: other bones' directions, the same names."""
    rotations = torch.tensor([1.0, 0, 0, 0]).repeat(1, len(skeleton), 1)
    for name, turn in turns.items():
        rotations[0, skeleton.names.index(name)] = quaternion_from_axis_angle(torch.tensor(turn))
    posed = Motion("", skeleton, rotations, skeleton.rest[:1], 1.0).joints()[0]
    return Skeleton(skeleton.names, skeleton.parents, scale * posed)


def arms_down(skeleton: Skeleton, angle: float, scale: float = 1.0) -> Skeleton:
    """Arms lowered from the T, elbows a little bent."""
    turns = {"left_shoulder": [0, 0, -angle], "right_shoulder": [0, 0, angle]}
    return reposed(skeleton, turns | {"left_elbow": [0, -0.4, 0], "right_elbow": [0, 0.4, 0]}, scale)


def directions(motion: Motion, bones=(*BONES, *LEGS)) -> torch.Tensor:
    joints, names = motion.joints(), motion.skeleton.names
    found = [joints[:, names.index(b)] - joints[:, names.index(a)] for a, b in bones]
    return torch.nn.functional.normalize(torch.stack(found, 1), dim=-1)


@pytest.mark.parametrize("angle", [0.0, math.pi / 4, math.pi / 2])
def test_bones_point_where_the_source_s_do_whatever_the_pose_at_rest(angle):
    clip = swing()
    moved = retarget(clip, arms_down(clip.skeleton, angle, scale=0.7))
    torch.testing.assert_close(directions(moved, BONES), directions(clip, BONES), atol=2e-3, rtol=0)
    back = retarget(moved, clip.skeleton)
    torch.testing.assert_close(directions(back, BONES), directions(clip, BONES), atol=4e-3, rtol=0)


def test_twist_is_kept():
    """A forearm that turns about itself does so on the other skeleton, by as much."""
    clip = swing()
    elbow = clip.skeleton.names.index("left_elbow")
    turn = torch.linspace(0, 1.2, len(clip))[:, None] * torch.tensor([1.0, 0, 0])
    clip.rotations[:, elbow] = quaternion_from_axis_angle(turn)
    moved = retarget(clip, arms_down(clip.skeleton, 1.0))
    hand = moved.skeleton.names.index("left_wrist")
    turned = moved.turned()[:, hand]
    angles = torch.acos(((turned @ turned[0].T).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2)
    torch.testing.assert_close(angles[1:], turn[1:, 0], atol=0.02, rtol=0)


def test_which_way_the_figure_faces_at_rest_does_not_matter():
    clip = swing()
    quarter = rotation_from_axis_angle(torch.tensor([0, math.pi / 2, 0]))
    aside = Skeleton(clip.skeleton.names, clip.skeleton.parents, clip.skeleton.rest @ quarter.T)
    first, second = retarget(clip, clip.skeleton), retarget(clip, aside)
    torch.testing.assert_close(second.joints(), first.joints(), atol=1e-4, rtol=0)


def gliding(speed: float = 0.15, frames: int = 60) -> Motion:
    """A figure that stands, knees a little bent, and slides forwards, metres per second."""
    clip = swing(frames)
    rotations = torch.tensor([1.0, 0, 0, 0]).repeat(frames, len(clip.skeleton), 1)
    for side in SIDES:
        for joint, angle in (("hip", -0.2), ("knee", 0.4), ("ankle", -0.2)):
            at = clip.skeleton.names.index(f"{side}_{joint}")
            rotations[:, at] = quaternion_from_axis_angle(torch.tensor([angle, 0, 0]))
    places = torch.stack([torch.zeros(frames), torch.full((frames,), 0.83), torch.arange(frames) * speed / 30], 1)
    return dataclasses.replace(clip, rotations=rotations, places=places)


def test_planted_feet_stand_on_the_ground():
    moved, report = retargeted(gliding(), arms_down(swing().skeleton, 0.8, 1.1), ground=-1.2)
    assert report.planted.all() and report.before == pytest.approx(0.15 / 30 * 1.1, rel=1e-3)
    assert report.after < 1e-4
    names, joints = moved.skeleton.names, moved.joints()
    ball = joints[:, names.index("left_foot")]
    assert (ball - ball[0]).abs().max() < 1e-3
    height = float(moved.skeleton.rest[names.index("left_foot"), 1]) + 1.2  # over the ground at rest
    torch.testing.assert_close(ball[:, 1], torch.full((60,), height), atol=1e-3, rtol=0)
    assert f"{100 * report.after:.2f}" in moved.notes[-1]


def test_feet_in_the_air_are_left_alone():
    clip = gliding(speed=3.0)
    moved, report = retargeted(clip, clip.skeleton)
    assert not report.planted.any() and report.after == 0
    torch.testing.assert_close(directions(moved), directions(clip), atol=2e-3, rtol=0)


def test_hands_that_stand_are_not_in_the_ground():
    """A handstand of a figure without hands, on one that has them: it stands higher by as much, once it is up there."""
    clip = swing(90)
    names, fingers = clip.skeleton.names, [clip.skeleton.names.index(f"{side}_wrist") for side in SIDES]
    still = torch.tensor([1.0, 0, 0, 0]).repeat(90, len(names), 1)
    for name, turn in (("left_shoulder", [0, 0, 1.4]), ("right_shoulder", [0, 0, -1.4])):
        still[:, names.index(name)] = quaternion_from_axis_angle(torch.tensor(turn))  # overhead
    over = ((torch.arange(90) - 50) / 20.0).clamp(0, 1)
    still[:, 0] = quaternion_from_axis_angle(math.pi * over[:, None] * torch.tensor([1.0, 0, 0]))
    standing, up = clip.skeleton.rest, Motion("", clip.skeleton, still, clip.places, 30.0)
    reach = up.joints()[-1, fingers, 1].min() - up.places[-1, 1]
    places = clip.places.clone()
    places[:, 1] = torch.lerp(standing[0, 1] - standing[:, 1].min(), 0.02 - reach, over)
    up = dataclasses.replace(up, places=places)
    longer = torch.cat([standing, standing[fingers] * 1.2 - 0.2 * standing[[names.index("neck")]]])
    target = Skeleton((*names, "left_tip", "right_tip"), (*clip.skeleton.parents, *fingers), longer)
    joints = retarget(up, target).joints()
    assert joints[-5:, -2:, 1].amin() > 0.01 and joints[-5:, -2:, 1].amax() < 0.06
    flat = retarget(up, clip.skeleton).joints()
    assert 0.05 < (joints[-1, 0, 1] - flat[-1, 0, 1]) < 0.2
    torch.testing.assert_close(joints[:40, 0], flat[:40, 0], atol=1e-3, rtol=0)


def test_joints_are_held_within_their_limits():
    clip = swing()
    knee = clip.skeleton.names.index("left_knee")
    clip.rotations[:, knee] = quaternion_from_axis_angle(torch.tensor([-1.0, 0, 0]))  # forwards: no knee does
    moved, report = retargeted(clip, clip.skeleton)
    assert report.beyond["shin"][0] == 1 and report.beyond["shin"][1] == pytest.approx(54.3, abs=0.5)
    rig = find_rig(moved.skeleton, "")
    rest = moved.skeleton.rest.double()
    limbs = {(limb, side): limb_at_rest(rest, chains[side], limb, side)
             for limb, chains in ((LEG, rig.legs), (ARM, rig.arms)) for side in SIDES}  # fmt: skip
    world = moved.turned().double()
    found = ranges(rest, rig, limbs)
    assert {found[joint].part for joint in found} == LIMITS.keys()
    for joint, allowed in found.items():
        _, over = allowed.limited(world[:, moved.skeleton.parents[joint]].mT @ world[:, joint])
        assert over.max() < 1e-3, moved.skeleton.names[joint]


def test_limits_leave_what_is_within_them():
    skeleton = arms_down(amass.average("body"), 0.7)
    rig = find_rig(skeleton, "")
    limbs = {(limb, side): limb_at_rest(skeleton.rest.double(), chains[side], limb, side)
             for limb, chains in ((LEG, rig.legs), (ARM, rig.arms)) for side in SIDES}  # fmt: skip
    elbow = ranges(skeleton.rest.double(), rig, limbs)[rig.arms["left"][1]]
    hinge = limbs[ARM, "left"].hinge
    ends = (-math.radians(3) - 0.4, math.radians(160) - 0.4)  # from straight on, and it rests bent by 0.4
    for angle, held in ((0.0, 0.0), (1.5, 1.5), (-0.3, -0.3), (-1.0, ends[0]), (2.6, ends[1])):
        turn, over = elbow.limited(rotation_from_axis_angle(hinge * angle)[None])
        expected = rotation_from_axis_angle(hinge * held)
        torch.testing.assert_close(turn[0], expected, atol=1e-4, rtol=0)
        assert float(over[0]) == pytest.approx(abs(angle - held), abs=1e-4)


def test_two_bones_reach_and_knees_bend_backwards():
    rng = torch.Generator().manual_seed(0)
    hip = torch.zeros(50, 3).double()
    knee = torch.tensor([0.0, -0.4, 0.02]).double().expand(50, 3)
    ankle = torch.tensor([0.0, -0.8, 0.0]).double().expand(50, 3)
    hinge = torch.tensor([1.0, 0, 0]).double().expand(50, 3)
    goal = torch.nn.functional.normalize(torch.randn(50, 3, generator=rng, dtype=torch.float64), dim=-1)
    goal = goal * torch.linspace(0.2, 0.79, 50)[:, None]
    swung, bent = feet.reach(hip, knee, ankle, hinge, goal)
    at_knee = (swung @ (knee - hip)[..., None])[..., 0]
    at_ankle = at_knee + (bent @ (ankle - knee)[..., None])[..., 0]
    torch.testing.assert_close(at_ankle, goal)
    axis = (swung @ hinge[..., None])[..., 0]
    assert ((torch.linalg.cross(at_knee, at_ankle - at_knee) * axis).sum(-1) > 0).all()
    swung, bent = feet.reach(hip, knee, ankle, hinge, 3 * goal / goal.norm(dim=-1, keepdim=True))  # too far: towards it
    end = (swung @ (knee - hip)[..., None] + bent @ (ankle - knee)[..., None])[..., 0]
    torch.testing.assert_close(torch.nn.functional.normalize(end, dim=-1), goal / goal.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("rigid", [True, False])
def test_corrections_fade(rigid):
    """Points drift while planted for a second; long before and after, nothing is moved."""
    rate, count = 30.0, 150
    path = torch.zeros(count, 2, 3).double()
    path[:, :, 2] = 0.004 * torch.arange(count)[:, None]
    path[:, 1, 2] += 0.1
    stands = torch.zeros(count, 2, dtype=torch.bool)
    stands[60:90] = True
    found = feet.settled(path, stands, torch.zeros(2).double(), rate, rigid)
    assert (found[60:90] - found[60]).norm(dim=-1).max() < 1e-5
    torch.testing.assert_close(found[:20], path[:20], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[60:90].mean(0), path[60:90].mean(0), atol=2e-3, rtol=0)  # about where it was
    steps = (found - path)[1:] - (found - path)[:-1]
    assert steps.norm(dim=-1).max() < 0.02
    below = path.clone()
    below[100:110, 1, 1] = -0.05
    lifted = feet.settled(below, stands, torch.zeros(2).double(), rate, rigid)
    assert lifted[..., 1].min() > -1e-3


def test_planted_has_hysteresis_and_no_short_touches():
    rate = 100.0
    speed = torch.full((60,), 2.0)
    speed[10:40] = 0.1
    speed[20:25] = 0.28  # between slow and fast
    speed[50:53] = 0.1  # 0.03 s
    path = torch.zeros(60, 1, 2, 3)
    path[..., 2] = (speed / rate).cumsum(0)[:, None, None]
    stands = feet.planted(path, torch.zeros(60, 1, 2), rate)[:, 0, 0]
    assert stands[12:38].all() and not stands[:9].any() and not stands[42:].any()
    assert not feet.planted(path, torch.full((60, 1, 2), 0.1), rate).any()


def test_hips_are_lowered_smoothly_and_enough():
    hips = torch.zeros(60, 1, 3).double()
    ankles = hips.clone()
    ankles[..., 1] = -0.8
    ankles[30, 0] = torch.tensor([0.3, -0.9, 0.0])
    down = feet.lowered(hips, ankles, torch.tensor([0.85]).double(), 30.0)
    gap = (ankles[:, 0] + down[:, None] * torch.tensor([0.0, 1, 0]).double()).norm(dim=-1)
    assert (gap <= 0.85).all() and down[0] == 0 and (down[1:] - down[:-1]).abs().max() < 0.05


RENAMED = {
    "Mixamo": ("mixamorig:{}UpLeg mixamorig:{}Leg mixamorig:{}Foot mixamorig:{}Shoulder mixamorig:{}Arm "
               "mixamorig:{}ForeArm mixamorig:{}Hand", "Left Right"),
    "Unreal": ("thigh_{} calf_{} foot_{} clavicle_{} upperarm_{} lowerarm_{} hand_{}", "l r"),
    "MakeHuman": ("upperleg01.{} lowerleg01.{} foot.{} clavicle.{} upperarm01.{} lowerarm01.{} wrist.{}", "L R"),
    "by words": ("DEF-thigh.{} DEF-shin.{} DEF-foot.{} DEF-collar.{} upper_arm.{} forearm.{} hand.{}", "L R"),
    "of words": ("{}femur {}tibia {}foot {}clavicle {}humerus {}radius {}wrist", "l r"),
}  # fmt: skip


@pytest.mark.parametrize("rig", RENAMED)
def test_rigs_are_found_by_their_names(rig):
    skeleton = amass.average("body")
    parts = ["hip", "knee", "ankle", "collar", "shoulder", "elbow", "wrist"]
    words, sides = RENAMED[rig]
    new = {f"{side}_{part}": word.format(spelling) for side, spelling in zip(SIDES, sides.split(), strict=True)
           for part, word in zip(parts, words.split(), strict=True)}  # fmt: skip
    names = tuple(new.get(name, name) for name in skeleton.names)
    found = find_rig(Skeleton(names, skeleton.parents, skeleton.rest), rig)
    expected = find_rig(skeleton, rig)
    assert rig.split()[-1] in found.name
    assert (found.legs, found.arms, found.hips, found.spine) == (
        expected.legs,
        expected.arms,
        expected.hips,
        expected.spine,
    )
    assert found.neck == expected.neck


def test_what_is_no_upright_figure_is_a_sentence():
    skeleton = amass.average("body")
    armless = Skeleton(tuple(n.replace("elbow", "x") for n in skeleton.names), skeleton.parents, skeleton.rest)
    with pytest.raises(UserError, match=r"found: left collar.*left upper arm, right upper arm\); rename"):
        find_rig(armless, "clip.bvh")
    level = Skeleton(skeleton.names, skeleton.parents, skeleton.rest.clone())
    trunk = [k for k, n in enumerate(level.names) if not any(x in n for x in ("hip", "knee", "ankle", "foot"))]
    level.rest[trunk] = level.rest[trunk] @ rotation_from_axis_angle(torch.tensor([math.pi / 2, 0, 0])).T
    with pytest.raises(UserError, match=r"left_ankle, right_ankle, left_wrist, right_wrist.*four-legged"):
        find_rig(level, "dog.txt")
    with pytest.raises(UserError, match="no frames"):
        retarget(swing().part(0, 0), skeleton)


def test_one_frame_is_a_motion_too():
    moved = retarget(swing().part(3, 4), arms_down(amass.average("smplh"), 0.5))
    assert len(moved) == 1 and moved.rotations.isfinite().all()


@pytest.mark.parametrize("name", ["deepmimic/humanoid3d_kick.txt", "deepmimic/humanoid3d_run.txt", "bvh/walk.bvh"])
def test_recorded_clips_stand(data_dir, name):
    moved, report = retargeted(read_motion(data_dir / "motion" / name), arms_down(amass.average("smplx"), 0.5))
    assert report.planted.any() and report.before > report.after and report.after < 0.01
    assert moved.rotations.isfinite().all()


def test_the_dog_is_refused(data_dir):
    with pytest.raises(UserError, match="four-legged"):
        retarget(read_motion(data_dir / "motion" / "deepmimic/dog3d_pace.txt"), amass.average("body"))
