import math
from itertools import product

import numpy as np
import pytest
import torch
import trimesh

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh, extract
from neural3d.geometry.mesh_metrics import buried_share, compare, sample_surface, seen_by
from neural3d.geometry.solid import Solid, open_edges
from neural3d.synthetic.analytic import Torus

FEW = {"samples": 20_000, "volume_samples": 20_000}


def sphere(radius: float = 1.0, centre=(0, 0, 0), subdivisions: int = 5) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions, radius)
    return Mesh(np.asarray(made.vertices) + centre, np.asarray(made.faces))


def box(low=(0, 0, 0), high=(1, 1, 1), *, without: tuple[int, int] | None = None, flipped: bool = False) -> Mesh:
    """without: (axis, 0 low or 1 high), the side to leave out."""
    corners = np.array(list(product(*zip(low, high))), np.float64)  # number 4 x + 2 y + z
    sides = {
        (0, 0): (0, 1, 3, 2), (0, 1): (4, 6, 7, 5), (1, 0): (0, 4, 5, 1),
        (1, 1): (2, 3, 7, 6), (2, 0): (0, 2, 6, 4), (2, 1): (1, 5, 7, 3),
    }  # fmt: skip
    faces = [(a, b, c) for key, (a, b, c, d) in sides.items() if key != without for a, b, c in ((a, b, c), (a, c, d))]
    return Mesh(corners, np.array(faces)[:, ::-1] if flipped else np.array(faces))


def together(*meshes: Mesh) -> Mesh:
    first = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]), np.concatenate([m.faces + n for m, n in zip(meshes, first)])
    )


def test_the_tests_own_box_is_closed_and_outward():
    assert box((0, 1, 2), (2, 2, 5)).volume == pytest.approx(6)
    assert open_edges(box()) == 0 and open_edges(box(without=(2, 1))) == 4


def test_concentric_spheres():
    """Their distance is δ everywhere, their volumes' ratio (r / (r + δ))³; % of the diagonal 2 √3 r."""
    radius, delta = 1.0, 0.01
    found = compare(sphere(radius + delta), sphere(radius), samples=20_000, volume_samples=400_000)
    percent = 100 / (2 * math.sqrt(3) * radius)
    assert found["diagonal"] == pytest.approx(2 * math.sqrt(3) * radius)
    facets = 2e-4  # how far icospheres of 20,480 faces lie inside the spheres
    for key in ("chamfer", "accuracy", "completeness"):
        assert found[key] == pytest.approx(delta * percent, abs=facets * percent)
    assert found["hausdorff"] == pytest.approx(delta * percent, abs=facets * percent)
    assert found["iou"] == pytest.approx((radius / (radius + delta)) ** 3, abs=1e-3)
    assert found["normal_consistency"] > 0.999
    assert found["f_score"] == {"0.1": 0.0, "0.5": 1.0, "1": 1.0}
    assert found["seen"] == 1.0


def test_shifted_planes_are_measured_exactly():
    """A square moved along itself by s: a fraction s of each lies beyond the other, at mean distance s / 2."""
    square = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    shift = 0.1
    found = compare(Mesh(square.vertices + np.array([shift, 0, 0]), square.faces), square, **FEW, thresholds=[5.0])
    percent = 100 / math.sqrt(2)
    assert found["accuracy"] == pytest.approx(shift * shift / 2 * percent, rel=0.05)
    assert found["completeness"] == pytest.approx(found["accuracy"], rel=0.1)
    assert found["hausdorff"] == pytest.approx(shift * percent, rel=0.01)
    assert found["f_score"]["5"] == pytest.approx(1 - (shift - 0.05 * math.sqrt(2)), abs=0.003)
    assert found["normal_consistency"] == pytest.approx(1)
    assert found["iou"] is None and "result is not closed" in found["iou_missing"]


def test_f_score_is_the_harmonic_mean():
    """Half of the result is right, all of the truth is found: 2 · ½ · 1 / 1½."""
    truth = box()
    found = compare(together(truth, box((4, 0, 0), (5, 1, 1))), truth, **FEW)
    assert found["f_score"]["0.1"] == pytest.approx(2 / 3, abs=0.01)


def test_normals_are_compared_with_the_nearest_face():
    """A wedge of 30° over a square: |cos 30°| one way and the other; which way faces turn does not matter."""
    square = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    tilted = square.vertices * [math.cos(math.pi / 6), 1, 1]
    tilted[:, 2] = square.vertices[:, 0] * math.sin(math.pi / 6)
    for faces in (square.faces, square.faces[:, ::-1]):
        found = compare(Mesh(tilted, faces), square, **FEW)
        assert found["normal_consistency"] == pytest.approx(math.cos(math.pi / 6), abs=1e-6)


