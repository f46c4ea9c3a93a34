"""Surfaces along rays against closed forms: where they are, how they move, and what they look like."""

import dataclasses
import math

import pytest
import torch
from torch.nn.functional import normalize
from toy import ANGLE, look_at

from neural3d.geometry.cameras import Camera
from neural3d.render.surface import (
    BATCH,
    first_crossing,
    implicit_point,
    outward_normals,
    render_surface,
    sphere_trace,
)
from neural3d.synthetic.analytic import Box, Sphere, Torus

SOLIDS = [Sphere(0.4, (0.1, -0.2, 0.05)), Box((0.3, 0.5, 0.2), (0.1, 0.0, -0.1)), Torus(0.5, 0.17, (0.0, 0.1, -0.05))]
BOX = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])


def camera(size=24, elevation=0.6):
    opengl = torch.from_numpy(look_at(0.4, elevation))
    focal = 0.5 * size / math.tan(0.5 * ANGLE)
    pose = opengl @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    return Camera("SIMPLE_PINHOLE", size, size, torch.tensor([focal, size / 2, size / 2]).double(), pose)


def rays(size=24, elevation=0.6, dtype=torch.float64):
    origins, directions = (x.reshape(-1, 3).to(dtype) for x in camera(size, elevation).rays())
    return origins, normalize(directions, dim=-1)


def sphere_distance(origins, directions, sphere):
    """Closed form; NaN where a ray misses."""
    offset = origins - origins.new_tensor(sphere.centre)
    b = (offset * directions).sum(-1)
    return -b - (b**2 - offset.square().sum(-1) + sphere.radius**2).sqrt()


def march(field, o, d, **options):
    return first_crossing(field, o, d, 2.0, 6.0, **({"steps": 200} | options))


@pytest.mark.parametrize("find", [march, lambda f, o, d: sphere_trace(f, o, d, 2.0, 6.0, tolerance=1e-9)])
def test_a_sphere_is_met_where_the_closed_form_says(find):
    o, d = rays()
    truth = sphere_distance(o, d, SOLIDS[0])
    hits = find(SOLIDS[0].sdf, o, d)
    cosine = ((o + truth[:, None] * d - o.new_tensor(SOLIDS[0].centre)) * d).sum(-1) / 0.4
    clear = truth.isnan() | (cosine < -0.2)
    assert (hits.hit == ~truth.isnan())[clear].all() and hits.hit.sum() > 30
    torch.testing.assert_close(hits.t[hits.hit & clear], truth[hits.hit & clear], atol=1e-7, rtol=0)
    assert (hits.t[~hits.hit] == 6.0).all() and not hits.inside.any()


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda s: type(s).__name__)
def test_both_searches_agree_and_end_on_the_surface(solid):
    o, d = rays(40, dtype=torch.float32)
    one, two = march(solid.sdf, o, d), sphere_trace(solid.sdf, o, d, 2.0, 6.0)
    assert (one.hit != two.hit).float().mean() < 0.01, "but for rays that graze"
    both = one.hit & two.hit
    assert solid.sdf(o + one.t[:, None] * d)[one.hit].abs().max() < 2e-6
    assert solid.sdf(o + two.t[:, None] * d)[two.hit].abs().max() < 2e-5
    assert (one.t - two.t).abs()[both].quantile(0.95) < 1e-4


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("growth", [1.3, 0.4])
def test_tracing_survives_fields_that_are_no_distances(solid, growth):
    """Too steep: rays overshoot and return. Too flat: more steps."""
    o, d = rays()
    wrong = sphere_trace(lambda x: growth * solid.sdf(x), o, d, 2.7, 6.0)
    right = march(solid.sdf, o, d)
    assert (wrong.hit != right.hit).double().mean() < 0.02, "but for rays that graze"
    both = wrong.hit & right.hit
    assert (wrong.t - right.t).abs()[both].quantile(0.97) < 1e-3
    assert solid.sdf(o + wrong.t[:, None] * d)[wrong.hit].abs().max() < 1e-4


def test_relaxation_saves_steps():
    """Of a field that is too flat a third; of a distance less, as each ray ends with a step back."""
    o, d = rays(16)
    counts = []
    for relaxation in (1.0, 1.4):
        sizes: list[int] = []

        def counted(x, sizes=sizes):
            sizes.append(len(x))
            return 0.4 * Torus().sdf(x)

        sphere_trace(counted, o, d, 0.0, 8.0, relaxation=relaxation)
        counts.append(sum(sizes))
    assert counts[1] < 0.8 * counts[0]


