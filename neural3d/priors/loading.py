"""From what the user names to Examples: files of examples, and what other runs and clips hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neural3d.checkpoint import load_state
from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.examples.reading import HELD_OUT, made, read_examples


def load_examples(path: str | Path) -> Examples:
    """Pictures, vectors, or the latents of a run that has learnt a category. Raises UserError for anything wrong."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path.")
    path = path.resolve()
    if (path / "config.json").exists():
        return _latents(path)
    return read_examples(path)


def _latents(run: Path) -> Examples:
    """Of a deepsdf run: one for each shape that it learnt from, every 8th held out."""
    latents = load_state(run / "checkpoint.safetensors").get("method", {}).get("latents")
    if latents is None:
        raise UserError(f"{run}: a run without latents; a prior of shapes learns from those of --method deepsdf.")
    held = np.arange(len(latents)) % HELD_OUT == 0
    values = latents.cpu().numpy()
    return made(run, {"train": (values[~held], None), "test": (values[held], None)})
