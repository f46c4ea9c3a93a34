"""Finds the compiled kernels and checks what is handed to them.

The extension modules take raw pointers, so every public function checks its tensors here first: a wrong shape is a
sentence, never a crash.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import platform
import re
import warnings
from pathlib import Path
from types import ModuleType

import torch  # before the kernels: they use the OpenMP runtime it loads
from torch import Tensor

from neural3d.errors import UserError


def _share_openmp() -> None:
    """Lets our kernels see the OpenMP runtime in this process, where torch's build loaded one for itself alone."""
    maps = Path("/proc/self/maps")
    loaded = re.search(r"/\S*/lib(gomp|iomp5|omp)\b\S*\.so\S*", maps.read_text()) if maps.exists() else None
    ctypes.CDLL(loaded[0] if loaded else "libgomp.so.1", mode=ctypes.RTLD_GLOBAL)


def _load_cpu() -> ModuleType:
    try:
        return importlib.import_module("neural3d._native")
    except ModuleNotFoundError as error:
        raise ImportError(
            "neural3d's kernels are not built in this folder: run `pip install .`, and start Python elsewhere "
            "(or, to work on neural3d itself, run tools/dev_build.sh)."
        ) from error
    except ImportError as error:
        if not re.search("undefined symbol: (GOMP_|omp_)", str(error)):
            raise
    _share_openmp()
    return importlib.import_module("neural3d._native")


_cpu = _load_cpu()
ISAS = ("base", "avx2", "avx512")  # instruction sets, each holding those before


def _as_wished(wish: str | None, isa: str) -> None:
    """Raises UserError where NEURAL3D_ISA asks for what it was not given: figures of another would bear its name."""
    if wish and wish != isa:
        why = "this processor lacks it" if wish in ISAS else "there is no such instruction set"
        known = " or ".join(ISAS[: ISAS.index(isa) + 1])
        raise UserError(f"NEURAL3D_ISA={wish}: {why}; choose {known}, or unset it for the best.")


_as_wished(os.environ.get("NEURAL3D_ISA"), _cpu.isa())


@functools.cache
def _cuda_module() -> ModuleType | None:
    """The CUDA kernels, or None with one warning that says why they cannot be used."""
    try:
        module = importlib.import_module("neural3d._native_cuda")
        problem = module.runtime_error()
        remedy = "Update the driver, or reinstall neural3d on this machine with NEURAL3D_CUDA=1."
    except ImportError as error:
        problem = "they are not built" if isinstance(error, ModuleNotFoundError) else str(error)
        remedy = "Reinstall neural3d with NEURAL3D_CUDA=1 and nvcc on PATH to build them."
    if problem:
        warnings.warn(f"neural3d's CUDA kernels cannot be used ({problem}); using the CPU. {remedy}", stacklevel=3)
        return None
    return module


def native(device: torch.device) -> ModuleType:
    """The kernels for a device. Raises RuntimeError where it is CUDA and the kernels for it were not built."""
    if device.type == "cpu":
        return _cpu
    if device.type == "cuda" and (module := _cuda_module()) is not None:
        return module
    raise RuntimeError(f"neural3d has no kernels for device '{device}' in this installation; use the CPU.")


def served_by_cpu(device: torch.device) -> bool:
    """Whether a device's kernels are those for the CPU, which keep scratch memory from call to call."""
    return hasattr(native(device), "isa")


def cuda_usable() -> bool:
    """True where torch sees a GPU and our CUDA kernels were built and run on it; says once where they do not."""
    return torch.cuda.is_available() and _cuda_module() is not None


def machine() -> str:
    """What decides how fast this installation is, in a line for reports of faults and speed."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU that torch can use"
    gpu += ", no CUDA kernels" if torch.cuda.is_available() and not cuda_usable() else ""
    python = platform.python_version()
    return f"Python {python}, torch {torch.__version__}, {_cpu.isa()} kernels, {torch.get_num_threads()} threads, {gpu}"


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
