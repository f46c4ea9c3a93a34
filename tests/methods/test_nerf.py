"""The original method on a ball of fog, the promises of its paper, and the terms for few photos."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from toy import ANGLE, look_at

from neural3d.config import override
from neural3d.data.rays import ImageSource
from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.methods.nerf import Nerf, NerfConfig
from neural3d.ops.adam import Adam
from neural3d.run import configure
from neural3d.synthetic.analytic import Fog
from neural3d.train import Trainer

CPU = torch.device("cpu")
SMALL = dict(
    horizon=250, batch=512, samples_coarse=16, samples_fine=16, width=32, depth=3, skip=0, color_width=16,
    position_levels=3, direction_levels=2, lr=1e-2, lr_final=1e-3, grid_resolution=32,
)  # fmt: skip
FOG = Fog(sigma=10.0, radius=0.8, base=(0.5, 0.4, 0.3), slope=(0.5, -0.4, 0.3))


def fog_capture(folder, train=12, test=4, size=24):
    """Pictures of a coloured ball of fog, exact but for 8 bits, as a Blender capture with alpha."""
    focal = 0.5 * size / math.tan(0.5 * ANGLE)
    for split, count, shift in (("train", train, 0.0), ("test", test, 0.37)):
        (folder / split).mkdir()
        frames = []
        for i in range(count):
            pose = look_at(2 * math.pi * (i + shift) / count, 0.1 + 0.8 * ((i * 0.618 + shift) % 1))
            opencv = torch.from_numpy(pose @ np.diag([1, -1, -1, 1]))
            params = torch.tensor([focal, size / 2, size / 2])
            rgb, alpha, _ = FOG.render(*Camera("SIMPLE_PINHOLE", size, size, params, opencv).rays())
            straight = torch.cat([rgb / alpha[..., None].clamp(min=1e-6), alpha[..., None]], -1)
            pixels = (straight.clamp(0, 1) * 255).round().byte().numpy()
            Image.fromarray(pixels).save(folder / split / f"{i}.png")
            frames.append({"file_path": f"{split}/{i}", "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": ANGLE, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return load_scene(fog_capture(tmp_path_factory.mktemp("fog")))


def build(scene, seed=0, **changes):
    torch.manual_seed(seed)
    return Nerf(override(NerfConfig(), SMALL | changes, "test"), scene)


def fit(method, steps):
    """The trainer's loop, without its files."""
    method.train()
    generator = torch.Generator().manual_seed(0)
    source = ImageSource(method.scene, torch.device("cpu"))
    optimizer = Adam(method.param_groups())
    c = method.config
    for step in range(steps):
        progress = step / c.horizon
        for group in optimizer.param_groups:
            group["lr"] = c.lr * (c.lr_final / c.lr) ** progress
        losses, metrics = method.loss(source.draw(method.batch_size, generator), progress, generator)
        sum(losses.values()).backward()
        optimizer.step()
        method.after_step(step, progress, generator, [])
    return losses, metrics


def held_out_psnr(method):
    method.eval()
    scores = []
    for i in method.scene.split["test"]:
        view = method.scene.views[i]
        photo = torch.from_numpy(view.image().copy()).float() / 255
        truth = photo[..., :3] * photo[..., 3:] + 1 - photo[..., 3:]
        scores.append(-10 * torch.log10((method.render(view.camera).rgb - truth).square().mean()))
    return float(torch.stack(scores).mean())


@pytest.fixture(scope="module")
def trained(scene):
    method = build(scene)
    fit(method, 250)
    return method


def test_fits_a_ball_of_fog(trained):
    assert held_out_psnr(trained) > 25


def test_render_says_what_is_where(trained):
    view = trained.scene.views[trained.scene.split["test"][0]]
    out = trained.render(view.camera)
    alpha = torch.from_numpy(view.image().copy())[..., 3:].float() / 255
    assert (out.alpha - alpha).abs().mean() < 0.06
    middle = out.depth[12, 12], view.camera.centre.norm()
    assert middle[0] < middle[1], "the ball's front is nearer than the middle of the scene"
    seen = out.alpha[..., 0] > 0.9
    origins, directions = view.camera.rays()
    distance = out.depth / (directions @ view.camera.forward.float())[..., None]
    outward = torch.nn.functional.normalize(origins + distance * directions - trained.scene.aabb.mean(0), dim=-1)
    assert (out.normal * outward).sum(-1)[seen].mean() > 0.7, "where light ends, the ball's own normals"
    torch.testing.assert_close(out.normal[seen].norm(dim=-1), torch.ones(int(seen.sum())))
    on_black = trained.render(view.camera, torch.zeros(3))
    torch.testing.assert_close(out.rgb - on_black.rgb, (1 - out.alpha).expand(-1, -1, 3), atol=1e-4, rtol=0)


