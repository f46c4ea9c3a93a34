import math

import pytest
import torch

from neural3d.ops import antialias, interpolate, mesh_raster, opposite_corners


def rectangle(left, top, right, bottom, z=1.0, dtype=torch.float64):
    corners = [(left, top, z), (right, top, z), (right, bottom, z), (left, bottom, z)]
    return torch.tensor(corners, dtype=dtype), torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)


def ball(bands=12):
    """A unit ball of latitude and longitude; at its outline its faces are far narrower than a pixel."""
    polar = torch.linspace(0, math.pi, bands + 1, dtype=torch.float64)[:, None]
    around = torch.arange(2 * bands, dtype=torch.float64)[None] * math.pi / bands
    vertices = torch.stack([polar.sin() * around.cos(), polar.cos() + 0 * around, polar.sin() * around.sin()], -1)
    i = torch.arange(bands * 2 * bands).view(bands, 2 * bands)
    a, b, c, d = i, i.roll(-1, 1), i + 2 * bands, i.roll(-1, 1) + 2 * bands
    faces = torch.stack([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)]).view(-1, 3)
    vertices, faces = vertices.view(-1, 3), faces.int()
    # One vertex at each pole, so that the surface is closed.
    first = torch.arange(len(vertices), dtype=torch.int32)
    first[: 2 * bands], first[-2 * bands :] = 0, len(vertices) - 2 * bands
    faces = first[faces.long()]
    return vertices, faces[(faces != faces.roll(1, 1)).all(1)]


def draw(pixels, faces, colors, size, smooth=True):
    r = mesh_raster(pixels[None], faces, size, size)
    image = interpolate(colors, faces, r.face, r.barycentrics)
    return antialias(image, r.face, r.depth, pixels[None], faces) if smooth else image


def projected(vertices, scale=26.0, shift=(0.31, 0.17), size=64):
    space = vertices * scale / 100 + torch.tensor([*shift, 0], dtype=vertices.dtype, device=vertices.device) * 0.01
    return torch.cat([space[:, :2] * 100 + size / 2, vertices[:, 2:] + 5], 1)


@pytest.mark.parametrize("edge", [5.02, 5.3, 5.5, 5.7, 5.98, 6.4])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_straight_edge_covers_its_share_of_a_pixel(edge, axis):
    pixels, faces = rectangle(-3, -3, edge, 20)
    pixels = pixels if axis == 0 else torch.cat([pixels[:, :2].flip(1), pixels[:, 2:]], 1)
    image = draw(pixels, faces, torch.ones(4, 1, dtype=torch.float64), 12)[0, :, :, 0]
    row = image[4] if axis == 0 else image[:, 4]
    want = (edge - torch.arange(12, dtype=torch.float64)).clamp(0, 1)
    torch.testing.assert_close(row, want)


def test_inside_a_surface_nothing_changes():
    """Creases between faces are no outlines, nor are its borders where they lie beyond the picture."""
    pixels, faces = rectangle(-5, -5, 30, 30)
    pixels[2, 2] = 3.0  # bent along the diagonal
    colors = torch.rand(4, 3, dtype=torch.float64)
    assert torch.equal(draw(pixels, faces, colors, 16), draw(pixels, faces, colors, 16, smooth=False))


def test_what_lies_behind_shines_through():
    behind, faces = rectangle(-5, -5, 30, 30, z=2.0)
    front, _ = rectangle(-5, -5, 7.8, 30, z=1.0)
    colors = torch.cat([torch.zeros(4, 1), torch.ones(4, 1)]).double()
    image = draw(torch.cat([behind, front]), torch.cat([faces, faces + 4]), colors, 12)
    torch.testing.assert_close(image[0, 3, 5:10, 0], torch.tensor([1, 1, 0.8, 0, 0], dtype=torch.float64))
    same = draw(torch.cat([front, behind]), torch.cat([faces, faces + 4]), colors.flip(0), 12)
    torch.testing.assert_close(same, image)


def test_the_area_of_a_ball_and_how_it_grows(device):
    """The sum of a white ball's pixels, and its gradient to the radius: the outline is found all around, and once."""
    vertices, faces = (x.to(device) for x in ball(24))
    scale = torch.tensor(26.0, dtype=torch.float64, device=device, requires_grad=True)
    pixels = projected(vertices, scale)
    area = draw(pixels, faces, torch.ones(len(vertices), 1, dtype=torch.float64, device=device), 64).sum()
    # Of a polygon of 48 corners, a little less than the circle's.
    assert area.item() == pytest.approx(math.pi * 26**2, rel=0.01)
    (slope,) = torch.autograd.grad(area, scale)
    assert slope.item() == pytest.approx(2 * math.pi * 26, rel=0.03)


