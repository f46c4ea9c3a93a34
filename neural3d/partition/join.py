"""The cells' splats as one run: each splat from the cell on whose own ground its centre lies; so none is doubled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from neural3d.checkpoint import load_state, save_state
from neural3d.methods.seeds import within
from neural3d.partition.plan import Cell

NUMBERS = ("means", "log_scales", "quats", "opacity_logits", "sh_dc", "sh_rest")


def join(checkpoint: Path, overview: Path, cells: Sequence[tuple[Cell, Path]], step: int) -> int:
    """Writes the checkpoint of the whole; how many splats it has.

    overview: its run, whose gains and background are kept. cells: each with its run. step: what the checkpoint says.
    One tensor after the other, so that no more than one copy of all splats is in memory beside the file's.
    """
    state: dict[str, Any] = load_state(overview / "checkpoint.safetensors", only="method/")
    method = {name: x for name, x in state["method"].items() if not name.startswith("splats.")}

    def read(run: Path, name: str) -> torch.Tensor:
        key = f"splats.{name}"
        return load_state(run / "checkpoint.safetensors", only=f"method/{key}")["method"][key]

    kept = [within(read(run, "means").double(), torch.tensor(cell.ground).double()) for cell, run in cells]
    for name in NUMBERS:
        method[f"splats.{name}"] = torch.cat([read(run, name)[own] for (_, run), own in zip(cells, kept)])
    count = len(method["splats.means"])
    for name in ("control.pull", "control.views"):
        if name in method:
            method[name] = torch.zeros(count)
    save_state(checkpoint, {"step": step, "method": method, "extra": {"steps": step}})
    return count
