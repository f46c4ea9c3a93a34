import math
import os
import subprocess
import sys

import pytest
import torch
from instruction_sets import instruction_sets
from reference import lbs as reference

from neural3d.ops.lbs import blend_skin, kinematics, rotation_exp

NAMES = ("template", "directions", "coefficients", "weights", "transforms")


def skinned(bodies, vertices, shapes, joints, influences, each=False, dtype=torch.float64, device="cpu", dual=False):
    """Random inputs of blend_skin but the joints' indices, as leaves, and those; weights sum to anything.

    dual: transforms are dual quaternions, of any length and not quite dual to each other.
    """
    g = torch.Generator().manual_seed(0)
    rest = (bodies, vertices, 3) if each else (vertices, 3)
    shape = rest, (shapes, vertices, 3), (bodies, shapes), (vertices, influences), (bodies, joints, 2 if dual else 3, 4)
    leaves = [torch.randn(s, generator=g, dtype=torch.float64).to(device, dtype).requires_grad_() for s in shape]
    return leaves, torch.randint(0, joints, (vertices, influences), generator=g, dtype=torch.int32).to(device)


def skin(leaves, joints, blend=blend_skin):
    template, directions, coefficients, weights, transforms = leaves
    return blend(template, directions, coefficients, joints, weights, transforms)


def posed(bodies, parents, dtype=torch.float64, device="cpu"):
    """Random matrices, close to rotations so that a long chain stays in range, and joints."""
    g = torch.Generator().manual_seed(0)
    turns = torch.linalg.qr(torch.randn(bodies, len(parents), 3, 3, generator=g, dtype=torch.float64))[0]
    turns = turns + 1e-3 * torch.randn(turns.shape, generator=g, dtype=torch.float64)
    joints = torch.randn(bodies, len(parents), 3, generator=g, dtype=torch.float64)
    return [x.to(device, dtype).requires_grad_() for x in (turns, joints)], torch.tensor(parents, dtype=torch.int64)


