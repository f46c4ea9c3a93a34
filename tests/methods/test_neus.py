"""neus on a small analytic scene: near the truth in seconds, closed, the same after saving; with a background."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from toy import ANGLE, look_at

from neural3d.checkpoint import load_state
from neural3d.data.silhouettes import visual_hull
from neural3d.errors import UserError
from neural3d.evaluate.views import evaluate
from neural3d.geometry.cameras import Camera
from neural3d.geometry.solid import open_edges
from neural3d.methods import warm_start
from neural3d.methods.neus import Neus
from neural3d.render.surface import render_surface
from neural3d.run import configure, load
from neural3d.synthetic.hollows import HollowBall, hollow_error, photograph, true_depth
from neural3d.train import Trainer

SMALL = [
    "horizon=250", "log2_table=14", "levels=6", "max_resolution=64", "samples_per_batch=8192",
    "grid_resolution=64", "grid_budget=16384", "max_steps_per_unit=64", "warmup=10", "lr_sharpness=0.03",
]  # fmt: skip
CPU = torch.device("cpu")
BALLS = torch.tensor([[0.0, 0.0, 0.1, 0.6], [0.6, 0.1, -0.3, 0.35], [-0.4, -0.5, -0.2, 0.35]])  # centres and radii


def distance(x):
    """Of a point to the surface of three balls that overlap: exact outside, a bound inside."""
    return ((x[:, None] - BALLS[:, :3].to(x)).norm(dim=-1) - BALLS[:, 3].to(x)).amin(-1)


def scene_distance(scene, x):
    """The same in the scene's frame and units."""
    unit = float(torch.linalg.det(scene.scene_from_capture[:3, :3])) ** (1 / 3)
    capture_from_scene = torch.linalg.inv(scene.scene_from_capture).float()
    return unit * distance(x @ capture_from_scene[:3, :3].T + capture_from_scene[:3, 3])


def color(x, toward):
    """Soft stripes, so that photos tell where the surface is."""
    return 0.5 + 0.3 * torch.sin(7 * x @ torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, -1, 0]], dtype=x.dtype))


