"""What each module here says of itself, and what they share: how files are opened and frames brought to one rate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.body.motion import Motion
from neural3d.errors import UserError
from neural3d.geometry.rotations import slerp

MAX_FRAMES = 1_000_000  # more than a day at 10 per second: a damaged number


@dataclass(frozen=True)
class Reader:
    """Of one format. files: whose they are, in words. endings: in lower case. write: None where it is only read."""

    name: str
    files: str
    endings: tuple[str, ...]
    read: Callable[[Path], Motion]
    write: Callable[[Motion, Path], None] | None = None


def load_bytes(path: Path) -> bytes:
    """Raises UserError where there is none to read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; check the path.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None


def parse_json(path: Path, data: bytes) -> dict[str, Any]:
    """Raises UserError where it is no JSON object."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no whole JSON ({error}); export or copy it again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object, not a {type(content).__name__}; is it the right file?")
    return content


def resampled(
    times: Float[Tensor, " N"], rate: float, rotations: Float[Tensor, "N J 4"], places: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "T J 4"], Float[Tensor, "T 3"]]:
    """Frames at increasing times, in seconds from 0, brought to one rate: slerp, and straight lines between places."""
    wanted = torch.arange(round(float(times[-1]) * rate) + 1) / rate
    after = torch.searchsorted(times, wanted.to(times)).clamp(1, len(times) - 1)
    share = ((wanted - times[after - 1]) / (times[after] - times[after - 1])).clamp(0, 1).to(places)[:, None]
    return (
        slerp(rotations[after - 1], rotations[after], share[..., None]),
        torch.lerp(places[after - 1], places[after], share),
    )
