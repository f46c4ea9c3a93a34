import time

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.disk import written_behind
from neural3d.errors import UserError
from neural3d.render import RenderOut, images


def render(height: int = 24, width: int = 31) -> RenderOut:
    """Depth grows from 1 to 4 from left to right; the lower half is empty."""
    depth = torch.linspace(1, 4, width).expand(height, width)[..., None].clone()
    alpha = torch.ones(height, width, 1)
    depth[height // 2 :] = 0
    alpha[height // 2 :] = 0
    normal = torch.zeros(height, width, 3)
    normal[: height // 2, :, 2] = 1
    return RenderOut(torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0)), alpha, depth, normal)


def test_bytes_round_and_survive_bad_values():
    image = np.array([[[0.0, 0.5, 1.0], [1.2, -0.3, np.nan], [0.9 / 255, 0.4 / 255, 254.6 / 255]]])
    np.testing.assert_array_equal(images.to_bytes(image), [[[0, 128, 255], [255, 0, 0], [1, 0, 255]]])


def test_depth_colours_grow_lighter_with_distance_and_nothing_is_white():
    picture = images.depth_picture(render().depth.numpy())
    lightness = picture[0].astype(float) @ [0.3, 0.6, 0.1]
    assert np.all(np.diff(lightness) >= -1) and lightness[-1] > lightness[0] + 100
    assert np.all(picture[12:] == 255) and not np.any(np.all(picture[:12] == 255, axis=-1))
    assert np.all(images.depth_picture(np.zeros((2, 2, 1))) == 255)
    same = images.depth_picture(np.full((2, 2, 1), 3.0))
    assert np.all(same == same[0, 0]) and not np.all(same == 255)
    near, far = images.depth_picture(np.array([[[1.0], [8.0]]]), span=(1, 8))[0]
    np.testing.assert_array_equal([near, far], images._MAP[[0, -1]])


def test_saved_depth_reads_back_in_the_captures_units(tmp_path):
    out = render()
    written = images.save_render(out, tmp_path, "photos/a.b.jpg", scene_unit=2.5)
    assert [p.relative_to(tmp_path).as_posix() for p in written] == [
        f"{kind}/photos/a.b.png" for kind in ("rgb", "depth", "depth16", "normal")
    ]
    assert all(p.is_file() for p in written) and not list(tmp_path.rglob(".*"))
    stored = Image.open(written[2])
    depth = np.asarray(stored).astype(float) * float(stored.text["depth_scale"])
    np.testing.assert_allclose(depth, 2.5 * out.depth[..., 0].numpy(), atol=2.5 * 4 / 65535)
    np.testing.assert_array_equal(np.asarray(Image.open(written[0])), images.to_bytes(out.rgb))
    normal = np.asarray(Image.open(written[3]))
    assert normal[0, 0].tolist() == [128, 128, 255] and normal[-1, 0].tolist() == [255, 255, 255]


def test_only_what_is_asked_for_is_written(tmp_path):
    for show, kinds in ((("rgb",), {"rgb"}), (("depth", "normal"), {"depth", "depth16", "normal"})):
        folder = tmp_path / show[0]
        images.save_render(render(), folder, "a", show=show)
        assert {path.name for path in folder.iterdir()} == kinds


def test_writing_behind_ends_when_all_is_written_and_tells_failures(tmp_path):
    done = []

    def slow(k: int) -> None:
        time.sleep(0.01 * (10 - k))
        done.append(k)

    with written_behind() as later:
        for k in range(10):
            later(slow, k)
    assert sorted(done) == list(range(10))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"), written_behind() as later:
        later(images.save_png, tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.uint8))


def test_depth_and_normals_fade_with_alpha_so_that_hazy_rims_do_not_show():
    out = render()
    full = {kind: images.picture_of(out, kind)[:12].astype(float) for kind in ("rgb", "depth", "normal")}
    out.alpha[:12] = 0.25
    for kind, picture in full.items():
        expected = picture if kind == "rgb" else 255 + 0.25 * (picture - 255)
        np.testing.assert_allclose(images.picture_of(out, kind)[:12], expected, atol=0.51)


def test_transparent_pictures_hold_the_colour_itself(tmp_path):
    """Half covered red on black is half as bright; the file holds full red, at half the alpha."""
    out = render()
    out.alpha[:] = 0.0
    out.alpha[4:8], out.rgb[:] = 0.5, 0.0
    out.rgb[4:8] = torch.tensor([0.45, 0.1, 0.0])
    path = images.save_render(out, tmp_path, "a", transparent=True)[0]
    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (24, 31, 4)
    assert pixels[5, 3].tolist() == [230, 51, 0, 128] and pixels[0, 0].tolist() == [0, 0, 0, 0]


def test_film_plays_back_what_was_written(tmp_path):
    """Odd sizes are widened by one; H.264 is lossy, so colours agree roughly."""
    frames = [np.full((33, 47, 3), (40 + 20 * k, 200 - 10 * k, 90), np.uint8) for k in range(6)]
    images.save_film(tmp_path / "deep" / "film.mp4", iter(frames), fps=12)
    reader = imageio.get_reader(tmp_path / "deep" / "film.mp4")
    meta = reader.get_meta_data()
    assert meta["size"] == (48, 34) and meta["fps"] == pytest.approx(12)
    read = list(reader.iter_data())
    assert len(read) == 6
    for expected, got in zip(frames, read):
        np.testing.assert_allclose(got[:33, :47].mean((0, 1)), expected[0, 0], atol=6)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["film.mp4"]


def test_interrupted_films_and_full_places_leave_nothing(tmp_path):
    def frames():
        yield np.zeros((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    (tmp_path / "film.mp4").write_bytes(b"earlier")
    with pytest.raises(KeyboardInterrupt):
        images.save_film(tmp_path / "film.mp4", frames())
    assert (tmp_path / "film.mp4").read_bytes() == b"earlier" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        images.save_png(tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(UserError, match="cannot be written"):
        images.save_film(tmp_path / "file" / "a.mp4", [np.zeros((2, 2, 3), np.uint8)])


def test_comparison_places_pictures_under_their_labels():
    red, blue = np.full((10, 60, 3), (1.0, 0, 0)), np.full((10, 60, 3), (0, 0, 1.0))
    sheet = images.comparison([[red, blue], [blue, red]], ["truth", "result"])
    assert sheet.shape == (16 + 10 + 4 + 10, 60 + 4 + 60, 3)
    for y, x, colour in ((16, 0, "r"), (25, 59, "r"), (16, 64, "b"), (30, 0, "b"), (39, 123, "r")):
        assert sheet[y, x].tolist() == ([255, 0, 0] if colour == "r" else [0, 0, 255])
    assert np.all(sheet[26:30] == 255) and np.all(sheet[16:, 60:64] == 255)
    for x in (0, 64):
        assert sheet[:16, x : x + 60].min() < 128, "a label is written over each column"