def test_mesh_is_closed_and_where_the_ball_is(trained):
    mesh = trained.mesh(48)
    edges = torch.from_numpy(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype("int64")).sort(1).values
    assert (edges.unique(dim=0, return_counts=True)[1] == 2).all()
    assert mesh.volume > 0 and mesh.colors.shape == mesh.vertices.shape


def test_skipping_empty_space_changes_nothing_that_counts(trained):
    """A grid that knows the network leaves out most samples; evaluating them all gives the same picture."""
    camera = trained.scene.views[trained.scene.split["test"][0]].camera
    grid, generator = trained.grid, torch.Generator().manual_seed(0)
    for _ in range(8 * 32**3 // grid.budget):  # about eight random points in each cell
        grid.update(trained.density, 0, generator)
    low, high = trained.scene.aabb
    assert grid.occupied(low + (high - low) * torch.rand(10_000, 3)).float().mean() < 0.7
    skipping = trained.render(camera)
    trained.grid = None
    everything = trained.render(camera)
    trained.grid = grid
    assert (skipping.rgb - everything.rgb).abs().mean() < 1e-3
    assert (skipping.alpha - everything.alpha).abs().mean() < 1e-3


def test_state_survives_a_round_trip(trained):
    other = build(trained.scene, seed=1, anneal=0.0)
    camera = trained.scene.views[trained.scene.split["test"][0]].camera
    assert not torch.equal(other.render(camera).rgb, trained.render(camera).rgb)
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other.render(camera).rgb, trained.render(camera).rgb)


def test_resume_is_exact_with_every_option(scene, tmp_path):
    options = SMALL | dict(
        anneal=0.5,
        occlusion=0.1,
        smooth_depth=0.1,
        smooth_color=0.1,
        patch_size=4,
        density_noise=0.1,
        random_background=True,
    )
    settings = [f"{key}={value}" for key, value in options.items()]
    cpu = torch.device("cpu")
    Trainer.create(tmp_path / "whole", *configure(scene.path, "nerf", settings), cpu).fit(20)
    Trainer.create(tmp_path / "half", *configure(scene.path, "nerf", settings), cpu).fit(11)
    Trainer.resume(tmp_path / "half", cpu).fit(20)
    whole, half = ((tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("whole", "half"))
    assert whole == half


def test_same_seed_same_bytes(scene):
    one, two = build(scene), build(scene)
    fit(one, 5), fit(two, 5)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))


def test_defaults_are_the_published_ones(scene):
    method = Nerf(NerfConfig(), scene)
    field = method.fine
    shapes = [tuple(w.shape) for part in (field.before_skip, field.trunk, field.head) for w in part.weights]
    # Figure 7: 60 → five layers of 256, the input again, three more, σ and features; with 24 of direction → 128 → rgb.
    assert shapes == [
        (256, 60), (256, 256), (256, 256), (256, 256), (256, 256),
        (256, 316), (256, 256), (256, 256), (257, 256),
        (128, 280), (3, 128),
    ]  # fmt: skip
    assert [tuple(p.shape) for p in method.coarse.parameters()] == [tuple(p.shape) for p in field.parameters()]
    (group,) = method.param_groups()
    assert (group["lr"], group["lr_final"], group["betas"], group["eps"]) == (5e-4, 5e-5, (0.9, 0.999), 1e-7)
    assert (method.batch_size, method.config.samples_coarse, method.config.samples_fine) == (4096, 64, 128)


