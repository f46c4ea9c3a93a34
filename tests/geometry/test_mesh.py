import numpy as np
import pytest
import torch
import trimesh

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh, extract, merge_vertices, remove_floaters, seen_from_outside
from neural3d.synthetic.analytic import Box, Sphere, Torus

BOX = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def assert_closed(mesh: Mesh) -> None:
    """Every directed edge has its opposite: no hole, no flipped face, also where slabs and caps meet."""
    f = mesh.faces.astype(np.int64)
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    assert np.all(edges[:, 0] != edges[:, 1])
    n = len(mesh.vertices)
    there, back = np.sort(edges[:, 0] * n + edges[:, 1]), np.sort(edges[:, 1] * n + edges[:, 0])
    np.testing.assert_array_equal(there, back)
    assert np.unique(f).size == n, "no vertex without a face"


SPHERE, TORUS = Sphere(0.7, (0.05, -0.02, 0.03)), Torus(0.55, 0.25, (0.0, 0.03, -0.02))


@pytest.mark.parametrize("solid", [SPHERE, TORUS], ids=["sphere", "torus"])
@pytest.mark.parametrize("kind", ["distance", "density"])
def test_closed_oriented_and_convergent(solid, kind):
    """Volume and area approach the truth with the square of the cell size, through several slabs."""

    def field(x):
        return solid.sdf(x) if kind == "distance" else 10 * torch.exp(-3 * solid.sdf(x))

    errors = []
    for resolution in (24, 48, 96):
        mesh = extract(field, BOX, resolution, level=None if kind == "distance" else 10.0)
        assert_closed(mesh)
        assert solid.sdf(torch.from_numpy(mesh.vertices)).abs().max() < 0.2 * 2 / resolution
        errors.append((solid.volume - mesh.volume, solid.area - mesh.area))
    assert mesh.volume > 0, "faces wind counter-clockwise seen from outside"
    errors = np.abs(errors)
    assert np.all(np.log2(errors[0] / errors[-1]) / 2 > 1.8)
    assert errors[-1, 0] < 2e-3 * solid.volume and errors[-1, 1] < 2e-3 * solid.area
    assert to_trimesh(mesh).euler_number == (2 if solid is SPHERE else 0)


def test_only_points_near_the_surface_are_asked():
    asked = 0

    def field(x):
        nonlocal asked
        asked += len(x)
        return SPHERE.sdf(x)

    extract(field, BOX, 192)
    assert asked < 0.35 * 193**3
    asked_at_192, asked = asked, 0
    extract(field, BOX, 384)
    assert asked < 4.8 * asked_at_192, "grows with the surface, not with the volume"


def test_distances_find_what_lies_between_coarse_points():
    """A ball smaller than a cell of the coarse grid, and a thin plate between its layers."""
    small = Sphere(0.03, (0.111, 0.222, -0.333))
    plate = Box((0.6, 0.5, 0.02), (0.0, 0.0, 0.063))
    for solid in (small, plate):
        mesh = extract(solid.sdf, BOX, 128)
        assert_closed(mesh)
        assert mesh.volume == pytest.approx(solid.volume, rel=0.2)


def test_densities_find_plates_two_cells_thick():
    for offset in np.linspace(0, 4, 9) * 2 / 128:
        plate = Box((0.6, 0.5, 2.02 / 128), (0.0, 0.0, 0.1 + offset))
        mesh = extract(lambda x, plate=plate: torch.where(plate.sdf(x) < 0, 500.0, 0.0), BOX, 128, level=10.0)
        assert_closed(mesh)
        assert mesh.volume == pytest.approx(plate.volume, rel=0.35)


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_closed(seed):
    """The hardest case for ambiguous cells, seams and caps: random values at every point."""
    values = torch.randn(71, 41, 41, generator=torch.Generator().manual_seed(seed))

    def field(x):
        i = ((x + 1) / 2 * torch.tensor([70, 40, 40])).round().long()
        return values[i[:, 0], i[:, 1], i[:, 2]].exp()

    box = torch.tensor([[-1.0, -1, -1], [1, 1, 1]]) * torch.tensor([1, 4 / 7, 4 / 7])
    mesh = extract(lambda x: field(x / torch.tensor([1, 4 / 7, 4 / 7])), box, 70, level=1.0)
    assert_closed(mesh)
    assert len(mesh.faces) > 50_000