def test_an_occupancy_is_found_like_a_distance():
    o, d = rays()
    solid = SOLIDS[2]
    one = march(solid.sdf, o, d)
    two = march(lambda x: torch.sigmoid(-20 * solid.sdf(x)), o, d, level=0.5)
    assert torch.equal(one.hit, two.hit)
    torch.testing.assert_close(one.t, two.t, atol=1e-9, rtol=0)


def test_convergence_of_the_root():
    """Each of the steps multiplies the error; without the Illinois rule eight steps would leave 1e-4."""
    o, d = rays()
    truth = sphere_distance(o, d, SOLIDS[0])
    errors = []
    for steps in (0, 2, 4, 8):
        hits = march(lambda x: torch.expm1(6 * SOLIDS[0].sdf(x)), o, d, steps=20, secant_steps=steps)
        errors.append((hits.t - truth)[hits.hit].abs().median().item())
    assert errors[0] > 4 * errors[1] > 16 * errors[2] and errors[3] < 1e-9


def test_the_first_of_several_surfaces():
    def shells(x):  # slabs at z = 0.5 and z = -0.5, each 0.1 thick
        return (x[:, 2].abs() - 0.5).abs() - 0.05

    o = torch.tensor([[0.0, 0, 2], [0.0, 0, 0], [0.0, 0, 0.5]]).double()
    d = torch.tensor([[0.0, 0, -1]] * 3).double()
    for hits in (first_crossing(shells, o, d, 0.0, 4.0, steps=100), sphere_trace(shells, o, d, 0.0, 4.0)):
        assert hits.hit.tolist() == [True, True, False]
        torch.testing.assert_close(hits.t, torch.tensor([1.45, 0.45, 4.0]).double(), atol=2e-5, rtol=0)
        assert hits.inside.tolist() == [False, False, True]


def test_rays_that_miss_say_where_they_came_nearest():
    o, d = torch.tensor([[-3.0, 0.9, 0.1]]).double(), torch.tensor([[1.0, 0, 0]]).double()
    sphere = Sphere(0.5)
    assert march(sphere.sdf, o, d).closest.item() == pytest.approx(3.0, abs=0.011)
    assert sphere_trace(sphere.sdf, o, d, 0.0, 6.0).closest.item() == pytest.approx(3.0, abs=0.3)


def test_jitter_moves_samples_by_less_than_a_step():
    seen = []

    def field(x):
        seen.append(x[:, 0].clone())
        return torch.ones(len(x), dtype=x.dtype)

    o, d = torch.zeros(2, 3).double(), torch.tensor([[1.0, 0, 0]] * 2).double()
    first_crossing(field, o, d, 1.0, 3.0, steps=4, jitter=torch.tensor([0.0, 0.5]).double())
    assert torch.cat(seen).view(2, 5).tolist() == [[1, 1.5, 2, 2.5, 3], [1, 1.25, 1.75, 2.25, 2.75]]


def test_work_is_bounded_and_spared():
    sizes = []

    def field(x):
        sizes.append(len(x))
        return x[:, 0] - 0.0

    n = BATCH // 4
    o, d = torch.ones(n, 3), torch.tensor([[-1.0, 0, 0]]).expand(n, 3)
    hits = first_crossing(field, o, d, torch.zeros(n), torch.full((n,), 64.0), steps=64, secant_steps=2)
    assert hits.hit.all() and max(sizes) <= BATCH
    assert sum(sizes) == n * (16 + 2), "rays that are done are not followed"
    sizes.clear()
    hits = first_crossing(field, o, d, 1.0, 1.0, steps=64)
    assert not hits.hit.any() and not sum(sizes), "rays without a way are not looked at"
    for empty in (first_crossing(field, o[:0], d[:0], 0.0, 1.0, steps=4), sphere_trace(field, o[:0], d[:0], 0.0, 1.0)):
        assert len(empty.hit) == len(empty.t) == 0


def test_not_a_number_is_outside():
    o, d = rays(8)
    nothing = lambda x: torch.full_like(x[:, 0], math.nan)  # noqa: E731
    for hits in (march(nothing, o, d), sphere_trace(nothing, o, d, 2.0, 6.0)):
        assert not hits.hit.any() and not hits.inside.any() and hits.t.isfinite().all()


# --- the implicit gradient ---


def texture(x):
    """A colour that depends smoothly on position."""
    return 0.5 + 0.5 * torch.sin(3 * x + torch.arange(3).to(x))