def test_wide_and_narrow_networks_compute_the_same_formula(scene):
    """The skip and the order of layers, against plain matrix products."""
    for width in (32, 136):  # our kernel, and torch's products
        method = build(scene, width=width, depth=4, skip=2)
        field = method.fine
        x = torch.rand(7, field.before_skip.weights[0].shape[1])
        d = torch.rand(7, field.head.weights[0].shape[1] - width)

        def layer(net, i, v):
            return v @ net.weights[i].T + net.biases[i]

        h = layer(field.before_skip, 1, layer(field.before_skip, 0, x).relu()).relu()
        h = torch.cat([x, h], 1)
        for i in range(2):
            h = layer(field.trunk, i, h).relu()
        out = layer(field.trunk, 2, h)
        raw, features = field.geometry(x)
        torch.testing.assert_close(raw, out[:, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(features, out[:, 1:], atol=1e-5, rtol=1e-4)
        rgb = layer(field.head, 1, layer(field.head, 0, torch.cat([features, d], 1)).relu()).sigmoid()
        torch.testing.assert_close(field.color(features, d), rgb, atol=1e-5, rtol=1e-4)


def test_density_does_not_know_the_direction(trained):
    """Two rays meet at each of 50 points: they find the same density there, and different colours."""
    x = torch.rand(50, 3) * 0.5
    t, far, black = torch.ones(50, 1), torch.full((50,), 2.0), torch.zeros(3)
    one, two = torch.nn.functional.normalize(torch.randn(2, 50, 3), dim=-1)
    a, b = (trained._pass(trained.fine, t, x - d, d, far, black, None) for d in (one, two))
    torch.testing.assert_close(a.density, b.density, atol=1e-3, rtol=1e-3)  # x - d + d is x up to rounding
    assert a.density.max() > 1
    assert (trained.color(x, one) - trained.color(x, two)).abs().max() > 1e-3


def test_rays_beside_the_box_are_background(trained):
    origins = torch.tensor([[0.0, 0.0, 5.0]])
    near, far = trained._span(origins, torch.tensor([[0.0, 0.0, 1.0]]))
    assert far <= near
    camera = trained.scene.views[0].camera
    turned = camera.world_from_camera @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    away = dataclasses.replace(camera, world_from_camera=turned)
    out = trained.render(away, torch.tensor([0.2, 0.4, 0.6]))
    assert (out.rgb == torch.tensor([0.2, 0.4, 0.6])).all() and not out.alpha.any() and not out.depth.any()


def test_unbounded_scenes_sample_to_the_far_end(scene):
    open_scene = dataclasses.replace(scene, unbounded=True, near=0.1, far=50.0)
    method = build(open_scene)
    losses, _ = fit(method, 3)
    assert all(torch.isfinite(v) for v in losses.values())
    near, far = method._span(torch.zeros(2, 3), torch.eye(3)[:2])
    assert near.tolist() == pytest.approx([0.1, 0.1]) and far.tolist() == [50, 50]
    x = torch.tensor([[100.0, 0, 0]])
    assert torch.isfinite(method.density(x)).all()


def test_fourier_features_and_a_single_network_train(scene):
    method = build(scene, encoding="fourier", fourier_count=32, fourier_sigma=1.0, samples_fine=0)
    first, _ = fit(method, 1)
    last, _ = fit(method, 60)
    assert method.fine is None and list(last) == ["coarse"]
    assert last["coarse"] < 0.5 * first["coarse"]
    assert "frequencies" in method.state_dict(), "they are random: a checkpoint must keep them"


def test_colours_may_be_asked_not_to_know_the_direction(scene):
    method = build(scene, direction_levels=0)
    losses, _ = fit(method, 2)
    x, one, two = torch.rand(5, 3), *torch.nn.functional.normalize(torch.randn(2, 5, 3), dim=-1)
    assert torch.equal(method.color(x, one), method.color(x, two)) and losses["fine"].requires_grad


def test_annealing_hides_high_octaves_and_is_kept(scene):
    method = build(scene, anneal=0.5, horizon=4)
    x = torch.rand(10, 3)
    assert not method._encode_positions(x).any(), "nothing is visible at first"
    fit(method, 2)  # from progress 0 to 0.25: half of the octaves
    encoded = method._encode_positions(x).reshape(10, 3, 6)
    assert encoded[:, :1].abs().amax() > 0.5 and not encoded[:, 2:].any()
    other = build(scene, anneal=0.5)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other._encode_positions(x), method._encode_positions(x))


def test_regularisers_ask_for_what_they_say(scene):
    method = build(scene, smooth_depth=1.0, smooth_color=0.5, occlusion=0.1, patches=2, patch_size=4)
    losses, _ = fit(method, 2)
    assert set(losses) == {"coarse", "fine", "smooth_depth", "smooth_color", "occlusion"}
    plain, _ = fit(build(scene), 2)
    assert set(plain) == {"coarse", "fine"}
    for name in ("smooth_depth", "smooth_color", "occlusion"):
        assert losses[name] > 0 and losses[name].requires_grad


def prior_of_greys(folder, patch):
    """Of noisy pieces whose three colours are alike."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(exist_ok=True)
    for i in range(3):
        grey = rng.integers(20, 235, (64, 64, 1)).repeat(3, 2) + rng.integers(-3, 4, (64, 64, 3))
        Image.fromarray(grey.astype(np.uint8)).save(folder / "photos" / f"{i}.png")
    settings = ["horizon=200", f"patch={patch}", "lr=3e-3"]
    trainer = Trainer.create(
        folder / f"prior{patch}", *configure(folder / "photos", "glow", [*settings, "width=8", "steps=2"]), CPU
    )
    trainer.fit(200, previews=False)
    return trainer.directory


NGP = ["horizon=150", "samples_per_batch=4096", "log2_table=12", "levels=6", "grid_budget=4096", "grid_resolution=32"]


@pytest.mark.parametrize(
    "method, settings", [("nerf", [f"{key}={value}" for key, value in SMALL.items()]), ("ngp", NGP)]
)
def test_patches_follow_a_prior(method, settings, tmp_path):
    """Of greys: what the photos show in colour becomes less so where the prior weighs much."""
    capture = fog_capture(tmp_path)
    prior = prior_of_greys(tmp_path, 4)
    spread = {}
    for weight in (0.0, 0.3):
        more = ["patch_size=4", "patches=8", f"prior={prior}", f"prior_weight={weight}"]
        config, data = configure(capture, method, [*settings, *more])
        trainer = Trainer.create(tmp_path / f"run{weight}", config, data, CPU)
        trainer.fit(150, previews=False)
        out = trainer.method.eval().render(data.views[data.split["test"][0]].camera)
        seen = out.rgb[out.alpha[..., 0] > 0.5]
        spread[weight] = float(seen.std(-1).mean())
    assert spread[0.3] < 0.7 * spread[0.0]
    trainer = Trainer.resume(tmp_path / "run0.3", CPU)
    assert trainer.method.guide is not None and not any("guide" in name for name in trainer.method.state_dict())


def test_a_prior_of_no_use_is_refused(tmp_path):
    capture = fog_capture(tmp_path)
    with pytest.raises(UserError, match="not a run"):
        configure(capture, "nerf", ["prior=nowhere"])
    prior = prior_of_greys(tmp_path, 4)
    with pytest.raises(UserError, match="learnt 3 × 4 × 4 values, but patches are 3 × 8 × 8"):
        Trainer.create(tmp_path / "run", *configure(capture, "nerf", [f"prior={prior}"]), CPU)


@pytest.mark.parametrize(
    "changes, words",
    [({"anneal": 0.5, "encoding": "fourier"}, "anneal"), ({"skip": 3}, "skip"), ({"samples_coarse": 2}, "samples")],
)
def test_settings_that_exclude_each_other(scene, changes, words):
    with pytest.raises(UserError, match=words):
        build(scene, **changes)


def test_rays_are_sampled_in_the_box_unless_all_of_near_to_far_is_asked_for(scene):
    """Of the scene's middle, seen from far away: only the box, or the whole ray, also beside the box."""
    origins, directions = torch.tensor([[0.0, 0, -5], [0, 3, -5]]), torch.tensor([[0.0, 0, 1], [0, 0, 1]])
    near, far = build(scene, near=1.0, far=9.0)._span(origins, directions)
    assert near[0] == 5 + scene.aabb[0, 2] and far[0] == 5 + scene.aabb[1, 2]
    assert far[1] <= near[1]
    near, far = build(scene, near=1.0, far=9.0, clip_to_box=False)._span(origins, directions)
    assert near.tolist() == [1, 1] and far.tolist() == [9, 9]
