"""The CUDA kernels on the CPU: where they were built, and how tests' tensors come to them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = os.environ.get("NEURAL3D_EMULATED")  # where CMakeLists.txt was built
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


def load() -> ModuleType:
    (path,) = Path(FOLDER or "").glob("_native_emulated*.so")
    spec = importlib.util.spec_from_file_location("_native_emulated", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def emulated(kernels: ModuleType) -> Iterator[None]:
    """CPU tensors go to the CUDA kernels, and memory that torch gives out is full of NaN and of absurd numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neural3d.ops.native._cpu", kernels)
        for place, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
            patch.setattr(place, name, _poisoned(getattr(place, name)))
        yield


class Counts(ctypes.Structure):
    """What kernels did (emulator.h): atomic operations of threads on global memory, and the turns they take there;
    those on shared memory; warps' collectives."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("atomics", "turns", "shared_atomics", "collectives")]


@contextmanager
def counted(kernels: ModuleType) -> Iterator[Counts]:
    """Counts while it lasts."""
    library, counts = ctypes.CDLL(kernels.__file__), Counts()
    library.emulated_count(ctypes.byref(counts))
    try:
        yield counts
    finally:
        library.emulated_count(None)


def _poisoned(empty):
    def poisoned(*args, **options):
        made = empty(*args, **options)
        if made.is_floating_point():
            return made.fill_(float("nan"))
        return made.fill_(True if made.dtype == torch.bool else torch.iinfo(made.dtype).max)

    return poisoned