def balls_capture(folder, train=14, test=4, size=40, alpha=True, wall=(0.0, 0.0, 0.0)):
    """Pictures of the balls as a Blender capture, each pixel the mean of nine rays; without alpha, on a wall."""
    params = torch.tensor([0.5 * 3 * size / math.tan(0.5 * ANGLE), 1.5 * size, 1.5 * size]).double()
    box = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
    for split, count, shift in (("train", train, 0.0), ("test", test, 0.37)):
        (folder / split).mkdir(parents=True)
        frames = []
        for i in range(count):
            pose = look_at(2 * math.pi * (i + shift) / count, -0.7 + 1.6 * ((i * 0.618 + shift) % 1))
            opencv = torch.from_numpy(pose @ np.diag([1, -1, -1, 1]))
            camera = Camera("SIMPLE_PINHOLE", 3 * size, 3 * size, params, opencv)
            out = render_surface(distance, camera, box, color=color, background=torch.zeros(3))
            pixels = torch.cat([out.rgb, out.alpha], -1).view(size, 3, size, 3, 4).mean((1, 3))
            if alpha:
                pixels[..., :3] /= pixels[..., 3:].clamp(min=1e-6)
            else:
                pixels = pixels[..., :3] + (1 - pixels[..., 3:]) * torch.tensor(wall)
            Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().numpy()).save(folder / split / f"{i}.png")
            frames.append({"file_path": f"{split}/{i}", "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": ANGLE, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return balls_capture(tmp_path_factory.mktemp("balls") / "capture")


def start(capture, out, *settings):
    return Trainer.create(out, *configure(capture, "neus", [*SMALL, *settings]), CPU)


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "balls"
    start(capture, out).fit(250, previews=False)
    return load(out, "cpu")


def test_the_mesh_is_the_shape(trained):
    mesh = trained.method.mesh(96).transformed(torch.linalg.inv(trained.scene.scene_from_capture))
    assert open_edges(mesh) == 0
    vertices = torch.from_numpy(mesh.vertices)
    error = distance(vertices).abs()
    assert error.mean() < 0.02  # of a shape 1.7 wide, in pictures whose pixels are 0.07 wide at its middle
    directions = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    for ball in BALLS:  # completeness: where the truth is, there is a vertex near
        points = ball[:3] + ball[3] * directions
        outer = points[distance(points).abs() < 1e-4]
        assert torch.cdist(outer, vertices).amin(1).mean() < 0.03
    assert np.abs(mesh.colors - color(vertices, None).numpy()).mean() < 0.1


def test_held_out_views_and_normals(trained):
    report = evaluate(trained)
    assert report["results"]["psnr"] > 26
    camera = trained.scene.views[trained.scene.split["test"][0]].camera
    out = trained.render(camera)
    origins, directions = camera.rays()
    z = (directions @ camera.forward.float())[..., None]
    points = (origins + directions * out.depth / z)[out.alpha[..., 0] > 0.99]
    capture_from_scene = torch.linalg.inv(trained.scene.scene_from_capture).float()
    points = (points @ capture_from_scene[:3, :3].T + capture_from_scene[:3, 3]).requires_grad_()
    d = distance(points)
    assert d.abs().mean() < 0.025
    (normal,) = torch.autograd.grad(d.sum(), points)
    cosine = (out.normal[out.alpha[..., 0] > 0.99] * normal).sum(-1)
    assert cosine.mean() > 0.95


def test_training_starts_at_the_visual_hull(capture, tmp_path):
    """Of balls that are seen from all around, the hull is little more than the balls."""
    trainer = start(capture, tmp_path / "run")
    views = [trainer.scene.views[i] for i in trainer.scene.split["train"]]
    unit = float(torch.linalg.det(trainer.scene.scene_from_capture[:3, :3])) ** (1 / 3)
    x = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    truth = scene_distance(trainer.scene, x)
    hull = visual_hull(views, x)
    pixel = unit * 0.07
    assert (hull[truth < 0] < pixel).all()  # the hull holds the shape,
    assert (hull[truth > 0] < 1.2 * truth[truth > 0] + 0.5 * pixel).all()  # is nowhere farther than it,
    assert ((hull < 0) == (truth < 0)).float().mean() > 0.9  # and not much larger
    towards = 0.9 * views[0].camera.centre.float()[None]  # seen by this camera alone, before the shape
    assert visual_hull(views, towards) > 0 > visual_hull(views[:1], towards)
    trainer.fit(1, previews=False)
    with torch.no_grad():
        error = (trainer.method.field.signed_distance(x) - hull).abs()
    assert error[hull.abs() < 0.1].mean() < 0.02


def test_overexposed_channels_do_not_count_while_colours_are_the_same_from_all_sides(capture, tmp_path):
    trainer = start(capture, tmp_path / "run")
    method, g = trainer.method, trainer.generator
    batch = trainer.source.draw(256, g)
    batch.alpha = torch.ones_like(batch.alpha)
    for channels, progress, counts in (((1.0, 0.9, 1), 0.1, True), ((1, 1, 1), 0.1, False), ((1, 1, 1), 0.9, True)):
        batch.rgb = torch.tensor(channels).expand_as(batch.rgb)
        losses, _ = method.loss(batch, progress, g)
        assert (losses["color"] > 0) == counts


def test_a_bowl_opens(tmp_path):
    """From where its silhouettes fill it, in glossy photos; what is white in all of them keeps its depth to itself."""
    ball = HollowBall(hollows=(((0.8, 0.0, 0.0), (0.8, 0.0, 0.0), 0.4),))
    folder = photograph(ball, tmp_path / "capture", 9, front=True, alpha=True, size=48)
    trainer = start(folder, tmp_path / "run", "horizon=600")
    errors = []
    for steps in (1, 600):
        trainer.fit(steps, previews=False)
        trainer.method.eval()
        told = []
        for view in (trainer.scene.views[i] for i in trainer.scene.split["test"]):
            error = hollow_error(ball, trainer.scene, view.camera, trainer.method.render(view.camera).depth)
            white = torch.from_numpy((view.image()[..., :3] > 252).all(-1))
            told.append(error[~white[true_depth(ball, trainer.scene, view.camera)[1]]])
        trainer.method.train()
        errors.append(torch.cat(told).mean())
    assert errors[0] > 0.05 and errors[1] < 0.02


def test_overexposed_channels_move_colours_alone(capture, tmp_path):
    trainer = start(capture, tmp_path / "run")
    trainer.fit(2, previews=False)
    method, generator = trainer.method, torch.Generator().manual_seed(0)
    batch = trainer.source.draw(256, generator)
    distances = [p for group in method.field.param_groups(1.0, 1.0) for p in group["params"]]
    for bright, moved in ((0.5, True), (1.0, False)):
        batch.rgb[:], batch.alpha[:] = bright, 1.0
        method.zero_grad()
        method.loss(batch, 0.9, generator)[0]["color"].backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in distances) == moved
        assert bool(method.field.color_table.grad.any())


def test_a_solid_that_reaches_out_of_the_box_is_seen_where_the_box_cuts_it(capture, tmp_path, monkeypatch):
    """Half of space as a solid: rays that enter the box within it see its cut face, those beside it its surface."""
    method = start(capture, tmp_path / "run").method
    low = method.box[0]

    def field(x):
        return x[:, 2], x[:, :0], torch.tensor([0.0, 0, 1]).expand(len(x), 3)  # solid below z = 0

    monkeypatch.setattr(method.field, "forward", lambda x: field(x)[:2])
    monkeypatch.setattr(method.field, "with_gradient", field)
    method.field.log_s.data.fill_(math.log(200.0))
    method.grid.keep(method.box)
    for _ in range(20):
        method.grid.update(method._occupied, 1, torch.Generator().manual_seed(0))
    x = float(low[0]) - 2.0
    origins = torch.tensor([[x, 0.0, -0.3], [x, 0.0, 0.3], [x, 0.0, 0.3]])
    directions = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, -0.15]]), dim=-1)
    with torch.no_grad():
        _, alpha, depth, _ = method._shade(origins, directions, torch.zeros(3))
    assert alpha[0] > 0.99 and abs(float(depth[0]) - 2) < 0.05
    assert alpha[1] == 0
    assert alpha[2] > 0.99 and abs(float(depth[2]) - 0.3 / float(-directions[2, 2])) < 0.05


