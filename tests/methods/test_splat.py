"""Splats on small captures: what they reach, what they promise, and that nothing depends on chance or threads."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from toy import ball_capture, look_at

from neural3d.checkpoint import load_state
from neural3d.cli import main
from neural3d.data.rays import PhotoBatch
from neural3d.errors import UserError
from neural3d.evaluate.views import evaluate
from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.methods.seeds import random_means, seed_splats
from neural3d.methods.splat import Splat, SplatConfig, camera_extent
from neural3d.run import configure, load
from neural3d.scene.undistort import undistorted
from neural3d.train import Trainer

CPU = torch.device("cpu")
QUICK = [
    "random_points=600", "max_splats=1500", "densify_from=60", "densify_every=20", "reset_every=100", "sh_every=100",
    "lr_means=1e-3", "lr_means_final=1e-4", "lr_scales=2e-2", "lr_sh_dc=1e-2", "lr_sh_rest=1e-3", "lr_opacity=0.1",
    "lr_quats=1e-2",
]  # fmt: skip


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return ball_capture(tmp_path_factory.mktemp("ball"))


def start(capture, out, *settings, seed=0):
    return Trainer.create(out, *configure(capture, "splat", [*QUICK, *settings], seed=seed), CPU)


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "ball"
    start(capture, out, "horizon=400", "reset_every=1000").fit(400)
    return out


def test_a_capture_becomes_splats(trained):
    report = evaluate(load(trained, "cpu"))
    assert report["results"]["psnr"] > 21.5
    assert report["protocol"]["undistortion"].startswith("none")
    lines = [json.loads(x) for x in (trained / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["splats"] > lines[0]["splats"] == 600


def test_mcmc_fills_its_budget_and_fits_too(capture, tmp_path):
    settings = ("horizon=400", "densify=mcmc", "densify_until=0.8", "growth=0.1", "max_splats=1000", "opacity=0.5")
    start(capture, tmp_path / "run", *settings).fit(400)
    run = load(tmp_path / "run", "cpu")
    assert len(run.method.splats) == 1000
    assert evaluate(run)["results"]["psnr"] > 21


def test_a_surface_is_flat_splats_and_pictures_hardly_suffer(capture, tmp_path):
    score = {}
    for surface in (True, False):
        out = tmp_path / str(surface)
        start(capture, out, "horizon=400", "reset_every=1000", f"surface={surface}".lower()).fit(400)
        run = load(out, "cpu")
        score[surface] = evaluate(run)["results"]["psnr"]
        assert bool(run.method.splats.flat.all()) == surface
    assert score[True] > score[False] - 1


EVERYTHING = ("exposure=true", "refine_poses=true", "antialiased=true", "horizon=100", "coarse_pixels=200")


@pytest.mark.parametrize(
    "options",
    [
        ("densify_until=0.9", "reset_every=60"),
        ("densify_until=0.9", "absgrad=true", "max_splats=700"),
        ("densify_until=0.9", "densify=mcmc", "noise=1e4"),
        ("densify=none", "random_background=false"),
        ("densify_until=0.9", "surface=true", "absgrad=true"),
    ],
    ids=["adc", "absgrad", "mcmc", "none", "surface"],
)
def test_resume_is_exact_across_densifications(capture, tmp_path, options):
    start(capture, tmp_path / "whole", *EVERYTHING, *options).fit(90)
    start(capture, tmp_path / "half", *EVERYTHING, *options).fit(51)
    Trainer.resume(tmp_path / "half", CPU).fit(69)
    Trainer.resume(tmp_path / "half", CPU).fit(90)
    whole, halves = ((tmp_path / p / "checkpoint.safetensors").read_bytes() for p in ("whole", "half"))
    assert whole == halves
    count = len(load_state(tmp_path / "whole" / "checkpoint.safetensors")["method"]["splats.means"])
    assert (count == 600) == ("densify=none" in options)


def test_threads_do_not_change_a_byte_but_seeds_do(capture, tmp_path):
    threads = torch.get_num_threads()
    settings = ("random_points=34000", "max_splats=36000", "densify_from=3", "densify_every=2", "horizon=20")
    try:
        for name, count, seed in (("one", 1, 0), ("two", 2, 0), ("other", 1, 1)):
            torch.set_num_threads(count)
            start(capture, tmp_path / name, *settings, "densify=mcmc", seed=seed).fit(5)
            start(capture, tmp_path / f"{name}-adc", *settings, "exposure=true", seed=seed).fit(5)
            start(capture, tmp_path / f"{name}-flat", *settings, "surface=true", "surface_from=0.1", seed=seed).fit(5)
    finally:
        torch.set_num_threads(threads)
    for kind in ("", "-adc", "-flat"):
        files = [(tmp_path / (n + kind) / "checkpoint.safetensors").read_bytes() for n in ("one", "two", "other")]
        assert files[0] == files[1]
        assert files[0] != files[2]


def test_the_cap_holds_throughout(capture, tmp_path):
    trainer = start(capture, tmp_path / "run", "max_splats=700", "grow_gradient=1e-6", "horizon=200")
    seen = []
    trainer.fit(100, stop=lambda: seen.append(len(trainer.method.splats)) or False)
    assert max(seen) == 700 and seen[0] == 600


def test_the_memory_estimate_says_what_memory_the_cap_would_take(capture):
    config, scene = configure(capture, "splat", ["max_splats=1000000"])
    (text,) = Splat(config.method_config(), scene).memory_estimate()
    assert "never more than 1,000,000" in text and "GiB" in text and "max_splats" not in text
    config, scene = configure(capture, "splat", ["max_splats=2000000000"])
    assert "--set max_splats=" in Splat(config.method_config(), scene).memory_estimate()[0]


def method_for(scene, **settings):
    torch.manual_seed(0)
    return Splat(SplatConfig(**{"random_points": 300, **settings}), scene)


def photo(method, view=0, **changes):
    return replace(method.source(method.scene, CPU).photo(view), **changes)


def test_masked_pixels_do_not_matter(capture):
    method = method_for(load_scene(capture))
    kept = torch.zeros(32, 32, 1, dtype=torch.bool)
    kept[:, :16] = True
    plain = photo(method, kept=kept, alpha=None)
    painted = replace(plain, rgb=torch.where(kept, plain.rgb, 1 - plain.rgb))
    results = []
    for batch in (plain, painted):
        method.zero_grad()
        losses, _ = method.loss(batch, 0.0, torch.Generator())
        sum(losses.values()).backward()
        results.append((sum(losses.values()).item(), method.splats.means.grad.clone()))
    assert results[0][0] == results[1][0] and torch.equal(results[0][1], results[1][1])
    unmasked, _ = method.loss(replace(painted, kept=None), 0.0, torch.Generator())
    assert sum(unmasked.values()).item() != results[0][0]


def test_the_pulls_of_mcmc_fade_until_nothing_changes_any_more(capture):
    method = method_for(load_scene(capture), densify="mcmc", densify_until=0.8, opacity_weight=0.3, scale_weight=0.2)
    want = {"opacity": 0.3 * 0.1, "scale": 0.2 * method.splats.log_scales.exp().mean().item() / method.extent}
    for progress, fade in ((0.0, 1.0), (0.4, 0.5), (0.6, 0.25)):
        losses, _ = method.loss(photo(method), progress, torch.Generator())
        assert {k: losses[k].item() for k in want} == pytest.approx({k: fade * v for k, v in want.items()}, rel=1e-4)
    losses, _ = method.loss(photo(method), 0.8, torch.Generator())
    assert not set(want) & set(losses)


def test_the_mean_exposure_is_what_is_exported(capture):
    """A gain that all photos share is no exposure: it changes nothing, and so belongs to the splats' colours."""
    method = method_for(load_scene(capture), exposure=True)
    values = []
    for shift in (0.0, 0.7):
        with torch.no_grad():
            method.log_gain[:] = shift + 0.1 * torch.arange(16)[:, None]
        values.append(sum(method.loss(photo(method, 15), 0.0, torch.Generator().manual_seed(0))[0].values()).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    with torch.no_grad():
        method.log_gain.zero_()
    losses, _ = method.loss(photo(method, 15), 0.0, torch.Generator().manual_seed(0))
    assert abs(sum(losses.values()).item() - values[0]) > 1e-3


def test_exposures_are_found(capture, tmp_path):
    """Photos darkened by turns: the gains tell which, the splats keep the colours between; held-out ones, darker
    still, are scored with the gain that suits them as well."""
    folder = tmp_path / "capture"
    ball_capture(folder)
    for i, path in enumerate([*sorted((folder / "train").glob("*.png")), *(folder / "test").glob("*.png")]):
        pixels = np.asarray(Image.open(path)).astype(float)
        pixels[..., :3] *= (0.75 if i % 2 else 1.0) if i < 16 else 0.4
        Image.fromarray(pixels.round().astype(np.uint8)).save(path)
    trainer = start(folder, tmp_path / "run", "exposure=true", "horizon=400", "densify=none", "random_points=1000")
    trainer.fit(400)
    gain = torch.exp(trainer.method.log_gain - trainer.method.log_gain.mean(0)).mean(1)
    assert (gain[1::2].mean() / gain[::2].mean()).item() == pytest.approx(0.75, abs=0.07)
    results = evaluate(load(tmp_path / "run", "cpu"), background="black")["results"]
    assert results["psnr_gain"] > results["psnr"] + 3


def test_a_wrong_pose_is_put_right(trained):
    """A camera turned by 1.5° and moved, before splats that fit the photos: refinement alone brings it back."""
    run = load(trained, "cpu")
    method = Splat(replace(run.method.config, refine_poses=True), run.scene)
    method.load_state_dict({**method.state_dict(), **run.method.state_dict()})
    method.steps = run.step
    truth = method.camera_from_world[3].clone()
    angle = math.radians(1.5)
    turn = [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]]
    method.camera_from_world[3, :3] = torch.tensor(turn) @ truth[:3] + torch.tensor(
        [[0, 0, 0, x] for x in (0.05, 0, 0)]
    )

    def error():
        """Pixels by which the corners of a cube are misplaced."""
        corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
        both = []
        for pose in (truth, method._pose(3).detach()):
            p = corners @ pose[:3, :3].T + pose[:3, 3]
            both.append(method.intrinsics[3, :2] * p[:, :2] / p[:, 2:])
        return (both[0] - both[1]).norm(dim=1).mean().item()

    before = error()
    batch, optimizer = photo(method, 3), torch.optim.Adam([method.poses.delta], lr=2e-3)
    for _ in range(100):
        optimizer.zero_grad()
        sum(method.loss(batch, 0.0, torch.Generator().manual_seed(0))[0].values()).backward()
        optimizer.step()
    assert before > 0.6 and error() < 0.25 * before
    assert not method.poses.delta[:3].any() and not method.poses.delta[4:].any()