def test_matter_that_leaves_the_box_is_capped_flat():
    """A crop: exactly the box where the solid is larger, closed, with the box's volume where it fills it."""
    crop = torch.tensor([[-0.3, -0.2, -0.1], [0.5, 0.9, 0.1]])
    mesh = extract(SPHERE.sdf, crop, 80)
    assert_closed(mesh)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    np.testing.assert_allclose(low, crop[0], atol=1e-6)
    np.testing.assert_allclose(high[[0, 2]], crop[1][[0, 2]], atol=1e-6)
    assert high[1] == pytest.approx(SPHERE.radius + SPHERE.centre[1], abs=0.01)
    x = torch.rand(400_000, 3, generator=torch.Generator().manual_seed(0)) * (crop[1] - crop[0]) + crop[0]
    share = (SPHERE.sdf(x) < 0).float().mean().item()
    assert mesh.volume == pytest.approx(share * 0.8 * 1.1 * 0.2, rel=0.01)

    full = extract(lambda x: torch.full((len(x),), 100.0), crop, 40, level=10.0)
    assert_closed(full)
    assert full.volume == pytest.approx(0.8 * 1.1 * 0.2, rel=1e-5)


def test_pockets_nobody_sees_are_filled_and_grooves_are_not():
    """A ball porous below its skin, with a narrow shaft to its middle and a groove of the same width around it."""

    def field(x):
        radius = x.norm(dim=-1)
        shaft = (x[:, :2].norm(dim=-1) < 0.04) & (x[:, 2] > 0)
        groove = (x[:, 2].abs() < 0.04) & (radius > 0.6)
        foam = (radius < 0.58) & (torch.sin(25 * x).prod(-1) < 0.1)
        return torch.where((radius < 0.7) & ~shaft & ~groove & ~foam, 100.0, 0.0)

    porous = extract(field, BOX, 96, level=10.0)
    filled = extract(field, BOX, 96, level=10.0, hidden=lambda x: x.norm(dim=-1) < 0.6)
    assert_closed(filled)
    ball = Sphere(0.7)
    groove = 2 * np.pi * 0.08 * (0.7**2 - 0.6**2) / 2
    assert porous.area > 2 * ball.area
    assert filled.volume == pytest.approx(ball.volume - groove, rel=0.03)
    assert filled.area < 1.25 * ball.area, "the groove and the shaft's mouth add to the ball's"


def test_bad_values_are_outside_and_no_surface_is_said():
    def field(x):
        density = torch.where(SPHERE.sdf(x) < 0, torch.inf, 0.0)
        return torch.where(x[:, 0] > 0.9, torch.nan, density)

    mesh = extract(field, BOX, 40, level=10.0)
    assert_closed(mesh)
    assert mesh.volume == pytest.approx(SPHERE.volume, rel=0.1)
    with pytest.raises(UserError, match="nowhere exceeds 10"):
        extract(lambda x: x[:, 0] * 0, BOX, 16, level=10.0)
    with pytest.raises(UserError, match="nowhere negative"):
        extract(lambda x: x[:, 0] * 0 + 1, BOX, 16)
    with pytest.raises(UserError, match="positive sides"):
        extract(SPHERE.sdf, BOX.flip(0), 16)


