"""Asks the C library to keep memory that tensors have freed."""

from __future__ import annotations

import torch

from neural3d.ops.native import native


def keep_memory() -> bool:
    """Makes allocating large CPU tensors cheap for the rest of the process; true where that was possible.

    By default glibc takes every large block fresh from the kernel and hands it back on free. Each 4 KiB of it then
    costs a page fault and a clearing at its first touch, which triples the time of a training step whose activations
    are a few hundred MB. After this call freed blocks stay in the process's heap, ready for the next step. The price:
    the process keeps the most memory it ever used, and more where small blocks settle in the gaps of large ones.

    Where the system lets programs choose (transparent huge pages set to "madvise"), the heap also moves to pages of
    2 MiB, which spares most of the address translations that random access to a large table or a walk through long
    rows costs. Blocks allocated before are unaffected; call it early.

    Only on Linux with glibc; does nothing and returns False elsewhere.
    """
    return native(torch.device("cpu")).keep_memory()
