"""Memory that the processes of one machine have in common, through which gradients travel on CPUs.

Two processes sum the gradients of a hash table of 17 MB, a fifth touched, so in 5 ms; by messages of gloo in 41.
"""

from __future__ import annotations

import mmap
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from neural3d.errors import UserError

LINE = 64  # bytes of a cache line
PATIENCE = 0.5  # seconds of waiting before a process looks whether the others live
IN_ORDER = platform.machine() in ("x86_64", "AMD64")  # elsewhere a number may be seen before what it speaks of


class Shared:
    """A row of bytes for each process, twice over: the next exchange begins while slow ones still read this one.

    rank, count: of this process and of all. tell: gives all processes what the first one says, (pid, file descriptor).
    meet: returns once all are here, by messages.
    """

    def __init__(
        self, rank: int, count: int, tell: Callable[[float, float], list[float]], meet: Callable[[], None]
    ) -> None:
        self.rank, self.count, self._tell, self._meet = rank, count, tell, meet
        self._turn, self._rows = 0, torch.empty(2, count, 0, dtype=torch.uint8)
        self._round = 0
        about = self._room(count * 2 * LINE).view(torch.int64).view(count, 2, -1)[:, :, 0].numpy()
        self._arrived, self._pids = about.T  # how often each has come to `wait`; a cache line each
        self._pids[rank] = os.getpid()
        meet()

    def wait(self) -> None:
        """Until all are here. Raises UserError where one of them has ended.

        Each counts up a number of its own and looks at the others': messages wake threads, for which there is no room
        where all cores are busy, and a step would lose milliseconds to each wait. Only where stores are seen in order.
        """
        if not IN_ORDER:
            return self._meet()
        self._round += 1
        self._arrived[self.rank] = self._round
        look = time.monotonic() + PATIENCE
        while self._arrived.min() < self._round:
            time.sleep(0)  # whoever has more to do may have the core
            if time.monotonic() > look:
                look += PATIENCE
                if gone := [int(pid) for pid in self._pids if not alive(int(pid))]:
                    raise UserError(
                        f"another process of this training has ended ({gone[0]}); start all again with --resume."
                    )

    def rows(self, size: int) -> Tensor:
        """(P, at least size) uint8: where each process writes, before `wait`, its own row, and then reads all.

        size: the same in all processes.
        """
        if size > self._rows.shape[2]:
            size = max(size, 3 * self._rows.shape[2] // 2)
            size += -size % mmap.PAGESIZE
            self._rows = self._room(2 * self.count * size).view(2, self.count, size)
        self._turn = 1 - self._turn
        return self._rows[self._turn]

    def place(self, tensor: Tensor) -> Tensor:
        """A copy of what is equal in all processes, in memory that is one for all."""
        there = self._room(tensor.nbytes)[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        if self.rank == 0:
            there.copy_(tensor)
        self._meet()
        return there

    def _room(self, size: int) -> Tensor:
        """(size) bytes of the first process's; the system frees them with the last process, however that ends."""
        file = os.memfd_create("neural3d") if self.rank == 0 else -1
        try:
            if self.rank == 0:
                os.ftruncate(file, size)
            pid, number = self._tell(os.getpid(), file)
            if self.rank:
                file = os.open(Path(f"/proc/{int(pid)}/fd/{int(number)}"), os.O_RDWR)
            bytes_ = mmap.mmap(file, size)
            self._meet()
        finally:
            if file >= 0:
                os.close(file)
        return torch.frombuffer(bytes_, dtype=torch.uint8)


def alive(pid: int) -> bool:
    """On this machine, and not only waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