def assert_same(outs, expected, leaves, tolerance):
    """Values and gradients, relative to the largest, or to 1: a single dual quaternion's weight means nothing."""
    v = [torch.randn_like(x) for x in expected]
    got, want = (torch.autograd.grad(x, leaves, v, allow_unused=True) for x in (outs, expected))
    for a, b in zip((*outs, *got), (*expected, *want)):
        torch.testing.assert_close(
            a, b, rtol=0, atol=tolerance * max(1, float(b.detach().abs().max())) if b.numel() else 0
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("each", [False, True], ids=["one template", "one each"])
@pytest.mark.parametrize("dual", [False, True], ids=["linear", "dual quaternions"])
@pytest.mark.parametrize("influences", range(1, 9))
def test_matches_the_sums_and_their_gradients(device, dtype, each, dual, influences):
    """Bodies that fill packs and do not, in all of 4, 8 and 16 lanes; enough vertices for blocks that are not whole."""
    torch.manual_seed(0)
    bodies = {1: 1, 2: 3, 3: 5, 4: 16, 5: 9, 6: 20, 7: 33, 8: 8}[influences]
    leaves, joints = skinned(bodies, 70, 13, 5, influences, each, dtype, device, dual)
    if dual:  # positive: quaternions that nearly cancel have gradients beyond any bound
        leaves[3] = leaves[3].detach().abs().requires_grad_()
    assert_same(
        [skin(leaves, joints)],
        [skin(leaves, joints, reference.blend_skin)],
        leaves,
        (5e-5 if dual else 2e-6) if dtype == torch.float32 else 1e-13,
    )


@pytest.mark.parametrize("bodies, vertices, shapes, joints", [
    (1, 1, 1, 1), (2, 1, 0, 1), (0, 5, 3, 2), (3, 0, 2, 2), (3, 31, 6, 1), (3, 33, 7, 3), (2, 700, 30, 3),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edges(device, dtype, bodies, vertices, shapes, joints):
    """One of each and none of each; several chunks of vertices; every remainder of a register block's directions."""
    torch.manual_seed(0)
    leaves, indices = skinned(bodies, vertices, shapes, joints, 2, dtype=dtype, device=device)
    out, expected = skin(leaves, indices), skin(leaves, indices, reference.blend_skin)
    assert out.shape == (bodies, vertices, 3)
    assert_same([out], [expected], leaves, 2e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("parents", [
    [-1], [-1, 0, 0, 1, 1, 3], [-1, -1, 1, 0, 2, 2], list(range(-1, 99)),
], ids=["root", "tree", "two trees", "chain"])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kinematics_match_homogeneous_matrices(device, dtype, parents):
    torch.manual_seed(0)
    leaves, parents = posed(11, parents, dtype, device)
    outs, expected = kinematics(*leaves, parents), reference.kinematics(*leaves, parents)
    assert_same(outs, expected, leaves, 2e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("bodies, joints", [(0, 2), (2, 0)])
def test_kinematics_of_nobody(device, bodies, joints):
    leaves, parents = posed(bodies, [-1, 0][:joints], torch.float32, device)
    outs = kinematics(*leaves, parents)
    assert outs[0].shape == (bodies, joints, 3, 4) and outs[1].shape == (bodies, joints, 3)
    for got, x in zip(torch.autograd.grad([x.sum() for x in outs], leaves), leaves):
        assert got.shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rotations_are_matrix_exponentials(device, dtype):
    """Of every length: tiny, both sides of 1 where the formula changes, half turns, several turns; and none at all."""
    torch.manual_seed(0)
    lengths = torch.tensor([0, 1e-30, 1e-12, 1e-4, 0.01, 0.5, 0.999999, 1, 1.000001, 2, 3, math.pi, 4, 6.3, 20])
    directions = torch.nn.functional.normalize(torch.randn(len(lengths), 5, 3, dtype=torch.float64), dim=-1)
    vectors = (directions * lengths[:, None, None]).to(device, dtype).requires_grad_()
    exact = vectors.detach().double().requires_grad_()
    got, want = rotation_exp(vectors), reference.rotation_exp(exact)
    rounding = 20 * torch.finfo(dtype).eps  # that of an angle of 20
    assert (got - want).abs().max() < 4 * rounding
    v = torch.randn_like(want)
    (v_got,), (v_want,) = torch.autograd.grad(got, vectors, v.to(dtype)), torch.autograd.grad(want, exact, v)
    assert (v_got - v_want).abs().max() < 20 * rounding
    assert rotation_exp(vectors[:0]).shape == (0, 5, 3, 3)


def test_the_gradient_of_a_rotation_is_true_at_none():
    for length in (0.0, 1e-9, 1e-3, 0.9, 1.1, math.pi, 6.0):
        vectors = (length * torch.tensor([[0.48, -0.6, 0.64]], dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(rotation_exp, vectors)


def test_gradients_are_true():
    leaves, joints = skinned(3, 5, 4, 3, 2)
    assert torch.autograd.gradcheck(lambda *x: skin(x, joints), leaves)
    leaves, joints = skinned(2, 3, 2, 2, 3, each=True)
    assert torch.autograd.gradcheck(lambda *x: skin(x, joints), leaves)
    leaves, joints = skinned(2, 5, 3, 3, 2, dual=True)
    assert torch.autograd.gradcheck(lambda *x: skin(x, joints), leaves)
    leaves, parents = posed(2, [-1, 0, 1, 1, -1])
    for k in range(2):  # each output alone, so that the other's gradient is absent
        assert torch.autograd.gradcheck(lambda *x, k=k: kinematics(*x, parents)[k], leaves)


@pytest.mark.parametrize("dual", [False, True], ids=["linear", "dual quaternions"])
@pytest.mark.parametrize("wanted", NAMES)
def test_each_gradient_alone(device, wanted, dual):
    leaves, joints = skinned(3, 40, 6, 4, 4, device=device, dual=dual)
    whole = dict(zip(NAMES, torch.autograd.grad(skin(leaves, joints).square().sum(), leaves)))
    alone = [x if name == wanted else x.detach() for name, x in zip(NAMES, leaves)]
    (got,) = torch.autograd.grad(skin(alone, joints).square().sum(), [x for x in alone if x.requires_grad])
    assert torch.equal(got, whole[wanted])


def test_a_bent_arm(device):
    """Shoulder at the origin, elbow at x = 1, hand at x = 2; the elbow turns by 90° about z, the shoulder about y."""
    joints = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]], device=device)
    about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    about_y = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    transforms, moved = kinematics(torch.stack([about_y, about_z])[None].to(device), joints, torch.tensor([-1, 0]))
    assert torch.equal(moved[0].cpu(), torch.tensor([[0.0, 0, 0], [0, 0, -1]]))
    template = torch.tensor([[0.5, 0, 0], [2.0, 0, 0], [1.0, 0, 0.5]], device=device)
    weights = torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5]], device=device)
    named = torch.tensor([[0, 1]] * 3, dtype=torch.int32, device=device)
    none = template.new_zeros(0, 3, 3), template.new_zeros(1, 0)
    out = blend_skin(template, *none, named, weights, transforms)
    # The upper arm's middle, the hand, and a point of the elbow, halfway between where both bones take it (the same).
    expected = torch.tensor([[0.0, 0, -0.5], [0, 1, -1], [0.5, 0, -1]])
    torch.testing.assert_close(out[0].cpu(), expected, rtol=0, atol=1e-6)


def dual_quaternions(rotations, translations):
    """q and d = ½ (0, t) q of rigid transforms, unit quaternions and translations."""
    moved = torch.cat([torch.zeros_like(translations[..., :1]), translations], -1)
    return torch.stack([rotations, reference.hamilton(moved, rotations) / 2], -2)


def test_one_joint_alone_moves_as_its_matrix_does(device):
    """Of weight 1, a rigid transform and its opposite sign; and joints that all move alike, of any weights."""
    g = torch.Generator().manual_seed(0)
    q = torch.nn.functional.normalize(torch.randn(3, 2, 4, generator=g, dtype=torch.float64), dim=-1)
    t = torch.randn(3, 2, 3, generator=g, dtype=torch.float64)
    leaves, joints = skinned(3, 30, 2, 2, 1)
    template, directions, coefficients, _, _ = (x.detach().to(device) for x in leaves)
    x, y, z = (reference.hamilton(reference.hamilton(q, u.expand_as(q)), reference.conjugated(q))[..., 1:]
               for u in torch.eye(4, dtype=torch.float64)[1:])  # fmt: skip
    matrices = torch.cat([torch.stack([x, y, z], -1), t[..., None]], -1).to(device)
    dual, one = dual_quaternions(q, t).to(device), torch.ones(30, 1, dtype=torch.float64, device=device)
    shape = template, directions, coefficients, joints.to(device)
    linear = blend_skin(*shape, one, matrices)
    torch.testing.assert_close(blend_skin(*shape, one, dual), linear)
    torch.testing.assert_close(blend_skin(*shape, one, -dual), linear)
    alike = torch.stack([dual[:, 0], -dual[:, 0]], 1)
    both = torch.tensor([[0, 1]] * 30, dtype=torch.int32, device=device)
    weights = torch.rand(30, 2, dtype=torch.float64, device=device)
    weights = weights / weights.sum(1, keepdim=True)
    expected = blend_skin(template, directions, coefficients, both, weights, matrices[:, :1].expand(-1, 2, -1, -1))
    torch.testing.assert_close(blend_skin(template, directions, coefficients, both, weights, alike), expected)


def test_a_twist_keeps_its_radius(device):
    """A wrist turned by nearly 180°: halfway, linear blending pulls a ring onto the axis, dual quaternions turn it."""
    angle = math.radians(179)
    ring = torch.linspace(0, 2 * math.pi, 9, dtype=torch.float64)[:-1]
    template = torch.stack([torch.full_like(ring, 0.5), ring.cos(), ring.sin()], -1).to(device)
    half = torch.full((8, 2), 0.5, dtype=torch.float64, device=device)
    named = torch.tensor([[0, 1]] * 8, dtype=torch.int32, device=device)
    none = template.new_zeros(0, 8, 3), template.new_zeros(1, 0)
    turns = torch.tensor([[1.0, 0, 0, 0], [math.cos(angle / 2), math.sin(angle / 2), 0, 0]], dtype=torch.float64)
    dual = dual_quaternions(turns, torch.zeros(2, 3, dtype=torch.float64))[None].to(device)
    matrices = torch.zeros(1, 2, 3, 4, dtype=torch.float64, device=device)
    vectors = torch.tensor([[0.0, 0, 0], [angle, 0, 0]], dtype=torch.float64)
    matrices[0, :, :, :3] = rotation_exp(vectors).to(device)
    linear, turned = (blend_skin(template, *none, named, half, g)[0] for g in (matrices, dual))
    assert linear[:, 1:].norm(dim=1).max() < 0.01
    torch.testing.assert_close(turned[:, 1:].norm(dim=1), torch.ones(8, dtype=torch.float64, device=device))
    middle = torch.stack([(ring + angle / 2).cos(), (ring + angle / 2).sin()], -1).to(device)
    torch.testing.assert_close(turned[:, 1:], middle)


def test_dual_quaternions_that_cancel_are_finite(device):
    leaves, joints = skinned(2, 9, 2, 1, 2, device=device, dual=True)
    leaves[3] = torch.tensor([[1.0, -1.0]] * 9, dtype=torch.float64, device=device, requires_grad=True)
    out = skin(leaves, joints)
    assert out.isfinite().all() and all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), leaves))