def plane(offset):
    normal = normalize(torch.tensor([0.3, 0.2, 1.0]).double(), dim=0)
    return lambda x: x @ normal - offset


FAMILIES = {  # parameters → distance
    "sphere": (lambda q: Sphere(q[0], (0.1, -0.2, 0.05)).sdf, [0.6]),
    "torus": (lambda q: Torus(q[0], q[1]).sdf, [0.55, 0.2]),
    "plane": (lambda q: plane(q[0]), [0.1]),
}


def image(field, o, d, seen, level=None):
    """Colours at the first surface along rays; the pixels `seen`, whatever else there is."""
    hits = march(field, o, d, level=level, secant_steps=20)
    assert hits.hit[seen].all()
    return texture(implicit_point(field, o[seen], d[seen], hits.t[seen]))


def clear_of_edges(field, o, d):
    """Rays that meet the surface at no less than ten degrees: small changes move it, and uncover nothing."""
    hits = march(field, o, d)
    normals = outward_normals(field, o + hits.t[:, None] * d)
    return hits.hit & ((normals * d).sum(-1) < -0.17)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("form", ["distance", "occupancy", "distorted"])
def test_image_gradient_equals_finite_differences(name, form):
    make, start = FAMILIES[name]
    forms = {
        "distance": (lambda f: f, None),
        "occupancy": (lambda f: lambda x: torch.sigmoid(-8 * f(x)), 0.5),
        "distorted": (lambda f: lambda x: f(x) * (1 + 0.5 * torch.sin(5 * x[:, 0])), None),
    }
    shape, level = forms[form]
    o, d = rays(20, elevation=0.9)
    q = torch.tensor(start).double().requires_grad_()
    seen = clear_of_edges(make(q.detach()), o, d)
    assert seen.sum() > 30
    weights = torch.randn(int(seen.sum()), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def score(q):
        return (weights * image(shape(make(q)), o, d, seen, level)).sum()

    score(q).backward()
    for i in range(len(start)):
        h = torch.zeros_like(q)
        h[i] = 1e-5
        with torch.no_grad():
            slope = (score(q + h) - score(q - h)) / 2e-5
        assert q.grad[i].item() == pytest.approx(slope.item(), rel=1e-5)


def test_gradient_of_the_rays_themselves():
    """A camera that moves and turns sees other points of the same surface."""
    field = Torus(0.55, 0.2).sdf
    o, d = rays(20, elevation=0.9)
    seen = clear_of_edges(field, o, d)
    weights = torch.randn(int(seen.sum()), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    move, turn = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def score(s, by):
        moved, turned = (
            o + (s * move if by == "origin" else 0),
            d + (s * torch.linalg.cross(turn.expand_as(d), d) if by == "direction" else 0),
        )
        return (weights * image(field, moved, turned, seen)).sum()

    for by in ("origin", "direction"):
        s = torch.zeros((), dtype=torch.float64, requires_grad=True)
        score(s, by).backward()
        with torch.no_grad():
            slope = (score(torch.tensor(1e-6), by) - score(torch.tensor(-1e-6), by)) / 2e-6
        assert s.grad.item() == pytest.approx(slope.item(), rel=1e-4)


def test_grazing_rays_do_not_drown_the_others():
    radius = torch.tensor(0.5).double().requires_grad_()
    sphere = Sphere(radius)
    heights = torch.tensor([0.0, 0.3, 0.5 - 1e-7, 0.5]).double()  # the last two graze
    o = torch.stack([torch.full_like(heights, -2), heights, torch.zeros_like(heights)], 1)
    d = torch.tensor([[1.0, 0, 0]]).double().expand_as(o)
    t = 2 - (0.25 - heights**2).sqrt()
    point = implicit_point(sphere.sdf, o, d, t)
    slopes = [torch.autograd.grad(x, radius, retain_graph=True)[0].item() for x in point[:, 0]]
    assert slopes[:2] == pytest.approx([-1, -1 / 0.8]), "dt/dr = −1 / cosine"
    assert all(abs(s) == pytest.approx(1 / 0.05) for s in slopes[2:])


def test_a_flat_field_gives_no_gradient():
    bias = torch.zeros((), requires_grad=True)
    o, d = torch.zeros(2, 3), torch.tensor([[1.0, 0, 0]] * 2)
    point = implicit_point(lambda x: 0 * x[:, 0] + bias, o, d, torch.ones(2))
    assert torch.equal(point, torch.tensor([[1.0, 0, 0]] * 2))
    point.sum().backward()
    assert bias.grad == 0


def test_points_without_gradients_are_plain():
    with torch.no_grad():
        point = implicit_point(lambda x: 1 / 0, torch.zeros(1, 3), torch.ones(1, 3), torch.ones(1))
    assert torch.equal(point, torch.ones(1, 3))


# --- pictures ---


@pytest.mark.parametrize("level", [None, 0.0])
def test_a_picture_of_a_sphere(level):
    sphere = Sphere(0.6)
    field = sphere.sdf if level is None else lambda x: -sphere.sdf(x)
    cam = camera(32)
    out = render_surface(field, cam, BOX, level=level)
    o, d = (x.double() for x in cam.rays())
    truth = sphere_distance(o.reshape(-1, 3), d.reshape(-1, 3), sphere).view(32, 32)
    seen = out.alpha[..., 0] > 0
    assert (seen == ~truth.isnan()).float().mean() > 0.99
    both = seen & ~truth.isnan()
    z = truth * (d @ cam.forward.double())
    torch.testing.assert_close(out.depth[..., 0][both].double(), z[both], atol=1e-3, rtol=0)
    points = o + truth[..., None] * d
    assert ((out.normal - points / 0.6)[both].norm(dim=-1) < 1e-2).float().mean() > 0.97
    assert out.rgb[16, 16, 0] == pytest.approx(0.9, abs=0.02), "the lamp is at the eye"
    assert (out.rgb[~seen] == 1).all() and not out.depth[~seen].any() and not out.normal[~seen].any()


def test_a_picture_in_given_colours_on_a_given_background():
    def color(x, w):
        assert x.shape == w.shape
        return torch.tensor([0.2, 0.5, 0.7]).expand_as(x)

    out = render_surface(SOLIDS[1].sdf, camera(), BOX, color=color, background=torch.tensor([0.1, 0.0, 0.3]))
    hit = out.alpha[..., 0] > 0
    assert torch.equal(out.rgb[hit], torch.tensor([0.2, 0.5, 0.7]).expand(int(hit.sum()), 3))
    assert torch.equal(out.rgb[~hit], torch.tensor([0.1, 0.0, 0.3]).expand(int((~hit).sum()), 3))


def test_what_the_box_cuts_is_seen_where_it_is_cut():
    box = torch.tensor([[-1.0, -1, -1], [1, 1, 0.2]])
    above = dataclasses.replace(camera(), world_from_camera=camera(elevation=1.57).world_from_camera)
    out = render_surface(Sphere(0.6).sdf, above, box)
    assert out.depth[12, 12].item() == pytest.approx(4 - 0.2, abs=1e-3)


def test_more_rays_to_a_pixel_smooth_the_rim():
    """Alpha becomes the share of the pixel that is covered; depth and normals stay those of the surface."""
    sphere = Sphere(0.6)
    one, many = (render_surface(sphere.sdf, camera(), BOX, samples=n) for n in (1, 4))
    fine = render_surface(sphere.sdf, camera(96), BOX)
    assert torch.equal(many.alpha, fine.alpha.view(24, 4, 24, 4, 1).mean((1, 3)))
    torch.testing.assert_close(many.rgb, fine.rgb.view(24, 4, 24, 4, 3).mean((1, 3)), atol=1e-6, rtol=0)
    rim = (many.alpha > 0) & (many.alpha < 1)
    assert rim.sum() > 15 and many.depth[rim].min() > 3.3
    torch.testing.assert_close(many.normal[rim[..., 0]].norm(dim=-1), torch.ones(int(rim.sum())))
    inner = many.alpha == 1
    torch.testing.assert_close(one.depth[inner], many.depth[inner], atol=0.02, rtol=0)


def test_a_wide_picture_in_blocks_of_rows(monkeypatch):
    cam = dataclasses.replace(camera(), width=30, height=16, params=torch.tensor([33.0, 15, 8]).double())
    monkeypatch.setattr("neural3d.render.surface.BATCH", 7 * 30)  # the last block has fewer rows
    out = render_surface(Sphere(0.6).sdf, cam, BOX)
    o, d = (x.reshape(-1, 3) for x in cam.rays())
    hits = sphere_trace(Sphere(0.6).sdf, o, d, 2.0, 6.0)
    assert out.rgb.shape == (16, 30, 3) and torch.equal(out.alpha[..., 0] > 0, hits.hit.view(16, 30))
