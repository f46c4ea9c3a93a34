"""Carving a painted torus from its pictures: what it reaches, what it promises, and what it asks of the photos."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from toy import ANGLE, look_at

from neural3d.config import override
from neural3d.data.silhouettes import SilhouetteSource
from neural3d.errors import UserError
from neural3d.evaluate.views import evaluate
from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.methods.dvr import Dvr, DvrConfig
from neural3d.render.surface import first_crossing
from neural3d.run import configure, load
from neural3d.synthetic.analytic import Torus
from neural3d.train import Trainer

CPU = torch.device("cpu")
TORUS = Torus(0.62, 0.26)
QUICK = [
    "horizon=300", "rays=512", "levels=4", "max_resolution=32", "color_levels=4", "color_resolution=64", "width=32",
    "steps=48", "log2_table=14", "samples=1",
]  # fmt: skip


def paint(x):
    return 0.5 + 0.4 * torch.sin(4 * x + torch.arange(3).to(x))


def torus_capture(folder, train=16, test=4, size=40, opaque=False):
    """Sharp pictures in closed form: one sample in the middle of each pixel. opaque: on black, without alpha."""
    focal = 0.5 * size / math.tan(0.5 * ANGLE)
    for split, count, shift in (("train", train, 0.0), ("test", test, 0.37)):
        (folder / split).mkdir(parents=True)
        frames = []
        for i in range(count):
            pose = look_at(2 * math.pi * (i + shift) / count, 1.2 * math.sin(2.4 * i + 1 + shift))
            opencv = torch.from_numpy(pose @ np.diag([1, -1, -1, 1]))
            camera = Camera("SIMPLE_PINHOLE", size, size, torch.tensor([focal, size / 2, size / 2]).double(), opencv)
            o, d = (x.reshape(-1, 3).double() for x in camera.rays())
            hits = first_crossing(TORUS.sdf, o, normalize(d, dim=-1), 2.0, 6.0, steps=200)
            rgb = torch.where(hits.hit[:, None], paint(o + hits.t[:, None] * d), 0)
            pixels = torch.cat([rgb, hits.hit[:, None].double()], -1).view(size, size, 4)
            picture = (255 * pixels).round().byte().numpy()[..., : 3 if opaque else 4]
            Image.fromarray(np.ascontiguousarray(picture)).save(folder / split / f"{i}.png")
            frames.append({"file_path": f"{split}/{i}", "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": ANGLE, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return torus_capture(tmp_path_factory.mktemp("torus"))


@pytest.fixture(scope="module")
def scene(capture):
    return load_scene(capture)


def start(capture, out, *settings, seed=0):
    return Trainer.create(out, *configure(capture, "dvr", [*QUICK, *settings], seed=seed), CPU)


def build(scene, seed=0, **changes):
    torch.manual_seed(seed)
    return Dvr(override(DvrConfig(), dict(pair.split("=") for pair in QUICK) | changes, "test"), scene)


@pytest.fixture(scope="module")
def run(capture, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "torus"
    start(capture, out).fit(300)
    return load(out, "cpu")


def on_torus(n):
    """Points spread evenly over the surface, by rejection."""
    g = torch.Generator().manual_seed(0)
    u, v, w = torch.rand(3, 4 * n, generator=g)
    a, b = 2 * math.pi * u, 2 * math.pi * v
    r = TORUS.major + TORUS.minor * b.cos()
    x = torch.stack([r * a.cos(), r * a.sin(), TORUS.minor * b.sin()], -1)
    return x[w * (TORUS.major + TORUS.minor) < r][:n]


def capture_mesh(run, resolution=64):
    return run.method.mesh(resolution).transformed(torch.linalg.inv(run.scene.scene_from_capture))


def test_a_torus_is_carved_and_painted(run):
    """Chamfer under 1 % of the truth's diagonal, photos it has not seen at 24 dB: the rim is as sharp as its pixels."""
    vertices = torch.from_numpy(capture_mesh(run).vertices)
    diagonal = 2 * math.hypot(math.sqrt(2) * (TORUS.major + TORUS.minor), TORUS.minor)
    there = TORUS.sdf(vertices).abs().mean()
    back = torch.cdist(on_torus(4000), vertices).amin(1).mean()
    assert 100 * (there + back) / 2 / diagonal < 1.0
    assert evaluate(run)["results"]["psnr"] > 24


