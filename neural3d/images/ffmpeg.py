"""imageio-ffmpeg, set up: the one place that imports it, and only when a film is read or written."""

from __future__ import annotations

import os
from types import ModuleType


def imageio_ffmpeg() -> ModuleType:
    """The library, which brings ffmpeg itself along.

    By default it starts ffmpeg by a fork, to shield it from Ctrl-C; a fork of a process that fills the memory can fail
    (ENOMEM) and one of torch's many threads can hang. We remove an unfinished film anyway, so ffmpeg may hear Ctrl-C.
    """
    os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")
    import imageio_ffmpeg

    return imageio_ffmpeg
