"""One scene on several processes: `torchrun --nproc-per-node 8 -m neural3d train SCENE`.

Every process holds the whole method and draws its own rays or photos. Gradients are summed, so that all take the same
step; what else changes a method is drawn from random numbers that all share. A method is alone unless told otherwise.

On the CPUs of one machine gradients travel whole, through memory that processes share; hash tables lie there with their
moments, and each process steps a part of their rows (`divide`). Elsewhere rows of large tables
that no process touched are left out (hash grids, splats out of sight): a byte a row says which those are, then the
others travel. Sums run in the same order in all processes, so that these stay equal to the bit, which `require_equal`
proves.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.shared import Shared

PATIENCE = timedelta(minutes=30)  # the first process may have to find the poses of photos before all begin
ALIGNED = 64  # bytes: of a pack of numbers
MANY = 4096  # rows from which a table is searched for those that have been touched


@dataclass(frozen=True)
class Processes:
    """This one is number `rank` of `count`."""

    rank: int = 0
    count: int = 1
    shared: Shared | None = None  # where all are on one machine, and on its CPUs
    _along: list[Tensor] = field(default_factory=list)
    # Of tables that lie in common memory: this one's rows, and all processes' gradients (P, *shape), there as well.
    _divided: dict[Tensor, tuple[slice, Tensor]] = field(default_factory=dict)

    @property
    def first(self) -> bool:
        """Is it the one that writes and speaks?"""
        return self.rank == 0

    def share(self, amount: int) -> int:
        """How many of so many fall to this process."""
        return amount // self.count + (self.rank < amount % self.count)

    def total(self, *tensors: Tensor) -> None:
        """Each becomes its sum over all processes, in place."""
        for t in tensors:
            if self.shared is not None:
                torch.sum(self._every(self.shared, t), 0, out=t.view(-1))
            elif self.count > 1:
                with _others():
                    dist.all_reduce(t)

    def largest(self, *tensors: Tensor) -> None:
        """Each becomes its largest value, element by element, in place."""
        for t in tensors:
            if self.shared is not None:
                torch.amax(self._every(self.shared, t), 0, out=t.view(-1))
            elif self.count > 1:
                with _others():
                    dist.all_reduce(t, dist.ReduceOp.MAX)

    def _every(self, shared: Shared, t: Tensor) -> Tensor:
        """(P, numel) all processes' values."""
        rows = shared.rows(t.nbytes)[:, : t.nbytes].view(t.dtype)
        rows[self.rank].view(t.shape).copy_(t)
        shared.wait()
        return rows

    def sums(self, *numbers: float) -> list[float]:
        """Of plain numbers, over all processes."""
        if self.count == 1:
            return list(numbers)
        t = torch.tensor(numbers, dtype=torch.float64)
        self.total(t)
        return t.tolist()

    def most(self, number: float) -> float:
        """The largest of all processes' numbers."""
        t = torch.tensor([number], dtype=torch.float64)
        self.largest(t)
        return float(t)

    def of_first(self, *numbers: float) -> list[float]:
        """The first process's numbers, in all."""
        if self.count == 1:
            return list(numbers)
        t = torch.tensor(numbers, dtype=torch.float64)
        with _others():
            dist.broadcast(t, 0)
        return t.tolist()

    def gathered(self, value: Any) -> list[Any]:
        """What each process has, in the first one; elsewhere nothing."""
        if self.count == 1:
            return [value]
        found: list[Any] | None = [None] * self.count if self.first else None
        with _others():
            dist.gather_object(value, found)
        return found or []

    def common(self, generator: torch.Generator) -> torch.Generator:
        """Random numbers that all processes draw alike, from one's own. Of one alone, its own."""
        if self.count == 1:
            return generator
        seed = torch.randint(2**31, (), generator=generator, device=generator.device)
        return torch.Generator(generator.device).manual_seed(int(self.of_first(float(seed))[0]))

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            with _others():
                dist.barrier()

    def total_later(self, tensor: Tensor) -> None:
        """As `total`, along with the next gradients: every time that processes wait for each other costs."""
        if self.count > 1:
            self._along.append(tensor)

    def sum_gradients(self, parameters: Iterable[Tensor], weight: float) -> None:
        """∂L = Σ_p w_p ∂L_p. weight: w of this process."""
        every = list(parameters)
        if self.shared is not None:
            self._sum_shared(self.shared, every, weight)
        elif self.count > 1:
            self._sum_touched(every, weight)
            self.total(*self._along)
        self._along.clear()

    def divide(self, optimizer: Any) -> None:
        """Tables of `by_rows` groups and their moments become one for all: each process steps rows of its own.

        Before a step, in which `sum_gradients` then adds up these rows alone. Once a table has been trained for a
        step: until then a method may work on it by itself, which each process does.
        """
        if self.shared is None:
            return
        for p in (p for group in optimizer.param_groups if group.get("by_rows") for p in group["params"]):
            state = optimizer.state[p]
            if p in self._divided or "m" not in state:
                continue
            ends = [len(p) * k // self.count for k in (self.rank, self.rank + 1)]
            p.data = self.shared.place(p.data)
            grads = self.shared.place(torch.zeros(self.count, *p.shape, dtype=p.dtype))
            self._divided[p] = slice(*ends), grads
            optimizer.rows[p] = slice(*ends)
            state.update({key: self.shared.place(state[key]) for key in ("m", "v")})

    def together(self) -> None:
        """After a step of tables that are divided: until all have done their rows; then others' gradients are zero."""
        if self.shared is None or not self._divided:
            return
        self.shared.wait()
        for own, grads in self._divided.values():
            grads[self.rank, : own.start].zero_()
            grads[self.rank, own.stop :].zero_()

    def _sum_shared(self, shared: Shared, every: list[Tensor], weight: float) -> None:
        """Each writes its own, then reads all. First, which parameters it has a gradient of, and its weight."""
        has = torch.tensor([p.grad is not None for p in every], dtype=torch.uint8)
        small = [has, torch.tensor([weight], dtype=torch.float64), *self._along]
        whole = [p for p in every if p not in self._divided]
        starts = [0]
        for t in (*small, *whole):
            starts.append(starts[-1] + -(-t.nbytes // ALIGNED) * ALIGNED)
        rows = shared.rows(starts[-1])
        parts = [rows[:, start : start + t.nbytes].view(t.dtype) for t, start in zip((*small, *whole), starts)]
        for t, part in zip(small, parts):
            part[self.rank].view(t.shape).copy_(t)
        for p, part in zip(whole, parts[len(small) :]):
            if p.grad is not None:
                torch.mul(p.grad, weight, out=part[self.rank].view(p.shape))
        for p, (_, grads) in self._divided.items():
            if p.grad is not None and p.grad.data_ptr() != grads[self.rank].data_ptr():
                grads[self.rank].copy_(p.grad)
        shared.wait()
        there = dict(zip(every, parts[0].T.tolist()))  # of each, which processes have a gradient
        for p in self._divided:
            if any(there.get(p, [])):
                self._sum_own_rows(p, parts[1][:, 0].tolist())
        for p, part in zip(whole, parts[len(small) :]):
            if not any(there[p]):
                continue
            if p.grad is None:
                p.grad = torch.empty_like(p)
            first, *others = (row.view(p.shape) for row, is_there in zip(part, there[p]) if is_there)
            if others:
                torch.add(first, others.pop(0), out=p.grad)
            else:
                p.grad.copy_(first)
            for other in others:
                p.grad += other
        for t, part in zip(self._along, parts[2:]):
            torch.sum(part, 0, out=t)

    def _sum_own_rows(self, p: Tensor, weights: list[float]) -> None:
        """In place: nobody else reads these rows of this process's gradient."""
        own, grads = self._divided[p]
        total = grads[self.rank, own]
        total *= weights[self.rank]
        for rank in range(self.count):
            if rank != self.rank:
                total.add_(grads[rank, own], alpha=weights[rank])
        p.grad = grads[self.rank]  # where the next backward pass adds to zeros

    def _sum_touched(self, every: list[Tensor], weight: float) -> None:
        """By messages, of rows that any process touched."""
        device = every[0].device
        tables = [p for p in every if p.ndim > 1 and len(p) >= MANY]
        marks = [torch.tensor([p.grad is not None for p in every], dtype=torch.uint8, device=device)]
        marks += [
            torch.zeros(len(p), dtype=torch.uint8, device=device) if p.grad is None else touched(p.grad) for p in tables
        ]
        sizes = [len(m) for m in marks]
        met = torch.cat(marks)
        self.largest(met)
        known, *rows = met.split(sizes)
        chosen = {id(p): r.nonzero()[:, 0] for p, r in zip(tables, rows)}
        parts = []
        for p, has in zip(every, known.tolist()):
            if has:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
                parts.append((p, p.grad if id(p) not in chosen else p.grad.index_select(0, chosen[id(p)])))
        flat = torch.cat([part.reshape(-1) for _, part in parts]).mul_(weight)
        self.total(flat)
        for (p, part), sent in zip(parts, flat.split([part.numel() for _, part in parts])):
            if id(p) in chosen:
                p.grad.index_copy_(0, chosen[id(p)], sent.view_as(part))  # type: ignore[union-attr]
            else:
                p.grad.copy_(sent.view_as(part))  # type: ignore[union-attr]

    def require_equal(self, state: dict[str, Tensor], step: int) -> None:
        """Raises RuntimeError where processes hold different numbers: a mistake of the program."""
        if self.count == 1:
            return
        sums = {name: zlib.crc32(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
                for name, t in state.items()}  # fmt: skip
        every = self.gathered(sums)
        if wrong := sorted({name for other in every for name in sums if other[name] != sums[name]}):
            raise RuntimeError(f"processes have come apart by step {step}, in {', '.join(wrong)}")


ALONE = Processes()


def touched(grad: Float[Tensor, "N ..."]) -> Tensor:
    """(N,) uint8: 1 where a row is not all zero."""
    rows = grad.reshape(len(grad), -1)
    if rows.shape[1] == 2:  # a hash grid's features, as one number
        return (rows.contiguous().view(torch.int64)[:, 0] != 0).to(torch.uint8)
    return (rows != 0).any(1).to(torch.uint8)


def join(device: str) -> Processes:
    """The processes that torchrun started, of which this is one; only this one, where nobody did.

    device: auto, cpu or cuda, as asked for. On CPUs they talk by gloo, on GPUs, of which each has its own, by NCCL.
    Raises UserError where there are fewer GPUs here than processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    local = int(os.environ.get("LOCAL_RANK", "0"))
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise UserError(
                f"{torch.cuda.device_count()} GPUs here, and more processes; start as many: --nproc-per-node gpu."
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    processes = Processes(dist.get_rank(), count)
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == str(count) and hasattr(os, "memfd_create")
    if backend == "gloo" and one_machine:
        return replace(processes, shared=Shared(processes.rank, count, processes.of_first, processes.wait))
    return processes


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _others() -> Iterator[None]:
    """Around what needs all: where one has gone, says so."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"another process of this training has ended ({str(error).partition(chr(10))[0][:120]}); start all again "
            "with --resume."
        ) from None