def test_its_mesh_is_closed_one_piece_and_coloured(run):
    trimesh = pytest.importorskip("trimesh")
    mesh = capture_mesh(run)
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert solid.is_watertight and solid.body_count == 1 and solid.euler_number == 0, "a torus, with its hole"
    assert solid.volume == pytest.approx(TORUS.volume, rel=0.05)
    assert np.abs(mesh.colors - paint(torch.from_numpy(mesh.vertices)).numpy()).mean() < 0.06


def test_render_says_what_is_where(run):
    view = run.scene.views[run.scene.split["test"][0]]
    out = run.render(view.camera, torch.tensor([0.2, 0.4, 0.6]))
    photo = torch.from_numpy(view.image().copy()).float() / 255
    assert (out.alpha == photo[..., 3:]).float().mean() > 0.97
    assert (out.rgb[out.alpha[..., 0] == 0] == torch.tensor([0.2, 0.4, 0.6])).all()
    o, d = view.camera.rays()
    hit = out.alpha[..., 0] > 0
    x = (o + out.depth / (d @ view.camera.forward.float())[..., None] * d)[hit]
    capture_from_scene = torch.linalg.inv(run.scene.scene_from_capture).float()
    x = x @ capture_from_scene[:3, :3].T + capture_from_scene[:3, 3]
    assert TORUS.sdf(x).abs().mean() < 0.02
    assert (out.normal[hit] * TORUS.gradient(x)).sum(-1).mean() > 0.9


def test_looking_past_empty_space_changes_nothing(run):
    """Marches by the map of where there is anything find what marches through the field itself find."""
    camera = run.scene.views[0].camera
    o, d = (x.reshape(-1, 3) for x in camera.rays())
    quick = run.method._quick_logit(run.method._survey())
    one, two = (first_crossing(f, o, d, 2.0, 6.0, steps=200, level=0.0) for f in (quick, run.method.logit))
    assert torch.equal(one.hit, two.hit) and torch.equal(one.t, two.t)


def test_the_photos_move_the_surface(scene):
    """The colour term alone, through the implicit gradient, changes the shape; without it only the colours."""
    method = build(scene)
    method.train()
    batch = method.source(scene, CPU).draw(512, torch.Generator().manual_seed(0))
    losses, _ = method.loss(batch, 0.0, torch.Generator().manual_seed(0))
    assert set(losses) == {"color", "occupancy", "freespace", "carve", "normal"}
    losses["color"].backward()
    assert all(p.grad.abs().max() > 0 for p in (method.shape_table, *method.shape_net.parameters()))


def test_each_term_asks_for_what_it_says(scene):
    """Matter where the subject's rays miss, space where others hit: the sign of the derivative by the logit's bias."""
    method = build(scene)
    batch = method.source(scene, CPU).draw(512, torch.Generator().manual_seed(0))
    for bias, term, sign in ((-50.0, "occupancy", -1), (50.0, "freespace", 1)):
        shift = torch.tensor(bias, requires_grad=True)
        original = method.logit
        method.logit = lambda x, s=shift, f=original: f(x) + s
        losses, _ = method.loss(batch, 0.0, torch.Generator().manual_seed(0))
        del method.logit
        assert torch.autograd.grad(losses[term], shift)[0].sign() == sign
        assert losses["color"] == 0, "nothing is seen of a box that is empty, or full"


def test_carving_takes_matter_where_colours_are_wrong_and_adds_it_where_they_are_right(scene, monkeypatch):
    """By the sign of the derivative by the logit's bias, with photos in the field's own colours or half of them not."""
    method = build(scene)
    batch = method.source(scene, CPU).draw(512, torch.Generator().manual_seed(0))
    for wrong, sign in ((0.0, -1), (0.4, 1)):  # errors of a third of the rays are far above the mean
        painted = torch.full((512, 3), 0.5)
        painted[::3] += wrong
        monkeypatch.setattr(method, "_rgb", lambda x: x.new_full((len(x), 3), 0.5) + 0 * x.sum())
        shift = torch.tensor(0.0, requires_grad=True)
        original = method.logit
        method.logit = lambda x, s=shift, f=original: f(x) + s
        losses, _ = method.loss(dataclasses.replace(batch, rgb=painted), 0.0, torch.Generator().manual_seed(0))
        del method.logit
        assert torch.autograd.grad(losses["carve"], shift)[0].sign() == sign