@pytest.mark.parametrize("bands", [3, 12])
def test_gradients_are_those_of_the_picture(bands):
    """Finite differences in float64 of a weighted picture, colours, depths and outlines together."""
    vertices, faces = ball(bands)
    g = torch.Generator().manual_seed(0)
    colors = torch.rand(len(vertices), 3, generator=g, dtype=torch.float64)
    weights = torch.randn(1, 48, 48, 3, generator=g, dtype=torch.float64)

    def loss(v):
        pixels = projected(v, 19.0, size=48)
        return (draw(pixels, faces, colors, 48) * weights).sum(), mesh_raster(pixels[None], faces, 48, 48).face

    leaf = vertices.clone().requires_grad_()
    value, face = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    checked = 0
    for _ in range(6):
        way = torch.randn(vertices.shape, generator=g, dtype=torch.float64)
        (after, f1), (before, f0) = loss(vertices + 1e-7 * way), loss(vertices - 1e-7 * way)
        if torch.equal(f0, face) and torch.equal(f1, face):
            torch.testing.assert_close((after - before) / 2e-7, (gradient * way).sum(), rtol=1e-5, atol=1e-4)
            checked += 1
    assert checked > 3


def test_pictures_do_not_mix(device):
    vertices, faces = (x.to(device) for x in ball(6))
    colors = torch.rand(len(vertices), 2, dtype=torch.float64, device=device)
    pixels = torch.stack([projected(vertices, r, size=40) for r in (12.0, 16.0, 9.0)])
    r = mesh_raster(pixels, faces, 40, 33)
    image = interpolate(colors, faces, r.face, r.barycentrics)
    together = antialias(image, r.face, r.depth, pixels, faces, opposite_corners(faces))
    for i in range(3):
        one = slice(i, i + 1)
        alone = antialias(image[one], r.face[one], r.depth[one], pixels[one], faces)
        assert torch.equal(alone, together[one]) and not torch.equal(alone, image[one])


def test_corners_across():
    # Two faces of a quad, wound alike; a third at the edge 3 4 of none; three at one edge.
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [3, 4, 5]], dtype=torch.int32)
    assert opposite_corners(faces).tolist() == [[5, -1, -1], [-1, -1, 0], [-1, -1, -1]]
    fan = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]], dtype=torch.int32)
    assert (opposite_corners(fan) == -1).all()
    closed = opposite_corners(ball(4)[1])
    assert (closed >= 0).all() and torch.equal(closed.flatten()[closed.flatten()], torch.arange(closed.numel()))
    assert opposite_corners(faces[:0]).shape == (0, 3)


@pytest.mark.parametrize("case", ["no picture", "no face", "one pixel", "one column", "behind"])
def test_edges(device, case):
    pixels, faces = (x.to(device) for x in rectangle(-1, -1, 3.7, 9.3))
    pixels = pixels.expand(0 if case == "no picture" else 1, -1, -1).clone()
    faces = faces[:0] if case == "no face" else faces
    if case == "behind":
        pixels[:, 0, 2] = -1
    width, height = {"one pixel": (1, 1), "one column": (1, 12)}.get(case, (6, 12))
    pixels.requires_grad_()
    r = mesh_raster(pixels, faces, width, height)
    image = torch.rand(len(pixels), height, width, 2, dtype=torch.float64, device=device)
    smooth = antialias(image, r.face, r.depth, pixels, faces)
    assert smooth.shape == image.shape and smooth.isfinite().all()
    assert torch.equal(smooth, image) == (case != "one column")
    smooth.sum().backward()
    assert pixels.grad.isfinite().all()


def test_threads_change_nothing():
    vertices, faces = ball(16)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            pixels = projected(vertices).float().requires_grad_()
            image = draw(pixels, faces, vertices.float(), 64)
            results.append([image, *torch.autograd.grad(image.square().sum(), pixels)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_bad_input_is_a_sentence():
    pixels, faces = rectangle(0, 0, 5, 5)
    pixels = pixels[None]
    r = mesh_raster(pixels, faces, 8, 7)
    image = torch.zeros(1, 7, 8, 3, dtype=torch.float64)
    for arguments, sentence in [
        ((image[..., 0], r.face, r.depth, pixels, faces), "image must have shape"),
        ((image[:, 1:], r.face, r.depth, pixels, faces), "image must have shape"),
        ((image.float(), r.face, r.depth, pixels, faces), "pixels must be torch.float32"),
        ((image, r.face, r.depth[:, 1:], pixels, faces), "depth must have shape"),
        ((image, r.face, r.depth, pixels[0], faces), "pixels must have shape"),
        ((image, r.face, r.depth, pixels, faces.long()), "faces must be int32"),
        ((image, r.face, r.depth, pixels, faces, faces[:1]), "opposite must have shape"),
        ((image, r.face + 2, r.depth, pixels, faces), "face must be -1 to 1 with these faces, not 1 to 3"),
        ((image, r.face, r.depth, pixels, faces, faces + 4), "opposite must be -1 to 5 with these faces"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            antialias(*arguments)
