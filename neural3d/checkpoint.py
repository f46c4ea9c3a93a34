"""Checkpoints: one safetensors file per state, tensors as tensors and everything else as JSON in its header.

A single file, written beside the old one and renamed over it, so that a crash or a full disk never costs the earlier
state. It holds no time and no path: equal runs give equal bytes. Checksums tell damage. Never pickle.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from neural3d.disk import PAGE, replacing, write_pages
from neural3d.errors import UserError

VERSION = 1
SEPARATOR = "/"
KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """A state as it was when `of` copied it: written later, on another thread, while the state goes on changing.

    file: what will be written, in memory that disks can be written from without a copy of the system's: the length of
    the header, the header, filled up with spaces so that they are whole pages, and the tensors, the widest numbers
    first, so that all are aligned. tensors: views of these. plain: JSON of all else.
    """

    file: UInt8[Tensor, "bytes"]
    tensors: dict[str, Tensor]
    plain: str

    @staticmethod
    def of(state: dict[str, Any]) -> Snapshot:
        """Of a nested dict of tensors and JSON values. Keys may not contain '/'."""
        tensors: dict[str, Tensor] = {}
        plain: dict[str, Any] = {}
        _flatten(state, "", tensors, plain)
        tensors = dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))
        text = json.dumps(plain, sort_keys=True)
        begin = -(-(8 + len(_header(tensors, text, dict.fromkeys([*tensors, ""], 2**32 - 1)))) // PAGE) * PAGE
        memory = torch.empty(begin + sum(t.nbytes for t in tensors.values()) + PAGE, dtype=torch.uint8)
        file = memory[-memory.data_ptr() % PAGE :][: len(memory) - PAGE]
        copies, at = {}, begin
        for key, tensor in tensors.items():
            copies[key] = file[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
            at += tensor.nbytes
        file[:begin] = ord(" ")
        file[:8] = torch.frombuffer(bytearray((begin - 8).to_bytes(8, "little")), dtype=torch.uint8)
        return Snapshot(file, copies, text)

    def write(self, path: Path) -> None:
        """Lets go of Python's lock while it works. Raises DiskFull or UserError, and the earlier file stays."""
        sums = {key: _checksum(key, t) for key, t in self.tensors.items()} | {"": zlib.crc32(self.plain.encode())}
        header = _header(self.tensors, self.plain, sums)
        self.file[8 : 8 + len(header)] = torch.frombuffer(bytearray(header), dtype=torch.uint8)
        with replacing(path, len(self.file)) as part:
            write_pages(part, self.file.numpy().data)


def _header(tensors: dict[str, Tensor], plain: str, sums: dict[str, int]) -> bytes:
    """As https://huggingface.co/docs/safetensors lays it out; spaces may follow."""
    ours = {"version": VERSION, "plain": json.loads(plain), "crc32": sums}
    entries: dict[str, Any] = {"__metadata__": {"neural3d": json.dumps(ours, sort_keys=True)}}
    at = 0
    for key, tensor in tensors.items():
        place = [at, at := at + tensor.nbytes]
        entries[key] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
    return json.dumps(entries).encode()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Saves a nested dict of tensors and JSON values. Keys may not contain '/'."""
    Snapshot.of(state).write(path)


def load_state(path: Path, device: torch.device | str = "cpu", only: str = "") -> dict[str, Any]:
    """The nested dict that `save_state` was given. Raises UserError for a missing, damaged or newer file.

    only: how the tensors' names begin, with '/' between groups; others are left on the disk.
    """
    try:
        with safe_open(path, framework="pt") as f:
            header = json.loads((f.metadata() or {})["neural3d"])
            tensors = {key: f.get_tensor(key) for key in f.keys() if key.startswith(only)}  # noqa: SIM118 (not a dict)
        version, plain = header["version"], header["plain"]
        if version > VERSION:
            raise UserError(f"{path}: written by a newer neural3d (format {version}); please upgrade.")
        found = {key: _checksum(key, t) for key, t in tensors.items()}
        found[""] = zlib.crc32(json.dumps(plain, sort_keys=True).encode())
        sums = header.get("crc32", found)  # files from before there were any
        sums = {key: value for key, value in sums.items() if key.startswith(only) or not key}
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


def saved_step(path: Path) -> int:
    """The step of a run's checkpoint, without its tensors. Raises UserError where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as f:
            return int(json.loads(f.metadata()["neural3d"])["plain"]["step"])
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{path}: not a checkpoint of neural3d, or a damaged one ({error}); train anew.") from None


def _checksum(key: str, tensor: Tensor) -> int:
    """CRC-32 of a tensor's name, kind, shape and bytes: finds every changed bit, at several GB/s."""
    start = zlib.crc32(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, start)


def _flatten(state: dict[str, Any], prefix: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    for key, value in state.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{key}{SEPARATOR}", tensors, plain)
        elif isinstance(value, Tensor):
            tensors[prefix + key] = value
        else:
            plain[prefix + key] = value