def test_a_missing_half_shows_in_completeness_only():
    whole = sphere()
    half = whole.kept(whole.vertices[whole.faces].mean(1)[:, 2] > 0)
    found = compare(half, whole, **FEW)
    assert found["accuracy"] < 1e-4 and found["completeness"] > 5
    swapped = compare(whole, half, **FEW)
    assert swapped["completeness"] < 1e-4 and swapped["accuracy"] > 5
    masked = compare(half, whole, **FEW, visible=lambda x: x[:, 2] > 0)
    assert masked["completeness"] < 1e-2 and masked["seen"] == pytest.approx(0.5, abs=0.02)


def test_rotation_scale_and_shift_change_nothing():
    solid = Torus(0.55, 0.25, (0.1, 0.0, 0.0))
    coarse, fine = (extract(solid.sdf, torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), n) for n in (12, 40))
    found = compare(coarse, fine, **FEW)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    for scale, shift in ((1e-4, 0.0), (1e3, 2e4)):
        moved = [Mesh(scale * (m.vertices.astype(np.float64) @ turn.T + shift), m.faces) for m in (coarse, fine)]
        again = compare(*moved, **FEW)
        ratio = again["diagonal"] / found["diagonal"] / scale  # the box is that of the turned mesh
        for key in ("chamfer", "accuracy", "completeness", "hausdorff"):
            assert again[key] * ratio == pytest.approx(found[key], rel=1e-3)
        assert again["normal_consistency"] == pytest.approx(found["normal_consistency"], abs=1e-4)
        assert again["iou"] == pytest.approx(found["iou"], abs=0.02)


def test_seeds():
    a, b = sphere(subdivisions=2), sphere(1.1, subdivisions=2)
    assert compare(a, b, **FEW) == compare(a, b, **FEW)
    assert compare(a, b, **FEW) != compare(a, b, **FEW, seed=1)


def test_overlapping_parts_count_once():
    """Two boxes that share a third of each: parity would take the shared part for a hole."""
    union = together(box((0, 0, 0), (3, 1, 1)), box((2, 0.1, 0.1), (5, 0.9, 0.9)))
    volume = 3 + 2 * 0.64
    assert compare(union, box((0, 0, 0), (5, 1, 1)), **FEW)["iou"] == pytest.approx(volume / 5, abs=0.01)
    assert compare(union, union, **FEW)["iou"] == 1.0
    assert Solid(union).winding(np.array([[2.5, 0.5, 0.5], [1, 0.5, 0.5], [6, 0.5, 0.5]])).tolist() == [2, 1, 0]


def test_cavities_and_meshes_inside_out():
    shell = together(box((0, 0, 0), (3, 3, 3)), box((1, 1, 1), (2, 2, 2), flipped=True))
    assert compare(shell, box((0, 0, 0), (3, 3, 3)), **FEW)["iou"] == pytest.approx(26 / 27, abs=0.005)
    assert compare(box(flipped=True), box(), **FEW)["iou"] == 1.0


def test_iou_is_said_to_be_missing():
    found = compare(box(), box(without=(2, 1)), **FEW)
    assert found["iou"] is None and found["iou_missing"] == "the truth is not closed (4 open edges)"
    one_turned = box()
    one_turned.faces[0] = one_turned.faces[0, ::-1]
    assert compare(one_turned, box(), **FEW)["iou"] is None
    soup = Mesh(box().vertices[box().faces].reshape(-1, 3), np.arange(36).reshape(-1, 3))  # as STL has it
    assert compare(soup, box(), **FEW)["iou"] == 1.0


def test_distances_agree_with_brute_force():
    """Against the smallest of the distances to every triangle, by another library."""
    rng = np.random.default_rng(3)
    mesh = Mesh(rng.uniform(-1, 1, (60, 3)), rng.permutation(180).reshape(60, 3) % 60)
    mesh = mesh.kept((mesh.faces[:, 0] != mesh.faces[:, 1]) & (mesh.faces[:, 1] != mesh.faces[:, 2]))
    points = rng.uniform(-2, 2, (300, 3))
    triangles = mesh.vertices[mesh.faces]
    nearest = [trimesh.triangles.closest_point(triangles, np.tile(p, (len(triangles), 1))) for p in points]
    distances = np.linalg.norm(np.array(nearest) - points[:, None], axis=2)
    found, face = Solid(mesh).closest(points)
    np.testing.assert_allclose(found, distances.min(1), atol=1e-5)
    np.testing.assert_allclose(distances[np.arange(300), face], distances.min(1), atol=1e-5)


def test_samples_are_even_by_area():
    """A face of nine times the area gets nine times the points; their mean is the centroid."""
    mesh = Mesh(
        np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 5], [1, 0, 5], [0, 1, 5.0]]), np.array([[0, 1, 2], [3, 4, 5]])
    )
    points, face = sample_surface(mesh, 50_000, np.random.default_rng(0))
    assert (face == 0).mean() == pytest.approx(0.9, abs=0.005)
    np.testing.assert_allclose(points[face == 0].mean(0), [1, 1, 0], atol=0.02)
    np.testing.assert_allclose(points[face == 0].std(0), [3 / math.sqrt(18), 3 / math.sqrt(18), 0], atol=0.01)