def test_the_rest_pose_is_the_shaped_template(device):
    leaves, joints = skinned(2, 50, 4, 3, 4, device=device)
    template, directions, coefficients, weights, _ = leaves
    weights = weights.softmax(-1)
    eye = torch.eye(3, dtype=torch.float64, device=device).expand(2, 3, 3, 3)
    transforms, _ = kinematics(eye, torch.randn(2, 3, 3, dtype=torch.float64, device=device), torch.tensor([-1, 0, 1]))
    out = blend_skin(template, directions, coefficients, joints, weights, transforms)
    torch.testing.assert_close(out, template + torch.einsum("bm,mvc->bvc", coefficients, directions))


def test_a_weight_of_zero_names_any_joint(device):
    leaves, joints = skinned(2, 20, 3, 4, 3, device=device)
    leaves[3] = torch.cat([leaves[3][:, :2].detach(), torch.zeros_like(leaves[3][:, :1])], 1)
    other = torch.cat([joints[:, :2], (joints[:, 2:] + 1) % 4], 1).int()
    assert torch.equal(skin(leaves, joints), skin(leaves, other))


def test_non_contiguous_inputs(device):
    leaves, joints = skinned(3, 40, 6, 4, 4, dtype=torch.float32, device=device)
    strided = [x.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_() for x in leaves]
    plain, out = skin(leaves, joints), skin(strided, joints.repeat_interleave(2, -1)[:, ::2])
    assert torch.equal(plain, out)
    v = torch.randn(3, 3, 40, device=device).mT  # the gradient too
    for a, b in zip(torch.autograd.grad(plain, leaves, v), torch.autograd.grad(out, strided, v)):
        assert torch.equal(a, b)


