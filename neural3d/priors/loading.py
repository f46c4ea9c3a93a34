"""From what the user names to Examples: files of examples, and what other runs and clips hold."""

from __future__ import annotations

from pathlib import Path

from neural3d.checkpoint import load_state
from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.examples.reading import made, read_examples


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
    """Of a deepsdf run: one for each shape that it learnt from; all to learn from, since none is held out."""
    latents = load_state(run / "checkpoint.safetensors").get("method", {}).get("latents")
    if latents is None:
        raise UserError(f"{run}: a run without latents; a prior of shapes learns from those of --method deepsdf.")
    return made(run, {"train": (latents.cpu().numpy(), None)})
