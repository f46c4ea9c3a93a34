"""Splats on the command line: files described and drawn, runs exported."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from toy import ball_capture

from neural3d.cli import main
from neural3d.fields.gaussians import Gaussians
from neural3d.files.splats import read_splats, write_splats
from neural3d.geometry.cameras import Camera
from neural3d.methods.ngp import Ngp
from neural3d.render.splats import render_splats
from neural3d.run import configure
from neural3d.train import Trainer


def ball(n=2000, centre=(4.0, -2.0, 1.0), radius=3.0):
    """Red splats on a sphere, green at its top, which is where −y is."""
    torch.manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(n, 3), dim=1)
    color = torch.where(d[:, 1:2] < -0.6, torch.tensor([-1.77, 1.77, -1.77]), torch.tensor([1.77, -1.77, -1.77]))
    size = torch.full((n, 3), 0.05 * radius).log()
    quats = torch.tensor([[1.0, 0, 0, 0]]).expand(n, 4)
    return Gaussians(torch.tensor(centre) + radius * d, size, quats, torch.full((n,), 3.0), color, torch.zeros(n, 3, 3))


@pytest.mark.parametrize("ending", ["ply", "splat", "spz"])
def test_info_describes_a_file(tmp_path, capsys, ending):
    write_splats(ball(), tmp_path / f"ball.{ending}")
    main(["info", str(tmp_path / f"ball.{ending}")])
    printed = capsys.readouterr().out
    assert "2,000" in printed and "opacity" in printed and "0.95" in printed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "ball"
    small = ["log2_table=12", "levels=4", "samples_per_batch=2048", "grid_budget=1024"]
    capture = ball_capture(tmp_path_factory.mktemp("capture"))
    trainer = Trainer.create(out, *configure(capture, "ngp", small), torch.device("cpu"))
    trainer.fit(1)
    return out, trainer.scene


@pytest.fixture
def splat_run(run, monkeypatch):
    """A run whose method claims to hold a ball of splats."""
    monkeypatch.setattr(Ngp, "splats", ball(centre=(0.1, 0.2, 0.3), radius=0.5), raising=False)
    return run


def test_export_leaves_in_the_captures_frame(splat_run, tmp_path, capsys):
    out, scene = splat_run
    path = tmp_path / "a.ply"
    main(["export", str(out), str(path)])
    found = read_splats(path)
    back = found.gaussians.transformed(scene.scene_from_capture)
    torch.testing.assert_close(back.means, Ngp.splats.means, rtol=0, atol=1e-5)
    up = torch.nn.functional.normalize(torch.linalg.inv(scene.scene_from_capture)[:3, 2], dim=0)
    assert torch.linalg.det(scene.scene_from_capture[:3, :3]) < 0.9  # scaled
    torch.testing.assert_close(torch.tensor(found.up).double(), up, rtol=1e-5, atol=1e-6)

    main(["export", str(out), str(path), "--up", "y"])
    turned = read_splats(path)
    torch.testing.assert_close(torch.tensor(turned.up).double(), torch.tensor([0.0, 1, 0]).double())
    heights = (found.gaussians.means.double() @ up, turned.gaussians.means[:, 1].double())
    torch.testing.assert_close(*heights, rtol=1e-4, atol=1e-4)

    low, high = found.gaussians.means.amin(0), found.gaussians.means.median(0).values
    main(["export", str(out), str(path), "--crop", *map(str, [*low.tolist(), *high.tolist()])])
    inside = (found.gaussians.means <= high).all(1).sum()
    assert abs(len(read_splats(path).gaussians) - inside) <= 3  # those on the box's very sides
    main(["export", str(out), str(tmp_path / "a.splat")])
    assert "no view dependence" in capsys.readouterr().out.replace("\n", " ")


def test_what_makes_no_splats_says_so(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(run[0]), str(tmp_path / "a.spz")])
    assert "ngp makes no splats" in capsys.readouterr().err.replace("\n", " ")


def test_render_draws_a_file_upright(tmp_path):
    """An orbit of its own: the ball fills the picture from every side, its green top above."""
    write_splats(ball(), tmp_path / "ball.spz")
    main(["render", str(tmp_path / "ball.spz"), "--frames", "2", "--out", str(tmp_path / "orbit")])
    pictures = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "orbit" / "rgb").glob("*.png"))]
    assert len(pictures) == 2
    for picture in pictures:
        height, width, _ = picture.shape
        red, green = (picture[..., c] > 100 for c in (0, 1))
        assert red.mean() > 0.1 and green.mean() > 0.01
        rows, columns = (np.nonzero(red | green)[k].mean() for k in (0, 1))
        assert abs(rows - height / 2) < 0.1 * height and abs(columns - width / 2) < 0.05 * width
        assert np.nonzero(green)[0].mean() < np.nonzero(red)[0].mean() - 0.1 * height


def test_render_of_a_cut_out_is_its_picture_on_any_background(tmp_path, capsys):
    """Straight alpha, so that laid on white it is what rendering on white gives."""
    file, out = str(tmp_path / "ball.ply"), tmp_path / "v1.2"
    write_splats(ball(), tmp_path / "ball.ply")
    for background in ("transparent", "white"):
        main(["render", file, "--frames", "1", "--background", background, "--out", str(out / background)])
    rgba = np.asarray(Image.open(out / "transparent/rgb/0000.png")).astype(float)
    white = np.asarray(Image.open(out / "white/rgb/0000.png")).astype(float)
    laid = rgba[..., :3] * rgba[..., 3:] / 255 + 255 - rgba[..., 3:]
    assert 0.1 < (rgba[..., 3] == 0).mean() < 0.9 and (rgba[..., 3] > 240).any()
    assert abs(laid - white).max() < 3
    for wrong, message in (("film.mp4", "cannot be transparent"), ("film.mov", "films are written as .mp4")):
        with pytest.raises(SystemExit):
            main(["render", file, "--background", "transparent", "--out", str(tmp_path / wrong)])
        assert message in capsys.readouterr().err.replace("\n", " ")


def test_render_is_told_what_is_up(tmp_path):
    """The same ball upside down: its green side below."""
    write_splats(ball(), tmp_path / "ball.ply")
    main(["render", str(tmp_path / "ball.ply"), "--frames", "1", "--up", "y", "--out", str(tmp_path / "orbit")])
    picture = np.asarray(Image.open(tmp_path / "orbit/rgb/0000.png"))
    red, green = (np.nonzero(picture[..., c] > 100)[0].mean() for c in (0, 1))
    assert green > red + 100


def test_render_of_nothing_is_a_sentence(tmp_path, capsys):
    write_splats(ball(0), tmp_path / "none.ply")
    with pytest.raises(SystemExit):
        main(["render", str(tmp_path / "none.ply"), "--out", str(tmp_path / "x")])
    assert "holds no splats" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("case", ["tiny", "basic"])
def test_brushs_pictures_survive_the_file(data_dir, tmp_path, case):
    """gsplat's renderings of known splats, drawn from the .ply that we wrote of them."""
    folder = data_dir / "golden_peers/brush"
    stored = load_file(folder / f"{case}_case.safetensors")
    coefficients = stored["coeffs"]
    splats = Gaussians(
        stored["means"], stored["scales"], stored["quats"], stored["opacities"], coefficients[:, 0], coefficients[:, 1:]
    )
    write_splats(splats, tmp_path / "a.ply")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([0.123, 0.456, -8.0])
    camera = Camera("PINHOLE", 123, 82, torch.tensor([61.5, 61.5, 61.5, 41.0], dtype=torch.float64), pose)
    out = render_splats(read_splats(tmp_path / "a.ply").gaussians, camera)
    torch.testing.assert_close(out.rgb, stored["out_img"][..., :3], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.alpha, stored["out_img"][..., 3:], rtol=0, atol=1e-5)
    turn = torch.diag(torch.tensor([2.0, -2.0, -2.0, 1.0]))  # another frame: turned, twice as large
    out = render_splats(splats.transformed(turn), camera.moved(turn))
    torch.testing.assert_close(out.rgb, stored["out_img"][..., :3], rtol=0, atol=2e-3)  # 2e-3: 0.3 px of blur stay
