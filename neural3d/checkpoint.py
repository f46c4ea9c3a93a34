"""Checkpoints: one safetensors file per state, tensors as tensors and everything else as JSON in its header.

A single file, written beside the old one and renamed over it, so that a crash or a full disk never costs the earlier
state. It holds no time and no path: equal runs give equal bytes. Never pickle.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from neural3d.errors import UserError

VERSION = 1
SEPARATOR = "/"


def write_atomically(path: Path, data: bytes) -> None:
    """Writes beside `path`, then renames: readers see the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Saves a nested dict of tensors and JSON values. Keys may not contain '/'."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    _flatten(state, "", tensors, plain)
    header = json.dumps({"version": VERSION, "plain": plain}, sort_keys=True)
    write_atomically(path, save(tensors, metadata={"neural3d": header}))


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The nested dict that `save_state` was given. Raises UserError for a missing, damaged or newer file."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as f:
            header = json.loads((f.metadata() or {})["neural3d"])
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise UserError(f"{path}: no checkpoint here; has the run been started and saved?") from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a checkpoint of neural3d, or a damaged one ({error}).") from None
    if header["version"] > VERSION:
        raise UserError(f"{path}: written by a newer neural3d (format {header['version']}); please upgrade.")
    state: dict[str, Any] = {}
    for key, value in [*header["plain"].items(), *tensors.items()]:
        *groups, name = key.split(SEPARATOR)
        inner = state
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = value
    return state


def _flatten(state: dict[str, Any], prefix: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    for key, value in state.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{key}{SEPARATOR}", tensors, plain)
        elif isinstance(value, Tensor):
            tensors[prefix + key] = value.detach().contiguous().cpu()
        else:
            plain[prefix + key] = value