def test_depth_normal_and_alpha_of_a_wall(capture):
    """A dense wall of flat splats at z = 3: depth 3, normals towards the camera, opaque; nothing beside it."""
    method = method_for(load_scene(capture), random_points=31 * 31, opacity=0.95)
    x, y = (v.flatten() for v in torch.meshgrid(*[torch.linspace(-0.5, 0.5, 31)] * 2, indexing="ij"))
    s = method.splats
    with torch.no_grad():
        s.means[:] = torch.stack([x, y, torch.full_like(x, 3)], 1)
        s.log_scales[:] = torch.tensor([0.02, 0.02, 1e-4]).log()
        s.quats[:] = torch.tensor([2.0, 0, 0, 0])
        s.sh_dc[:] = torch.tensor([1.0, 0.0, -1.0])
    camera = Camera("SIMPLE_PINHOLE", 40, 40, torch.tensor([60.0, 20, 20]), torch.eye(4))
    out = method.render(camera, torch.tensor([0.0, 1.0, 0.0]))
    assert (out.alpha[15:25, 15:25] > 0.97).all() and (out.alpha[:5] == 0).all()
    assert (out.depth[15:25, 15:25] - 3).abs().max() < 1e-3 and (out.depth[:5] == 0).all()
    assert (out.normal[15:25, 15:25] - torch.tensor([0, 0, -1.0])).abs().max() < 1e-3
    assert (out.normal[:5] == 0).all() and torch.equal(out.rgb[0, 0], torch.tensor([0.0, 1.0, 0.0]))
    want = 0.5 + 0.28209479 * torch.tensor([1.0, 0, -1.0])
    assert (out.rgb[20, 20] - want).abs().max() < 0.03


