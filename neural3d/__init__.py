"""neural3d: one engine for neural scene representations.

    run = neural3d.load("runs/fox-ngp")        # a trained scene: run.render(run.scene.views[0].camera).rgb
    scene = neural3d.load_scene("photos/")     # cameras and pictures of a capture
    neural3d.ops                               # our kernels, each usable on its own

`import neural3d` is instant: each part is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural3d import ops
    from neural3d.errors import UserError
    from neural3d.run import load
    from neural3d.scene import load_scene

__version__ = "0.1.0"
if not (Path(__file__).parent / "viewer").is_dir():  # a checkout: setup.py maps viewer/, beside neural3d/, into it
    __path__.append(str(Path(__file__).parents[1]))
__all__ = ["UserError", "load", "load_scene", "ops"]

_HOME = {
    "UserError": "neural3d.errors",
    "load": "neural3d.run",
    "load_scene": "neural3d.scene",
}  # where each public name is defined


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("neural3d.ops")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'neural3d' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
