"""PlayCanvas' SOG: files made by hand of both versions, folder and bundle, and what comes back of our own."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from files.many_splats import assert_same_turn, matched, scene
from PIL import Image

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.files.quantised import C0
from neural3d.files.sog import codebook, palette
from neural3d.files.splats import is_splat_file, read_splats, write_splats


def webp(rows, width=4, height=4):
    pixels = np.zeros((width * height, len(rows[0])), np.uint8)
    pixels[: len(rows)] = rows
    content = io.BytesIO()
    Image.fromarray(pixels.reshape(height, width, -1)).save(content, "WEBP", lossless=True, exact=True)
    return content.getvalue()


def by_hand(version=2):
    """Two splats. ln(1 + |x|) runs from -1 to 1 in x; the first's rotation is largest in w, the second's in z."""
    files = {
        "means_l.webp": webp([(0, 255, 0), (255, 0, 0)]),
        "means_u.webp": webp([(0, 255, 0), (255, 128, 0)]),
        "quats.webp": webp([(128, 128, 128, 252), (255, 128, 128, 255)]),
        "scales.webp": webp([(0, 1, 2), (2, 2, 255)]),
        "sh0.webp": webp([(0, 1, 2, 255), (255, 0, 0, 128)]),
        "labels.webp": webp([(0, 0, 0), (65, 0, 0)]),
        "centroids.webp": webp(
            [(k % 256, 2 * k % 256, 3 * k % 256) for k in range(3 * 64)] + [(7, 8, 9)] * 192, 192, 2
        ),
    }
    steps = np.linspace(-1, 1, 256)
    ends = {} if version == 2 else {"scales": ([-6, -5, -4], [-1, 0, 1]), "sh0": ([-1, -2, -3, -4], [1, 2, 3, 4])}
    meta = {
        "means": {"mins": [-1, 0, 0], "maxs": [1, 2, 0], "files": ["means_l.webp", "means_u.webp"]},
        "quats": {"files": ["quats.webp"]},
        "scales": {"files": ["scales.webp"]},
        "sh0": {"files": ["sh0.webp"]},
        "shN": {"files": ["centroids.webp", "labels.webp"]},
    }
    if version == 2:
        meta |= {"version": 2, "count": 2, "antialias": True}
        for name, codes in (("scales", steps - 4), ("sh0", steps), ("shN", steps)):
            meta[name]["codebook"] = codes.tolist()
        meta["shN"] |= {"count": 66, "bands": 1}
    else:
        meta["means"]["shape"] = [2, 3]
        for name, (low, high) in ends.items():
            meta[name] |= {"mins": low, "maxs": high}
        meta["shN"] |= {"mins": -1, "maxs": 1, "quantization": 8}
    return meta, files


def bundle(path, meta, files):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps(meta))
        for name, content in files.items():
            archive.writestr(name, content)


def check_common(g):
    e = np.e - 1  # of ln(1 + |x|) = 1
    expected = [[-e, np.e**2 - 1, 0], [e, np.exp(2 * 0x8000 / 65535) - 1, 0]]
    np.testing.assert_allclose(g.means.detach(), expected, rtol=1e-5)
    turns = torch.tensor([[1.0, 0, 0, 0], [0.5**0.5, 0, 0, 0.5**0.5]])
    torch.testing.assert_close(g.quats, turns, rtol=0, atol=4e-3)
    step = 2 / 255
    first = [[k * step - 1, 2 * k * step - 1, 3 * k * step - 1] for k in range(3)]
    np.testing.assert_allclose(g.sh_rest[0].detach(), first, atol=1e-5)
    np.testing.assert_allclose(g.sh_rest[1].detach(), [[7 * step - 1, 8 * step - 1, 9 * step - 1]] * 3, atol=1e-5)


def test_version_2_made_by_hand(tmp_path):
    bundle(tmp_path / "a.sog", *by_hand())
    found = read_splats(tmp_path / "a.sog")
    g, step = found.gaussians, 2 / 255
    check_common(g)
    scales = [[-5, -5 + step, -5 + 2 * step], [-5 + 2 * step, -5 + 2 * step, -3]]
    np.testing.assert_allclose(g.log_scales.detach(), scales, atol=1e-5)
    np.testing.assert_allclose(g.sh_dc.detach(), [[-1, -1 + step, -1 + 2 * step], [1, -1, -1]], atol=1e-5)
    torch.testing.assert_close(g.opacity_logits.sigmoid(), torch.tensor([1, 128 / 255]), rtol=0, atol=1e-3)
    assert found.antialiased and found.up is None and "SOG version 2" in found.layout


def test_version_1_made_by_hand(tmp_path):
    bundle(tmp_path / "a.sog", *by_hand(1))
    found = read_splats(tmp_path / "a.sog")
    g = found.gaussians
    check_common(g)
    np.testing.assert_allclose(
        g.log_scales.detach(), [[-6, -5 + 5 / 255, -4 + 10 / 255], [-6 + 10 / 255, -5 + 10 / 255, 1]], atol=1e-5
    )
    np.testing.assert_allclose(g.sh_dc.detach(), [[-1, -2 + 4 / 255, -3 + 12 / 255], [1, -2, -3]], atol=1e-5)
    np.testing.assert_allclose(g.opacity_logits.detach(), [4, -4 + 8 * 128 / 255], atol=1e-5)  # logits
    assert "version 1" in found.layout and not found.antialiased


def test_a_folder_is_read_like_a_bundle(tmp_path, capsys):
    meta, files = by_hand()
    folder = tmp_path / "scene"
    folder.mkdir()
    (folder / "meta.json").write_text(json.dumps(meta))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    for path in (folder, folder / "meta.json"):
        assert is_splat_file(path)
        check_common(read_splats(path).gaussians)
    main(["info", str(folder)])
    assert "SOG version 2" in capsys.readouterr().out
    (folder / "sh0.webp").unlink()
    with pytest.raises(UserError, match=r"no whole SOG file.*sh0\.webp"):
        read_splats(folder)
    (folder / "meta.json").write_text('{"frames": []}')
    assert not is_splat_file(folder), "another program's meta.json"


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_written_comes_back_within_its_steps(tmp_path, degree):
    gaussians = scene(degree=degree)
    assert write_splats(gaussians, tmp_path / "a.sog", antialiased=True, up=(0, 0.6, 0.8)) == []
    found = read_splats(tmp_path / "a.sog")
    assert found.up == (0, 0.6, 0.8) and found.antialiased and found.layout == "splats, SOG version 2"
    g = matched(found.gaussians, gaussians)
    logs = (x.means.sign() * x.means.abs().log1p() for x in (g, gaussians))
    torch.testing.assert_close(*logs, rtol=0, atol=0.51 * 2 * gaussians.means.abs().max().log1p().item() / 65535)
    assert (g.log_scales - gaussians.log_scales).abs().max() < 5 / 256
    assert (g.sh_dc - gaussians.sh_dc).abs().mean() < 0.01
    torch.testing.assert_close(*(x.opacity_logits.sigmoid() for x in (g, gaussians)), rtol=0, atol=0.5 / 255 + 1e-6)
    assert_same_turn(g.quats, gaussians.quats, degrees=0.8)
    assert g.sh_degree == degree
    assert degree == 0 or (g.sh_rest - gaussians.sh_rest).abs().mean() < 0.005


def test_others_find_what_they_expect_in_the_bundle(tmp_path):
    write_splats(scene(30, 2), tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        meta = json.loads(archive.read("meta.json"))
        sizes = {name: Image.open(io.BytesIO(archive.read(name))).size for name in archive.namelist()[1:]}
        quats = np.asarray(Image.open(io.BytesIO(archive.read("quats.webp")))).reshape(-1, 4)
    assert (meta["version"], meta["count"], meta["shN"]["bands"], meta["shN"]["count"]) == (2, 30, 2, 30)
    assert all(len(meta[name]["codebook"]) == 256 for name in ("scales", "sh0", "shN"))
    assert sizes["means_l.webp"] == sizes["shN_labels.webp"] == (8, 4) and sizes["shN_centroids.webp"] == (64 * 8, 1)
    assert quats[:30, 3].min() >= 252


def test_a_colour_under_no_opacity_is_kept(tmp_path):
    """WebP may forget the colours of clear pixels; here alpha is opacity, and colour an index."""
    gaussians = scene(40, 0)
    gaussians.opacity_logits.data[:] = -30
    write_splats(gaussians, tmp_path / "a.sog")
    g = matched(read_splats(tmp_path / "a.sog").gaussians, gaussians)
    assert (g.sh_dc - gaussians.sh_dc).abs().max() < 0.01


def test_a_codebook_is_nearly_as_good_as_256_numbers_can_be():
    """Of a normal distribution, 256 levels lose √3 π / (2 · 256²) of the variance (Panter and Dite, 1951)."""
    values = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    levels, places = codebook(values)
    error = ((np.array(levels)[places] - values) ** 2).mean()
    assert len(levels) == 256 and error < 1.6 * np.sqrt(3) * np.pi / 2 / 256**2
    few = np.array([3.0, -1.5, 3.0, 0.1], np.float32)
    levels, places = codebook(few)
    assert (np.array(levels, np.float32)[places] == few).all()


def test_a_palette_stands_for_many_sets(monkeypatch):
    monkeypatch.setattr("neural3d.files.sog.PALETTE", 64)
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(40, 9)).astype(np.float32)
    sets = kinds[rng.integers(0, 40, 1000)] + rng.normal(size=(1000, 9)).astype(np.float32) * 0.01
    table, label = palette(sets)
    assert len(table) <= 64 and ((table[label] - sets) ** 2).mean() < 0.25 * sets.var()


def test_none_and_damaged(tmp_path):
    write_splats(scene(0), tmp_path / "none.sog")
    assert len(read_splats(tmp_path / "none.sog").gaussians) == 0
    meta, files = by_hand()
    cases = {
        "version": ({**meta, "version": 3}, files, "version 3"),
        "count": ({**meta, "count": 17}, files, "room for 16 of 17"),
        "codebook": ({**meta, "sh0": {"codebook": [0], "files": ["sh0.webp"]}}, files, "no whole SOG"),
        "picture": (meta, {**files, "quats.webp": files["quats.webp"][:30]}, "no whole SOG"),
        "missing": ({"version": 2}, files, "no whole SOG"),
        "list": ([], files, "no whole SOG"),
    }
    for name, (meta_, files_, message) in cases.items():
        bundle(tmp_path / f"{name}.sog", meta_, files_)
        with pytest.raises(UserError, match=message) as error:
            read_splats(tmp_path / f"{name}.sog")
        assert f"{name}.sog" in str(error.value)
    (tmp_path / "text.sog").write_text("no zip")
    with pytest.raises(UserError, match=r"text\.sog is no whole SOG"):
        read_splats(tmp_path / "text.sog")


def test_rotations_of_unknown_kind_are_left_out(tmp_path):
    meta, files = by_hand()
    files["quats.webp"] = webp([(128, 128, 128, 252), (255, 128, 128, 7)])
    bundle(tmp_path / "a.sog", meta, files)
    found = read_splats(tmp_path / "a.sog")
    assert len(found.gaussians) == 1 and found.notes[0].startswith("1 splats")
    assert abs(0.5 + C0 * found.gaussians.sh_dc[0, 0] - 0.5 + C0) < 1e-5