def test_floaters_go_and_the_rest_stays():
    big, small = Sphere(0.4, (-0.4, 0, 0)), Sphere(0.03, (0.6, 0.3, 0.2))
    second = Sphere(0.2, (0.4, -0.5, 0))

    def sdf(x):
        return torch.minimum(torch.minimum(big.sdf(x), small.sdf(x)), second.sdf(x))

    mesh = extract(sdf, BOX, 96).colored(lambda x, n: x * 0.5 + 0.5)
    cleaned = remove_floaters(mesh, 0.01)
    assert_closed(cleaned)
    assert len(to_trimesh(cleaned).split()) == 2
    assert cleaned.area == pytest.approx(big.area + second.area, rel=0.01)
    np.testing.assert_allclose(cleaned.colors, cleaned.vertices * 0.5 + 0.5, atol=1e-6)
    assert len(to_trimesh(remove_floaters(mesh, 0.5)).split()) == 1
    assert len(to_trimesh(remove_floaters(mesh, 0.0)).split()) == 3
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert remove_floaters(nothing) is nothing


def test_merging_vertices_closes_a_triangle_soup():
    mesh = extract(TORUS.sdf, BOX, 32)
    soup = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(3 * len(mesh.faces), dtype=np.int32).reshape(-1, 3))
    soup = soup.colored(lambda x, n: x * 0.5 + 0.5)
    merged = merge_vertices(soup)
    assert_closed(merged)
    assert len(merged.vertices) == len(mesh.vertices) and len(merged.faces) == len(mesh.faces)
    np.testing.assert_allclose(merged.colors, merged.vertices * 0.5 + 0.5, atol=1e-6)
    rng = np.random.default_rng(0)
    shaken = Mesh(np.round(soup.vertices * 64) / 64 + rng.uniform(-0.001, 0.001, soup.vertices.shape), soup.faces)
    assert_closed(merge_vertices(shaken, tolerance=1 / 64))


def test_normals_point_outward():
    mesh = extract(TORUS.sdf, BOX, 64)
    exact = TORUS.gradient(torch.from_numpy(mesh.vertices)).numpy()
    assert np.min((mesh.vertex_normals() * exact).sum(1)) > 0.98


def similarity(mirror: bool) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q)) * (-1 if mirror else 1)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = 2.5 * q, (1, -2, 3)
    return matrix


@pytest.mark.parametrize("mirror", [False, True])
def test_similarities_move_everything_along(mirror):
    mesh = extract(TORUS.sdf, BOX, 40)
    mesh = mesh.colored(lambda x, n: n * 0.5 + 0.5)
    matrix = similarity(mirror)
    moved = mesh.transformed(torch.from_numpy(matrix))
    assert_closed(moved)
    assert moved.volume == pytest.approx(2.5**3 * mesh.volume, rel=1e-5), "positive: the outside stayed outside"
    np.testing.assert_allclose(moved.vertices, mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-5)
    np.testing.assert_allclose(moved.normals, moved.vertex_normals(), atol=1e-4)
    np.testing.assert_array_equal(moved.colors, mesh.colors)
    back = moved.transformed(np.linalg.inv(matrix))
    np.testing.assert_allclose(back.vertices, mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(back.faces[:, 0].sort(), mesh.faces[:, 0].sort())
    with pytest.raises(ValueError, match="similarity"):
        mesh.transformed(np.diag([1.0, 2, 1, 1]))


def test_colour_is_what_an_eye_outside_sees():
    """A lobe that only eyes near the normal see; from behind it is black."""
    mesh = extract(SPHERE.sdf, BOX, 32)

    def radiance(x, d):
        facing = -(d * SPHERE.gradient(x)).sum(1, keepdim=True)
        assert torch.allclose(d.norm(dim=1), torch.ones(len(d)), atol=1e-5)
        return torch.where(facing > 0.8, torch.tensor([0.2, 0.6, 1.0]), torch.zeros(3))

    colors = mesh.colored(seen_from_outside(radiance)).colors
    np.testing.assert_allclose(colors, np.tile(np.float32([0.2, 0.6, 1.0]), (len(colors), 1)), atol=1e-6)