def test_nan_stays_in_its_body(device):
    leaves, joints = skinned(20, 40, 6, 4, 4, dtype=torch.float32, device=device)
    good = skin(leaves, joints)
    v_good = torch.autograd.grad(good.sum(), leaves[2])[0]
    leaves[4] = leaves[4].detach().clone()
    leaves[4][3, 1, 1, 1] = math.nan
    out = skin(leaves, joints)
    rest = torch.arange(20, device=device) != 3
    assert torch.equal(out[rest], good[rest]) and out[3].isnan().any()
    assert torch.equal(torch.autograd.grad(out.sum(), leaves[2])[0][rest], v_good[rest])


def test_threads_change_nothing():
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            leaves, joints = skinned(35, 1000, 20, 24, 4, dtype=torch.float32)
            out = skin(leaves, joints)
            turns, parents = posed(35, [-1, *range(23)], torch.float32)
            moved = kinematics(*turns, parents)
            results.append([out, *moved, *torch.autograd.grad(out.square().sum(), leaves)])
            results[-1] += torch.autograd.grad([x.sum() for x in moved], turns)
            vectors = torch.linspace(-2, 2, 30_000).view(-1, 3).requires_grad_()
            results[-1].append(rotation_exp(vectors))
            results[-1] += torch.autograd.grad(results[-1][-1].square().sum(), vectors)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for r in results[1:] for a, b in zip(results[0], r))