def test_lenses_that_bend_are_refused_in_pictures(capture, tmp_path):
    method = method_for(load_scene(capture))
    bent = Camera("SIMPLE_RADIAL", 40, 40, torch.tensor([60.0, 20, 20, 0.1]), torch.eye(4))
    with pytest.raises(UserError, match="pinhole"):
        method.render(bent)


def test_a_distorted_capture_is_scored_on_pinhole_copies(tmp_path):
    folder = ball_capture(tmp_path / "capture", train=4, test=1)
    for split in ("train", "test"):
        path = folder / f"transforms_{split}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "k1": 0.1}))
    trainer = start(folder, tmp_path / "run", "horizon=20")
    taken, seen = load_scene(folder).views[0], trainer.scene.views[0]
    assert taken.camera.model == "OPENCV" and seen.camera.model == "PINHOLE"
    expected = undistorted(taken.image(), taken.camera, seen.camera)
    assert np.abs(expected.astype(int) - taken.resized(*expected.shape[1::-1]).image()).mean() > 1, "it does bend"
    assert np.abs(expected.astype(int) - seen.image()).mean() < 1
    trainer.fit(5)
    run = load(tmp_path / "run", "cpu")
    assert run.scene.views[0].lens is not None and run.scene.views[0].camera.model == "PINHOLE"
    assert evaluate(run)["protocol"]["undistortion"].startswith("photos are resampled to pinhole copies")


