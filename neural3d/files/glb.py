"""glTF 2.0 binary files: arrays in one buffer, and the document that names them."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

import numpy as np

POINTS, INDICES = 34962, 34963  # ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER: what a view of the buffer is for
_COMPONENTS = {"f4": 5126, "u4": 5125, "u2": 5123, "u1": 5121}
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Glb:
    """Collects arrays, then writes. `accessors` and `views` are the document's."""

    def __init__(self) -> None:
        self.accessors: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.blobs: list[bytes] = []
        self.size = 0

    def view(self, blob: bytes, target: int | None = None) -> int:
        """Bytes, from a multiple of four on. Returns the number of their bufferView."""
        said: dict[str, Any] = {"buffer": 0, "byteOffset": self.size, "byteLength": len(blob)}
        self.views.append(said if target is None else {**said, "target": target})
        self.blobs.append(blob + b"\0" * (-len(blob) % 4))
        self.size += len(self.blobs[-1])
        return len(self.views) - 1

    def add(self, array: np.ndarray, target: int | None = POINTS, *, bounds: bool = False, **extra: Any) -> int:
        """An array (n,) or (n, k), k 2 to 4 or 16, of float32, uint32, uint16 or uint8 (other kinds become float32).

        bounds: say the least and the greatest of each column, as positions and times must. Returns its accessor.
        """
        kind = array.dtype.str[1:] if array.dtype.str[1:] in _COMPONENTS else "f4"
        array = np.ascontiguousarray(array, "<" + kind)
        columns = array.shape[1] if array.ndim > 1 else 1
        accessor = {"componentType": _COMPONENTS[kind], "count": len(array), "type": _KINDS[columns], **extra}
        if bounds and len(array):
            rows = array.reshape(len(array), columns)
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        self.accessors.append({"bufferView": self.view(array.tobytes(), target), **accessor})
        return len(self.accessors) - 1

    def write(self, file: BinaryIO, document: dict[str, Any]) -> None:
        """The document with what was added."""
        document = {
            "asset": {"version": "2.0", "generator": "neural3d"},
            "scene": 0,
            **document,
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": self.size}],
        }
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + self.size))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", self.size, b"BIN\0"))
        for blob in self.blobs:
            file.write(blob)
