"""The original `.pkl` files of body models, read without running any code that they name.

A pickle is a program: it may call whatever it names. This reader knows numpy's arrays, scipy's sparse matrices and
chumpy's variables, as stand-ins that hold arrays and nothing else, and refuses every other name.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from neural3d.errors import UserError


class _Held:
    """Stands for an object of a library: keeps what it was made of."""

    def __init__(self, *_: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def array(self) -> np.ndarray:
        """Of a chumpy variable its value, of a sparse matrix all of it."""
        if "x" in self.state:
            return plain(self.state["x"])
        if {"data", "indices", "indptr"} <= self.state.keys():
            from scipy.sparse import csc_matrix, csr_matrix

            rows, columns = self.state["_shape"] if "_shape" in self.state else self.state["shape"]
            kind = csr_matrix if isinstance(self, _HeldRows) else csc_matrix
            parts = tuple(plain(self.state[name]) for name in ("data", "indices", "indptr"))
            return kind(parts, shape=(rows, columns)).toarray()
        raise ValueError("an object that holds no array")


class _HeldRows(_Held):
    """A sparse matrix by rows."""


def _encoded(text: str, *_: Any) -> bytes:
    """Bytes as Python 2 wrote them: `codecs.encode(text, "latin1")`, and no other codec."""
    return text.encode("latin1")


def _remade(kind: type, *_: Any) -> Any:
    """`copyreg._reconstructor` for stand-ins."""
    if not issubclass(kind, _Held):
        raise pickle.UnpicklingError("an object of a kind that is not known")
    return kind()


_ARRAYS = {  # what numpy's pickles name, wherever its versions keep it
    "_reconstruct": np.zeros(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in _ARRAYS:
            return _ARRAYS[name]
        if module.startswith("scipy.sparse") and name in ("csc_matrix", "csr_matrix"):
            return _HeldRows if name == "csr_matrix" else _Held
        if module.split(".")[0] == "chumpy":
            return _Held
        known = {
            ("_codecs", "encode"): _encoded,
            ("copy_reg", "_reconstructor"): _remade,
            ("copyreg", "_reconstructor"): _remade,
            ("__builtin__", "object"): object,
            ("builtins", "object"): object,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which may be a program that does harm")
        return known[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """A pickled dictionary. Raises UserError where it is none, is damaged, or asks for anything but arrays."""
    try:
        with path.open("rb") as file:
            found = _Unpickler(file, encoding="latin1").load()
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{path}: cannot be read ({error}); take the model's .npz, or download it anew.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, not a body model; check the path.")
    return found


def plain(value: Any) -> np.ndarray:
    """The array in what a pickle held. Raises ValueError where there is none."""
    return value.array() if isinstance(value, _Held) else np.asarray(value)
