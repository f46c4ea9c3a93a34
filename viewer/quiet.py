"""Keeps the banners of Open3D and its renderer, which native code prints, off the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """File descriptors 1 and 2 lead nowhere meanwhile; Python's own stdout and stderr, tracebacks too, still arrive."""
    import open3d

    sys.stdout.flush()
    sys.stderr.flush()
    python = sys.stdout, sys.stderr
    saved = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(d), "w", buffering=1) for d in saved)
    try:
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
            yield
    finally:
        sys.stdout, sys.stderr = python
        for descriptor, original in zip((1, 2), saved):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(nowhere)
