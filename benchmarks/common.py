"""What every benchmark needs: interleaved medians, the machine's ceilings and its name."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch


def interleaved(
    candidates: dict[str, Callable[[], object]],
    *,
    rounds: int = 7,
    warmup: int = 1,
    take: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Median seconds of each candidate, run in turn (A B C A B C …) so that a noisy machine is unfair to none.

    take=min suits what lasts a millisecond: there one interruption of one thread is ten times what is measured.
    """
    cuda = torch.cuda.is_available()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for i in range(warmup + rounds):
        for name, run in candidates.items():
            if cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if cuda:
                torch.cuda.synchronize()
            if i >= warmup:
                times[name].append(time.perf_counter() - start)
    return {name: take(t) for name, t in times.items()}


def sgemm_ceiling(n: int = 1536) -> Callable[[], object]:
    """A float32 matrix product of 2n³ FLOPs to put among the candidates."""
    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    return lambda: torch.mm(a, b, out=out)


def copy_ceiling(mib: int = 256, device: str = "cpu") -> Callable[[], object]:
    """A copy that reads and writes `mib` MiB each."""
    a = torch.ones(mib << 18, device=device)
    b = torch.empty_like(a)
    return lambda: b.copy_(a)


def machine() -> str:
    """One line for the head of a results file: processor, threads, torch, commit."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")), cpu)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu}{gpu}, {torch.get_num_threads()} threads, torch {torch.__version__}, commit {commit or 'unknown'}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
