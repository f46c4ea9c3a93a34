"""neural3d: one engine for neural scene representations.

    run = neural3d.load("runs/fox-ngp")        # a trained scene: run.render(run.scene.views[0].camera).rgb
    scene = neural3d.load_scene("photos/")     # cameras and pictures of a capture
    neural3d.ops                               # our kernels, each usable on its own

`import neural3d` is instant: each part is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural3d import ops
    from neural3d.errors import UserError
    from neural3d.loading import load_scene
    from neural3d.run import load

__version__ = "0.1.0"
if not (Path(__file__).parent / "viewer").is_dir():  # a checkout: setup.py maps viewer/, beside neural3d/, into it
    __path__.append(str(Path(__file__).parents[1]))
# How often an idle thread of OpenMP looks for work before it sleeps, some 0.1 ms. GCC's own 300,000 keep it spinning
# between loops for milliseconds, which on a core shared with another busy program costs what the next loop needs:
# training then falls to a tenth (benchmarks/bench_busy.py). The runtime can be told only before torch loads it, so this
# does nothing where torch was imported first; what the user has set stays.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "5000"
__all__ = ["UserError", "load", "load_scene", "ops"]

_HOME = {
    "UserError": "neural3d.errors",
    "load": "neural3d.run",
    "load_scene": "neural3d.loading",
}  # where each public name is defined


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("neural3d.ops")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'neural3d' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
