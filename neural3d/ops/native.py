"""Finds the compiled kernels and checks what is handed to them.

The extension modules take raw pointers, so every public function checks its tensors here first: a wrong shape is a
sentence, never a crash.
"""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

import torch  # before the kernels: they use the OpenMP runtime it loads
from torch import Tensor

from neural3d import _native as _cpu


@functools.cache
def _cuda_module() -> ModuleType | None:
    """The CUDA kernels, or None with one warning that says why they cannot be used."""
    try:
        from neural3d import _native_cuda
    except ImportError as error:
        warnings.warn(
            f"neural3d's CUDA kernels cannot be used ({error}); using the CPU. "
            "Reinstall with NEURAL3D_CUDA=1 and nvcc on PATH to build them.",
            stacklevel=3,
        )
        return None
    return _native_cuda


def native(device: torch.device) -> ModuleType:
    """The kernels for a device. Raises RuntimeError where it is CUDA and the kernels for it were not built."""
    if device.type == "cpu":
        return _cpu
    if device.type == "cuda" and (module := _cuda_module()) is not None:
        return module
    raise RuntimeError(f"neural3d has no kernels for device '{device}' in this installation; use the CPU.")


def cuda_usable() -> bool:
    """True where torch sees a GPU and our CUDA kernels were built and load."""
    return torch.cuda.is_available() and _cuda_module() is not None


def stream(device: torch.device) -> int:
    """The current CUDA stream's handle, 0 on the CPU."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def check(name: str, tensor: Tensor, shape: tuple[int | None, ...], like: Tensor | None = None) -> Tensor:
    """Returns `tensor` contiguous and detached, or raises ValueError: shape entries of None match any size.

    With `like`, dtype and device must be those of `like`.
    """
    if tensor.ndim != len(shape) or any(want is not None and have != want for have, want in zip(tensor.shape, shape)):
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name} must have shape ({wanted}), not {tuple(tensor.shape)}")
    if like is not None and tensor.dtype != like.dtype:
        raise ValueError(f"{name} must be {like.dtype}, not {tensor.dtype}")
    if like is not None and tensor.device != like.device:
        raise ValueError(f"{name} must be on {like.device}, not on {tensor.device}")
    return tensor.detach().contiguous()
