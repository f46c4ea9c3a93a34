"""Damaged copies of good files, and what reading them must not do: raise other than UserError, hang, or take memory."""

from __future__ import annotations

import json
import random
import resource
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural3d.errors import UserError

NUMBERS = (0, -1, 1, 255, 2**31 - 1, -(2**31), 2**32, 2**63, 2**70, 1e-30, -1e30, 1e308, float("nan"), float("inf"))
VALUES = (*NUMBERS, None, True, False, "", "x", "../..", "\0", "é" * 300, [], {}, [[]], [None], {"a": 1}, "1", [1] * 20)
SECONDS, WAIT = 10.0, 12  # that a small file may take of the processor; so many times that by the clock
TIMES, SLACK = 10, 96 * 2**20  # memory: so many times the files, and what libraries take when they are first used


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three changes: of JSON mostly to its values, of text to its words and lines, of all else to its bytes."""
    for _ in range(rng.randint(1, 3)):
        ways: list[Callable[[bytes, random.Random], bytes]] = [_bytes]
        try:
            data.decode()
            ways += [_words] * 3
            json.loads(data)
            ways += [_values] * 12
        except (ValueError, RecursionError):
            pass
        data = rng.choice(ways)(data, rng)
    return data


def _bytes(data: bytes, rng: random.Random) -> bytes:
    changed, size = bytearray(data), len(data)
    if not size:
        return rng.randbytes(20)
    place = min(int(rng.random() ** rng.choice((1, 4)) * size), size - 1)  # headers more often than what follows
    length = min(rng.choice((1, 2, 4, 8, 64)), size - place)
    kind = rng.randrange(7)
    if kind == 0:
        changed[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        changed[place : place + length] = rng.randbytes(length)
    elif kind == 2:
        del changed[place:]
    elif kind == 3:
        del changed[place : place + length]
    elif kind == 4:
        changed[place:place] = changed[place : place + rng.randint(1, size)]
    elif kind == 5:
        changed[place : place + length] = bytes(length)
    else:
        value = rng.choice(NUMBERS)
        as_integer = isinstance(value, int) and -(2**63) <= value < 2**63
        number = struct.pack("<q", value) if as_integer else struct.pack("<d", float(value))
        changed[place : place + length] = number[:length]
    return bytes(changed)


def _words(data: bytes, rng: random.Random) -> bytes:
    lines = data.decode().split("\n")
    row = rng.randrange(len(lines))
    words = lines[row].split(" ")
    kind = rng.randrange(6)
    if kind == 0:
        del lines[row]
    elif kind == 1:
        lines.insert(row, lines[row])
    elif kind == 2:
        del words[rng.randrange(len(words))]
    else:
        words[rng.randrange(len(words))] = str(rng.choice(VALUES))
    if kind > 1:
        lines[row] = " ".join(words)
    return "\n".join(lines).encode()


def _values(data: bytes, rng: random.Random) -> bytes:
    content = [json.loads(data)]
    places = list(_places(content))
    holder, key = rng.choice(places)
    if rng.random() < 0.2 and holder is not content:
        del holder[key]
    elif rng.random() < 0.2 and isinstance(holder, list):
        holder.insert(key, holder[key])
    else:
        holder[key] = rng.choice(VALUES)
    return json.dumps(content[0]).encode() if content else b""


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in range(len(value)) if isinstance(value, list) else value:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


@dataclass(frozen=True)
class Outcome:
    """kind: read, refused, traceback, hang or memory; the last three are faults. said: of faults, what to look at."""

    kind: str
    said: str = ""

    @property
    def fault(self) -> bool:
        return self.kind not in ("read", "refused")


class Hang(BaseException):
    """Not an Exception, so that no reader takes it for one of its own."""


def tried(read: Callable[[Path], object], folder: Path, seconds: float = SECONDS) -> Outcome:
    """What reading a folder comes to."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, kind, said = time.process_time(), "read", ""
    try:
        with _at_most(seconds):
            read(folder)
    except UserError:
        kind = "refused"
    except Hang:
        kind, said = "hang", traceback.format_exc(limit=-6)
    except Exception:
        kind, said = "traceback", traceback.format_exc(limit=-6)
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if kind in ("read", "refused") and taken > TIMES * size + SLACK:
        return Outcome("memory", f"{taken / 2**20:.0f} MiB for {size / 2**20:.2f} MiB of files")
    if kind in ("read", "refused") and time.process_time() - began > 2 * seconds:  # in a library that heard no alarm
        return Outcome("hang", f"{time.process_time() - began:.0f} s")
    return Outcome(kind, said)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Hang(f"{seconds:g} s")

    timers = {signal.SIGALRM: (signal.ITIMER_REAL, WAIT * seconds), signal.SIGPROF: (signal.ITIMER_PROF, seconds)}
    previous = {number: signal.signal(number, ring) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
