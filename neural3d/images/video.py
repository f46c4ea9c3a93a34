"""Videos as photos: the sharpest frame of each of so many equal stretches."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from neural3d.errors import UserError
from neural3d.images.ffmpeg import imageio_ffmpeg

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".3gp")


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and path.is_file()


def videos_in(folder: Path) -> str:
    """For errors about a folder without photos: that it is a film that lies there. Empty where none does."""
    videos = sorted(path for path in folder.iterdir() if is_video(path)) if folder.is_dir() else []
    return f" Of a film, give the file itself: {videos[0]}." if videos else ""


def write_sharpest_frames(video: Path, folder: Path, count: int, report: Callable[[int, int], None]) -> list[str]:
    """Cuts the video into `count` stretches of equal length and writes the sharpest frame of each; their names.

    Named frame_NUMBER.jpg by their number in the video, upright as players show them. A video of fewer frames gives
    all. report(frames seen, frames in all). Raises UserError where the file is no video, is damaged or has no frames.
    """
    total = count_frames(video)
    count = min(count, total)

    def stretch(numbered: tuple[int, np.ndarray]) -> int:
        report(min(numbered[0] + 1, total), total)
        return min(numbered[0] * count // total, count - 1)

    written = []
    for _, frames in itertools.groupby(enumerate(read_frames(video)), stretch):
        number, frame = max(frames, key=lambda numbered: sharpness(numbered[1]))
        written.append(f"frame_{number:06d}.jpg")
        Image.fromarray(frame).save(folder / written[-1], quality=95, subsampling=0)
    if not written:
        raise _unreadable(video)
    return written


def sharpness(frame: UInt8[np.ndarray, "height width 3"]) -> float:
    """Variance of the Laplacian of the green channel: high where there are fine details, low where motion blurs them.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    g = frame[..., 1].astype(np.int16)
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(laplacian.var(dtype=np.float64)) if laplacian.size else 0.0


def read_frames(video: Path) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """All frames, decoded one at a time. Raises UserError where that fails."""
    return _arrays(video)


def _arrays(video: Path, **options: list[str]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    try:
        frames = _decode(video, **options)
        width, height = next(frames)["size"]
        for data in frames:
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
    except (OSError, RuntimeError, StopIteration, KeyError) as error:
        raise _unreadable(video) from error


def describe_video(video: Path) -> dict[str, Any]:
    """ffmpeg's size, duration (s) and fps. Raises UserError where it is no video."""
    frames = _decode(video)
    try:
        return dict(next(frames))
    except (OSError, RuntimeError, StopIteration) as error:
        raise _unreadable(video) from error
    finally:
        frames.close()


def key_frames(video: Path) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The frames that are stored whole, one every second or few: quick to decode. Raises UserError where that fails."""
    return _arrays(video, input_params=["-skip_frame", "nokey"], output_params=["-fps_mode", "passthrough"])


def count_frames(video: Path) -> int:
    """Frames in the file, without decoding them. Raises UserError where there are none."""
    try:
        total, _ = imageio_ffmpeg().count_frames_and_secs(str(video))
    except (OSError, RuntimeError) as error:
        raise _unreadable(video) from error
    if total < 1:
        raise _unreadable(video)
    return int(total)


def _decode(video: Path, **options: list[str]) -> Any:
    """ffmpeg's description, then each frame's bytes, RGB, turned as players do."""
    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # it warns of every film that is turned
    return imageio_ffmpeg().read_frames(str(video), pix_fmt="rgb24", **options)


def _unreadable(video: Path) -> UserError:
    return UserError(f"{video} holds no frames that can be decoded; is it a complete video? Try to play it.")