def test_resume_is_exact(capture, tmp_path):
    start(capture, tmp_path / "whole").fit(70)
    start(capture, tmp_path / "half").fit(37)
    Trainer.resume(tmp_path / "half", CPU).fit(70)
    whole, half = ((tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("whole", "half"))
    assert whole == half


def test_looking_does_not_change_training(capture, tmp_path):
    start(capture, tmp_path / "one").fit(20)
    other = start(capture, tmp_path / "two")
    other.fit(10, previews=False)
    other.method.render(other.scene.views[0].camera)
    other.fit(20)
    one, two = ((tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


# --- silhouettes ---


def test_half_of_the_rays_go_through_the_subject(scene):
    batch = SilhouetteSource(scene, CPU).draw(101, torch.Generator().manual_seed(0))
    assert batch.alpha[:50].all() and not batch.alpha[50:].any()
    assert (batch.rgb[50:] == 0).all(), "past it there is nothing, in straight alpha"


def test_masks_from_a_black_background(tmp_path):
    folder = torus_capture(tmp_path / "opaque", train=4, test=1, opaque=True)
    cut_out = SilhouetteSource(load_scene(torus_capture(tmp_path / "alpha", train=4, test=1)), CPU)
    scene = load_scene(folder)
    with pytest.raises(UserError, match=r"masks/.*mask_threshold=0\.2"):
        SilhouetteSource(scene, CPU)
    found = SilhouetteSource(scene, CPU, 0.05)
    assert (found.subject == cut_out.subject).float().mean() > 0.99
    for threshold, word in ((1.0, "no"), (-0.1, "every")):
        with pytest.raises(UserError, match=f"{word} pixel .* mask_threshold"):
            SilhouetteSource(scene, CPU, threshold)


def test_dark_cracks_belong_to_the_subject_and_holes_do_not(tmp_path):
    folder = torus_capture(tmp_path / "cracked", train=1, test=1, size=200, opaque=True)
    path = folder / "train" / "0.png"
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[:, 50:150] = 200
    picture[10::20, :] = 0  # cracks of one pixel
    picture[85:115, 85:115] = 0
    Image.fromarray(picture).save(path)
    subject = SilhouetteSource(load_scene(folder), CPU, 0.2).subject.view(200, 200)
    assert subject[5:-5, 52:83].all() and subject[0, 100] and subject[199, 100]
    assert not subject[90:110, 90:110].any() and not subject[:, :49].any()


def test_doubtful_pixels_are_not_drawn(tmp_path):
    """Half-dark cloth beside the subject, and a bright speck: neither subject nor background."""
    folder = torus_capture(tmp_path / "cloth", train=1, test=1, size=100, opaque=True)
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[20:80, 30:60] = 200
    picture[:, 60:] = 40
    picture[5:8, 5:8] = 255
    Image.fromarray(picture).save(folder / "train" / "0.png")
    source = SilhouetteSource(load_scene(folder), CPU, 0.2)
    drawn = torch.zeros(100, 100, dtype=torch.int64).view(-1)
    drawn[source.through], drawn[source.past] = 1, 2
    drawn = drawn.view(100, 100)
    assert (drawn[20:80, 30:60] == 1).all() and (drawn[:, 60:] == 0).all() and (drawn[5:8, 5:8] == 0).all()
    assert (drawn[85:, :60] == 2).all()


def test_masks_that_hide_are_told_from_silhouettes(tmp_path):
    scene = load_scene(torus_capture(tmp_path / "masked", train=2, test=1, opaque=True))
    for view in scene.views:
        view.mask_path = tmp_path / "mask.png"
    with pytest.raises(UserError, match=r"silhouettes .* scene\.masks=alpha"):
        SilhouetteSource(scene, CPU)