def resumed_exactly(folder, out, *settings, stops):
    start(folder, out / "whole", *settings).fit(40, previews=False)
    start(folder, out / "parts", *settings).fit(stops[0], previews=False)
    for stop in (*stops[1:], 40):
        Trainer.resume(out / "parts", CPU).fit(stop, previews=False)
    whole, parts = ((out / p / "checkpoint.safetensors").read_bytes() for p in ("whole", "parts"))
    return whole == parts


def test_resume_is_exact_to_the_byte(capture, tmp_path, monkeypatch):
    monkeypatch.setattr(warm_start, "FIT_STEPS", 30)
    assert resumed_exactly(capture, tmp_path, stops=[23])


@pytest.mark.parametrize("unbounded", [False, True])
def test_resume_is_exact_during_the_warm_start_and_after(opaque, tmp_path, monkeypatch, unbounded):
    monkeypatch.setattr(warm_start, "FIT_STEPS", 30)
    settings = "horizon=40", "warm_start_until=0.5", f"scene.unbounded={str(unbounded).lower()}"
    assert resumed_exactly(opaque, tmp_path, *settings, stops=[9, 31])


def test_threads_do_not_change_a_byte(capture, tmp_path, monkeypatch):
    """With as many samples and features as in earnest: torch splits nothing smaller among threads."""
    monkeypatch.setattr(warm_start, "FIT_STEPS", 10)
    threads, settings = torch.get_num_threads(), ["samples_per_batch=65536", "levels=12"]
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            start(capture, tmp_path / str(count), "colors_first=0", *settings).fit(4, previews=False)
    finally:
        torch.set_num_threads(threads)
    one, two, three = ((tmp_path / n / "checkpoint.safetensors").read_bytes() for n in "123")
    assert one == two == three


