"""Videos become photos: the sharp frames, upright, and clear words where there are none."""

import subprocess

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image, ImageFilter

from neural3d.errors import UserError
from neural3d.images.video import key_frames, sharpness, write_sharpest_frames
from neural3d.render.images import save_film
from neural3d.sfm.footage import find_footage
from neural3d.sfm.footage_doctor import describe_footage

SHARP = (3, 9, 10, 17)  # one in each quarter of twenty frames


def noise(i):
    return np.random.default_rng(i).integers(0, 256, (64, 96, 1), np.uint8).repeat(3, axis=2)


def blurred(frame, radius=2):
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius)))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    save_film(path, (noise(i) if i in SHARP else blurred(noise(i)) for i in range(20)))
    return path


def test_the_sharpest_frame_of_each_stretch(film, tmp_path):
    seen = []
    names = write_sharpest_frames(film, tmp_path, 4, lambda done, total: seen.append((done, total)))
    assert names == [f"frame_{i:06d}.jpg" for i in SHARP]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert seen[-1] == (20, 20)
    assert np.abs(np.asarray(Image.open(tmp_path / names[0])).astype(int) - noise(3)).mean() < 25  # that very frame


def test_a_short_video_gives_all_frames(film, tmp_path):
    assert len(write_sharpest_frames(film, tmp_path, 50, lambda *_: None)) == 20


@pytest.mark.parametrize(("tag", "upright"), [("90", 1), ("-90", 3), ("180", 2)])
def test_frames_stand_upright_where_a_tag_says_how(tmp_path, tag, upright):
    """Phones store what was held upright lying on its side, and say so; players turn it, and so must we."""
    lying = np.zeros((48, 96, 3), np.uint8)
    lying[:12, :24] = 255  # a mark in a corner
    save_film(tmp_path / "plain.mp4", [lying] * 3)
    tagged = [get_ffmpeg_exe(), "-loglevel", "error", "-display_rotation", tag, "-i", tmp_path / "plain.mp4"]
    subprocess.run([*tagged, "-c", "copy", tmp_path / "phone.mp4"], check=True)
    (name, *_) = write_sharpest_frames(tmp_path / "phone.mp4", tmp_path, 1, lambda *_: None)
    frame, expected = np.asarray(Image.open(tmp_path / name)), np.rot90(lying, upright)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 10


@pytest.fixture(scope="module")
def phone_film(tmp_path_factory):
    """Stored lying on its side, with the tag by which players turn it upright: dark above, bright below."""
    folder = tmp_path_factory.mktemp("phone")
    upright = np.full((96, 64, 3), 40, np.uint8)
    upright[48:] = 200
    save_film(folder / "lying.mp4", (np.ascontiguousarray(np.rot90(upright)) for _ in range(12)))
    turn = ["-display_rotation", "-90", "-i", folder / "lying.mp4", "-c", "copy", folder / "phone.mp4"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", *turn], check=True)
    return folder / "phone.mp4"


def test_a_film_with_a_rotation_tag_stands_upright(phone_film, tmp_path):
    names = write_sharpest_frames(phone_film, tmp_path, 2, lambda *_: None)
    frames = [np.asarray(Image.open(tmp_path / name)) for name in names] + list(key_frames(phone_film))[:1]
    assert len(frames) == 3
    for frame in frames:
        assert frame.shape == (96, 64, 3)
        assert frame[:40].mean() == pytest.approx(40, abs=6) and frame[56:].mean() == pytest.approx(200, abs=6)
    rows, _ = describe_footage(find_footage(phone_film))
    said = dict(rows)
    assert "of 64×96 at" in said["video"] and said["orientation"] == "portrait, stored otherwise, and turned upright"


def test_sharpness_falls_with_blur():
    values = [sharpness(blurred(noise(0), r)) for r in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] > 10 * values[-1]
    assert sharpness(noise(0)[:2, :2]) == 0


@pytest.mark.parametrize("content", [b"", b"no film at all" * 100])
def test_no_video(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"clip\.mp4 holds no frames that can be decoded"):
        write_sharpest_frames(path, tmp_path, 10, lambda *_: None)


def test_a_video_that_was_cut_off(film, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(UserError, match=r"holds no frames that can be decoded"):
        write_sharpest_frames(path, tmp_path, 10, lambda *_: None)


def test_ffmpeg_starts_without_a_copy_of_our_memory():
    """A fork of a process that fills the memory fails; Python forks only where it has something to call in between."""
    from neural3d.images.ffmpeg import imageio_ffmpeg

    assert imageio_ffmpeg()._utils._popen_kwargs(prevent_sigint=True)["preexec_fn"] is None