OUTPUTS = """
import sys, torch
from ops.test_lbs import posed, skin, skinned
from neural3d.ops.lbs import kinematics
out = []
for bodies, dual in ((1, False), (9, False), (9, True), (37, False)):
    leaves, joints = skinned(bodies, 333, 31, 24, 4, dtype=torch.float32, dual=dual)
    leaves[3] = leaves[3].detach().abs().requires_grad_()
    out.append(skin(leaves, joints))
    out += torch.autograd.grad(out[-1].square().sum(), leaves)
torch.save(out, sys.argv[1])
"""


def test_every_instruction_set_agrees(tmp_path):
    results = []
    tests = os.path.dirname(os.path.dirname(__file__))
    path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
    for isa in instruction_sets():
        run = [sys.executable, "-c", OUTPUTS, str(tmp_path / isa)]
        subprocess.run(run, env=os.environ | {"NEURAL3D_ISA": isa, "PYTHONPATH": path}, check=True)
        results.append(torch.load(tmp_path / isa))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            torch.testing.assert_close(a, b, rtol=0, atol=3e-6 * a.detach().abs().max().item())


def test_bad_input_is_a_sentence():
    leaves, joints = skinned(2, 10, 3, 4, 2, dtype=torch.float32)
    template, directions, coefficients, weights, transforms = (x.detach() for x in leaves)
    for arguments, sentence in [
        ((template.half(), directions, coefficients, joints, weights, transforms), "template must be float32"),
        ((template[:9], directions, coefficients, joints, weights, transforms), "template must have shape"),
        (
            (template.expand(3, 10, 3), directions, coefficients, joints, weights, transforms),
            "template must have shape",
        ),
        ((template, directions[:, :9], coefficients, joints, weights, transforms), "directions must have shape"),
        ((template, directions, coefficients[:, :2], joints, weights, transforms), "coefficients must have shape"),
        ((template, directions, coefficients[:1], joints, weights, transforms), "coefficients must have shape"),
        ((template, directions, coefficients, joints.long(), weights, transforms), "joints must be int32"),
        ((template, directions, coefficients, joints[0], weights, transforms), "joints must have shape"),
        ((template, directions, coefficients, joints + 2, weights, transforms), r"joints must lie in \[0, 4\)"),
        ((template, directions, coefficients, joints - 1, weights, transforms), r"joints must lie in \[0, 4\)"),
        ((template, directions, coefficients, joints, weights[:, :1], transforms), "weights must have shape"),
        ((template, directions, coefficients, joints, weights.double(), transforms), "weights must be torch.float32"),
        ((template, directions, coefficients, joints, weights, transforms[..., :3]), "transforms must have shape"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            blend_skin(*arguments)
    (turns, rest), parents = posed(2, [-1, 0, 1])
    for arguments, sentence in [
        ((turns[:, :2], rest, parents), "rotations must have shape"),
        ((turns.float(), rest, parents), "rotations must be torch.float64"),
        ((turns, rest[..., :2], parents), "joints must have shape"),
        ((turns, rest.half(), parents), "joints must be float32 or float64"),
        ((turns, rest, parents[:2]), "parents must have shape"),
        ((turns, rest, parents.float()), "parents must be int32 or int64"),
        ((turns, rest, torch.tensor([-1, 2, 0])), "joint 1 has parent 2"),
        ((turns, rest, torch.tensor([0, 0, 0])), "joint 0 has parent 0"),
        ((turns, rest, torch.tensor([-1, -2, 0])), "joint 1 has parent -2"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            kinematics(*arguments)
    for vectors, sentence in [
        (torch.zeros(3, 4), r"vectors must have shape \(…, 3\)"),
        (rest.half(), "float32 or float64"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            rotation_exp(vectors)