def test_a_checkpoint_renders_the_same(trained):
    camera = trained.scene.views[0].camera
    again = load(trained.directory, "cpu")
    assert load_state(trained.directory / "checkpoint.safetensors", CPU)["step"] == 250
    assert torch.equal(trained.render(camera).rgb, again.render(camera).rgb)


@pytest.fixture(scope="module")
def opaque(tmp_path_factory):
    return balls_capture(tmp_path_factory.mktemp("balls") / "opaque", alpha=False)


def test_without_alpha_training_starts_from_a_radiance_field(opaque, tmp_path):
    trainer = start(opaque, tmp_path / "run", "horizon=240", "warm_start_until=0.6", "scene.background=black")
    method = trainer.method
    assert isinstance(method, Neus) and method.warm_start is not None
    trainer.fit(140, previews=False)
    with pytest.raises(UserError, match="no surface before 60%"):
        method.mesh(32)
    view = trainer.scene.views[0]
    picture = method.eval().render(view.camera).rgb  # of the radiance field
    assert (picture - torch.from_numpy(view.image() / 255)).square().mean() < 0.01
    method.train()
    trainer.fit(146, previews=False)
    x = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        value = method.field.signed_distance(x)
    truth = scene_distance(trainer.scene, x)
    assert ((value < 0) & (truth < 0)).sum() / ((value < 0) | (truth < 0)).sum() > 0.6
    assert ((value < 0) & (truth > 0.2)).sum() == 0


def test_fused_depths_tell_the_distance_everywhere(opaque, tmp_path, monkeypatch):
    """Of exact depths: near the surface to a pixel or so, elsewhere to a cell of the grid."""
    trainer = start(opaque, tmp_path / "run")
    field, box = trainer.method.warm_start, trainer.method.box
    monkeypatch.setattr(
        field, "depths", lambda camera: render_surface(lambda x: scene_distance(trainer.scene, x), camera, box)
    )
    field._drawn = 1 << 20  # rays enough for the photos' own size
    x, found = field.signed_distance(progress=0.1)
    truth = scene_distance(trainer.scene, x)
    outside = truth > 0
    assert ((found < 0) == (truth < 0)).float().mean() > 0.97
    assert (found - truth)[outside].abs().mean() < 0.03 and (found - truth)[outside & (truth > 0.5)].abs().max() < 0.2


def test_what_lies_beyond_the_box_is_a_background(tmp_path):
    """Opaque photos, no masks: the wall must not become part of the shape."""
    folder = balls_capture(tmp_path / "capture", alpha=False, wall=(0.2, 0.3, 0.6))
    trainer = start(folder, tmp_path / "run", "scene.unbounded=true", "horizon=300", "warm_start_until=0")
    trainer.fit(300, previews=False)
    run = load(tmp_path / "run", "cpu")
    views = [run.scene.views[i] for i in run.scene.split["test"]]
    mean = np.mean([run.scene.views[i].image() / 255 for i in run.scene.split["train"]], 0)
    scores = [
        float(np.mean([-10 * np.log10(((v.image() / 255 - picture) ** 2).mean()) for v in views]))
        for picture in (np.array([0.2, 0.3, 0.6]), mean)
    ]
    assert evaluate(run)["results"]["psnr"] > max(scores) + 1, "better than the wall alone, and than the mean photo"
    out = run.render(run.scene.views[0].camera)
    assert out.alpha[0, 0] < 0.1 and out.alpha[20, 20] > 0.9