def test_points_become_splats_of_their_colour_and_spacing(capture):
    scene = load_scene(capture)
    grid = torch.stack(torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij"), -1).reshape(-1, 3) * 0.1
    rgb = np.tile(np.array([[255, 0, 51]], np.uint8), (216, 1))
    scene = replace(scene, points=(grid.numpy(), rgb))
    splats = seed_splats(scene, random_points=5, most=1000, sh_degree=2, opacity=0.1)
    assert len(splats) == 216 and splats.sh_degree == 2
    torch.testing.assert_close(splats.log_scales.exp(), torch.full((216, 3), 0.1))
    torch.testing.assert_close(0.5 + 0.28209479 * splats.sh_dc[0], torch.tensor([1.0, 0, 0.2]))
    torch.testing.assert_close(torch.sigmoid(splats.opacity_logits), torch.full((216,), 0.1))
    fewer = seed_splats(scene, random_points=5, most=50, sh_degree=0, opacity=0.1)
    assert len(fewer) == 50 and fewer.means[:, 0].max() > 0.45, "a sample of all, not the first"


def test_random_splats_fill_the_bounds_and_what_is_around(capture):
    torch.manual_seed(0)
    scene = load_scene(capture)
    means, scales = random_means(scene, 4000)
    assert (means >= scene.aabb[0]).all() and (means <= scene.aabb[1]).all()
    volume = (scene.aabb[1] - scene.aabb[0]).prod().item()
    assert scales[0].item() == pytest.approx(0.5 * (volume / 4000) ** (1 / 3))
    means, scales = random_means(replace(scene, unbounded=True, far=50.0), 4000)
    reach = means.abs().amax(1)
    assert (reach[2000:] >= 1).all() and reach.max() <= 50
    assert abs((reach[2000:] < 1 / 0.5).float().mean() - 0.339) < 0.04  # |y| < 1.5: (1.5³ − 1) / 7 of the shell
    assert scales[reach > 20].min() > 10 * scales[2000:].min()
    for axis in range(3):
        assert abs(means[2000:, axis].sign().mean()) < 0.08


def test_harmonics_come_into_use_one_degree_at_a_time(capture):
    method = method_for(load_scene(capture), sh_every=10, sh_degree=2)
    assert [setattr(method, "steps", n) or method.degree for n in (0, 9, 10, 20, 1000)] == [0, 0, 1, 2, 2]


def test_the_extent_is_the_cameras_radius():
    cameras = [
        Camera("SIMPLE_PINHOLE", 4, 4, torch.tensor([4.0, 2, 2]), torch.from_numpy(look_at(a, 0.0, 2.0)))
        for a in (0, math.pi)
    ]
    assert camera_extent(cameras) == pytest.approx(2.2)
    assert camera_extent(cameras[:1]) == 1.0


def test_small_photos_show_what_small_cameras_see(trained):
    """A photo of half the size, drawn by the method itself: nothing is left to learn."""
    method = load(trained, "cpu").method
    camera = method.scene.cameras("train")[0]
    out = method.render(camera.resized(camera.width // 2, camera.height // 2), torch.zeros(3))
    method.background.zero_()
    losses, _ = method.loss(PhotoBatch(0, out.rgb, None, None, 2), 0.0, torch.Generator())
    assert losses["l1"] < 1e-6


def test_photos_grow_with_the_progress_and_stay_grown(capture, tmp_path):
    """32² pixels, at most 200 at the start: 8², 16² from a quarter of the way to whole photos, then 32²."""
    sizes = {}
    trainer = start(capture, tmp_path / "run", "coarse_pixels=200", "whole_from=0.5", "horizon=80", "densify=none")
    drawn = trainer.players[0].loss

    def loss(batch, progress, generator):
        sizes[trainer.step] = len(batch)
        return drawn(batch, progress, generator)

    trainer.players[0].loss = loss
    trainer.fit(60, previews=False)
    assert [sizes[i] for i in (0, 10, 12, 40, 42, 59)] == [64, 64, 256, 256, 1024, 1024]
    resumed = Trainer.resume(tmp_path / "run", CPU)
    assert resumed.method.batch_size == 1024
    resumed.method.after_step(60, 0.0, torch.Generator(), resumed.players)
    assert resumed.method.batch_size == 1024


def test_transparent_photos_train_on_any_background(capture):
    method = method_for(load_scene(capture))
    batch = PhotoBatch(0, torch.zeros(32, 32, 3), torch.zeros(32, 32, 1), None)  # all clear
    with torch.no_grad():
        method.splats.opacity_logits[:] = -20.0
    losses, _ = method.loss(batch, 0.0, torch.Generator().manual_seed(0))
    assert sum(losses.values()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sh_degree=4", "sh_degree must be at most 3"),
        ("max_splats=0", "must be 1 or more"),
        ("densify=adcc", "must be one of"),
    ],
)
def test_bad_settings_are_a_sentence(capture, setting, message):
    with pytest.raises(UserError, match=message):
        config, scene = configure(capture, "splat", [setting])
        Splat(config.method_config(), scene)


def test_the_command_line(capture, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["train", str(capture), "--method", "splat", "--out", "run", "--steps", "60", "--set", *QUICK])
    main(["train", "--resume", "run", "--steps", "90"])
    main(["eval", "run"])
    main(["render", "run", "--frames", "2", "--show", "rgb", "depth", "--out", "orbit"])
    main(["info", "run"])
    main(["info", "splat"])
    printed = capsys.readouterr().out
    assert "never more than 1,500" in printed and "PSNR" in printed and "max_splats" in printed
    assert len(list((tmp_path / "orbit").glob("**/*.png"))) == 6  # depth twice
    assert "path: orbit; photos all around" in printed
