"""Checkpoints: one safetensors file per state, tensors as tensors and everything else as JSON in its header.

A single file, written beside the old one and renamed over it, so that a crash or a full disk never costs the earlier
state. It holds no time and no path: equal runs give equal bytes. Checksums tell damage. Never pickle.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neural3d.errors import UserError
from neural3d.files import replacing, to_disk

VERSION = 1
SEPARATOR = "/"
HEADER = 2**16  # bytes that a header may take beyond the tensors, generously


@dataclass(frozen=True)
class Snapshot:
    """A state as it was when `of` copied it: written later, on another thread, while the state goes on changing."""

    tensors: dict[str, Tensor]
    plain: str  # JSON of all else

    @staticmethod
    def of(state: dict[str, Any]) -> Snapshot:
        """Of a nested dict of tensors and JSON values. Keys may not contain '/'."""
        tensors: dict[str, Tensor] = {}
        plain: dict[str, Any] = {}
        _flatten(state, "", tensors, plain)
        return Snapshot(tensors, json.dumps(plain, sort_keys=True))

    @property
    def size(self) -> int:
        """Bytes on disk, about."""
        return sum(t.nbytes for t in self.tensors.values()) + len(self.plain) + HEADER

    def write(self, path: Path) -> None:
        """Lets go of Python's lock while it works. Raises DiskFull or UserError, and the earlier file stays."""
        sums = {key: _checksum(key, t) for key, t in self.tensors.items()} | {"": zlib.crc32(self.plain.encode())}
        header = {"version": VERSION, "plain": json.loads(self.plain), "crc32": sums}
        with replacing(path, self.size) as part:
            try:
                save_file(self.tensors, part, {"neural3d": json.dumps(header, sort_keys=True)})
            except SafetensorError as error:
                if code := re.search(r"os error (\d+)", str(error)):
                    raise OSError(int(code[1]), str(error)) from None
                raise
            part.chmod(path.parent.stat().st_mode & 0o666)  # safetensors makes files for their owner alone
            to_disk(part)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Saves a nested dict of tensors and JSON values. Keys may not contain '/'."""
    Snapshot.of(state).write(path)


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The nested dict that `save_state` was given. Raises UserError for a missing, damaged or newer file."""
    try:
        with safe_open(path, framework="pt") as f:
            header = json.loads((f.metadata() or {})["neural3d"])
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
        version, plain = header["version"], header["plain"]
        if version > VERSION:
            raise UserError(f"{path}: written by a newer neural3d (format {version}); please upgrade.")
        found = {key: _checksum(key, t) for key, t in tensors.items()}
        found[""] = zlib.crc32(json.dumps(plain, sort_keys=True).encode())
        sums = header.get("crc32", found)  # files from before there were any
        if wrong := [key for key in sums.keys() | found.keys() if sums.get(key) != found.get(key)]:
            raise ValueError(f"the checksum of {min(wrong) or 'its header'} is wrong: bits have changed since")
        state: dict[str, Any] = {}
        for key, value in [*plain.items(), *((k, t.to(device)) for k, t in tensors.items())]:
            *groups, name = key.split(SEPARATOR)
            inner = state
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[name] = value
    except FileNotFoundError:
        raise UserError(f"{path}: no checkpoint here; has the run been started and saved?") from None
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(
            f"{path}: not a checkpoint of neural3d, or a damaged one ({error}); copy it again, or train anew."
        ) from None
    return state


def _checksum(key: str, tensor: Tensor) -> int:
    """CRC-32 of a tensor's name, kind, shape and bytes: finds every changed bit, at several GB/s."""
    start = zlib.crc32(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, start)


def _flatten(state: dict[str, Any], prefix: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    for key, value in state.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{key}{SEPARATOR}", tensors, plain)
        elif isinstance(value, Tensor):
            tensors[prefix + key] = value.detach().to("cpu", copy=True).contiguous()
        else:
            plain[prefix + key] = value
