"""Python programs that we start: they import the neural3d that starts them, whatever folder they run in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]  # where this neural3d is imported from
PYTHON = [sys.executable, "-P"]  # without -P a checkout that we are started in would hide the installed package


def environment() -> dict[str, str]:
    """This process's, for a child."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))}
