"""The function of a body against the paper's equations, written out; where sizes do not fit; moving to other types."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import smpl_arrays

from neural3d.body import load_model
from neural3d.geometry.rotations import rotation_from_axis_angle, six_d_from_rotation


@pytest.fixture(scope="module")
def arrays():
    return smpl_arrays()


@pytest.fixture(scope="module")
def model(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "toy.npz"
    np.savez(path, **arrays)
    return load_model(path)


def posed_by_hand(a, beta, theta):
    """Eqs. 2-10 of the paper in float64: vertices and joints of one body."""
    shaped = a["v_template"] + a["shapedirs"] @ beta
    joints = a["J_regressor"] @ shaped
    turns = rotation_from_axis_angle(torch.from_numpy(theta)).numpy()
    shaped = shaped + a["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
    parents, world = a["kintree_table"][0], []
    for j, (turn, place) in enumerate(zip(turns, joints)):
        own = np.eye(4)
        own[:3, :3], own[:3, 3] = turn, place if j == 0 else place - joints[parents[j]]
        world.append(own if j == 0 else world[parents[j]] @ own)
    vertices = np.zeros_like(shaped)
    for i, x in enumerate(shaped):
        for j, share in enumerate(a["weights"][i]):
            vertices[i] += share * (world[j] @ np.append(x - joints[j], 1))[:3]
    return vertices, np.array([w[:3, 3] for w in world])


def test_vertices_and_joints_are_the_papers(model, arrays):
    rng = np.random.default_rng(1)
    beta, theta, move = rng.normal(size=(3, 10)), rng.normal(size=(3, 24, 3)), rng.normal(size=(3, 3))
    posed = model(*(torch.from_numpy(x).float() for x in (beta, theta, move)))
    for i in range(3):
        vertices, joints = posed_by_hand(arrays, beta[i], theta[i])
        np.testing.assert_allclose(posed.vertices[i], vertices + move[i], atol=1e-5)
        np.testing.assert_allclose(posed.joints[i], joints + move[i], atol=1e-5)


def test_at_rest_it_is_the_template(model):
    posed = model()
    torch.testing.assert_close(posed.vertices[0], model.template, atol=1e-6, rtol=0)
    torch.testing.assert_close(posed.joints[0], model.rest, atol=1e-6, rtol=0)


def test_poses_as_axis_angle_quaternions_and_matrices_are_the_same(model):
    pose = torch.randn(2, 24, 3, generator=torch.Generator().manual_seed(0))
    angle = pose.norm(dim=-1, keepdim=True)
    quaternions = torch.cat([(angle / 2).cos(), pose / angle * (angle / 2).sin()], -1)
    matrices = rotation_from_axis_angle(pose)
    bodies = [model(None, x).vertices for x in (pose, quaternions, matrices, six_d_from_rotation(matrices))]
    torch.testing.assert_close(bodies[0], bodies[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(bodies[0], bodies[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(bodies[0], bodies[2], atol=1e-6, rtol=0)


def test_one_shape_serves_a_batch_of_poses_and_the_other_way_round(model):
    pose, shape = torch.randn(3, 24, 3), torch.randn(1, 4)
    assert model(shape, pose).vertices.shape == (3, 60, 3)
    torch.testing.assert_close(model(shape, pose).vertices[2:], model(shape, pose[2:]).vertices, atol=1e-6, rtol=0)
    assert model(torch.randn(3, 10), pose[:1]).joints.shape == (3, 24, 3)


def test_gradients_reach_shape_pose_and_translation(model):
    double = model.to(dtype=torch.float64)
    inputs = [torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (10, 72, 3)]
    torch.autograd.gradcheck(lambda b, p, t: double(b, p.view(2, 24, 3), t).vertices[:, ::7], inputs)


def test_dual_quaternions_keep_the_girth_of_what_twists(model):
    """Of vertices with one joint they are the same; halfway along a forearm that twists by 180° the skin keeps away."""
    dual = replace(model, blend="dual_quaternion")
    pose, shape = torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(0)), torch.randn(3, 10)
    alone = torch.eye(1, model.weights.shape[1]).expand(len(model.template), -1).contiguous()
    rigid, other = (replace(m, weights=alone)(shape, pose).vertices for m in (model, dual))
    torch.testing.assert_close(rigid, other, atol=2e-5, rtol=0)
    torch.testing.assert_close(dual().vertices[0], model.template, atol=1e-6, rtol=0)

    wrist, elbow = (model.joint_names.index(f"left_{name}") for name in ("wrist", "elbow"))
    along = torch.nn.functional.normalize(model.rest[wrist] - model.rest[elbow], dim=0)
    ring = model.rest[wrist] + 0.04 * torch.linalg.cross(along[None], torch.randn(60, 3))
    twist = torch.zeros(1, 24, 3)
    twist[0, wrist] = along * torch.pi * 0.999
    halves = torch.zeros_like(model.weights)
    halves[:, :2] = 0.5
    both = torch.full_like(model.bones, wrist)
    both[:, 0] = elbow
    still = {"template": ring, "weights": halves, "bones": both, "correctives": model.correctives[:0]}
    before = (ring - model.rest[wrist]).norm(dim=1)
    for body, share in ((model, 0.01), (dual, 1.0)):
        after = (replace(body, **still)(None, twist).vertices[0] - model.rest[wrist]).norm(dim=1)
        torch.testing.assert_close(after, share * before, atol=2e-3 if share < 1 else 1e-5, rtol=0)


def test_gradients_by_dual_quaternions(model):
    double = replace(model.to(dtype=torch.float64), blend="dual_quaternion")
    inputs = [torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (10, 72, 3)]
    torch.autograd.gradcheck(lambda b, p, t: double(b, p.view(2, 24, 3), t).vertices[:, ::7], inputs)
    at_rest = torch.zeros(1, 24, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda p: double(None, p).vertices[:, ::7], at_rest)


def test_sizes_that_do_not_fit(model):
    for wrong, words in [((torch.zeros(1, 11),), "11 coefficients"), ((None, torch.zeros(1, 23, 3)), "23 joints")]:
        with pytest.raises(ValueError, match=words):
            model(*wrong)
    with pytest.raises(ValueError, match=r"must be \(B, J, 3\)"):
        model(None, torch.zeros(1, 24, 5))