def camera(eye, target=(0.5, 0.5, 0.5), *, size: int = 40, focal: float = 40.0) -> Camera:
    pose = np.eye(4)
    forward = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    right = np.cross(forward, [0.1, 0.2, 1.0])
    right /= np.linalg.norm(right)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, np.asarray(eye, float)], axis=1)
    params = torch.tensor([focal, focal, size / 2, size / 2])
    return Camera("PINHOLE", size, size, params, torch.from_numpy(pose))


def test_seen_by_two_views_of_a_box():
    """Cameras before +x and +x +y: only the side both face is seen by two; one side by one of them."""
    solid = Solid(box())
    centres = np.array([[1, 0.5, 0.5], [0.5, 1, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 1], [0.5, 0.5, 0]])
    cameras = [camera((4, 0.5, 0.5)), camera((3, 3, 0.5))]
    assert seen_by(solid, cameras, centres).tolist() == [True, False, False, False, False, False]
    assert seen_by(solid, cameras, centres, 1).tolist() == [True, True, False, False, False, False]
    assert not seen_by(solid, [cameras[0]], centres).any()
    elsewhere = camera((4, 0.5, 0.5), target=(8, 0.5, 0.5))  # has the box behind itself
    assert not seen_by(solid, [elsewhere], centres, 1).any()
    narrow = camera((4, 0.5, 0.5), focal=4000)
    points = np.array([[1, 0.5, 0.5], [1, 0.52, 0.5]])
    assert seen_by(solid, [narrow], points, 1).tolist() == [True, False]


def test_what_stands_before_hides():
    solid = Solid(together(box(), box((1.5, 0, 0), (1.6, 1, 0.5))))  # a low wall before the box
    points = np.array([[1, 0.5, 0.25], [1, 0.5, 0.9]])
    assert seen_by(solid, [camera((4, 0.5, 0.5))], points, 1).tolist() == [False, True]


def test_folded_distortion_does_not_see_around_corners():
    """Far off the axis, a barrel lens' polynomial maps directions back into the picture that it never saw there."""
    lens = camera((0.5, 0.5, -1.0), target=(0.5, 0.5, 1.0))
    params = torch.tensor([40.0, 20, 20, -0.3])
    strong = Camera("SIMPLE_RADIAL", 40, 40, params, lens.world_from_camera)
    plate = Solid(box((-9, -9, 0), (9, 9, 0.01)))
    point = np.array([[0.5 + 1.7, 0.5, 0.0]])
    xy, _ = strong.project(torch.from_numpy(point))
    assert ((xy >= 0) & (xy <= 40)).all(), "the point folds into the picture"
    assert not seen_by(plate, [strong], point, 1).any()
    assert seen_by(plate, [strong], np.array([[0.6, 0.5, 0.0]]), 1).all()


EMPTY = Mesh(np.zeros((0, 3)), np.zeros((0, 3), int))


@pytest.mark.parametrize(
    "bad, message",
    [
        (EMPTY, "has no faces"),
        (Mesh(np.zeros((5, 3)), np.zeros((0, 3), int)), "has no faces"),
        (Mesh(np.full((3, 3), np.nan), np.array([[0, 1, 2]])), "not finite"),
        (Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), "no area"),
    ],
)
def test_meshes_that_cannot_be_measured(bad, message):
    with pytest.raises(UserError, match=f"result.*{message}"):
        compare(bad, box(), **FEW)
    with pytest.raises(UserError, match=f"truth.*{message}"):
        compare(box(), bad, **FEW)
    with pytest.raises(UserError, match="None of the true surface is seen"):
        compare(box(), box(), **FEW, visible=lambda x: np.zeros(len(x), bool))


def test_degenerate_faces_are_harmless():
    good = box()
    bad = Mesh(good.vertices, np.concatenate([good.faces, [[0, 0, 1], [0, 1, 0]]]))
    found = compare(bad, good, **FEW)
    assert found["chamfer"] < 1e-4 and found["iou"] == 1.0


def test_buried_faces_are_those_within_another_part():
    one, two = trimesh.creation.box(), trimesh.creation.box()
    two.apply_translation([0.5, 0.3, 0.2])
    both = trimesh.util.concatenate([one, two])
    inside = 2 * (0.7 * 0.8 + 0.5 * 0.8 + 0.5 * 0.7)  # of a surface of 12
    made = [Mesh(np.asarray(m.vertices, np.float32), np.asarray(m.faces, np.int32)) for m in (one, both)]
    assert buried_share(made[0]) == 0
    assert abs(buried_share(made[1]) - inside / 12) < 0.02
