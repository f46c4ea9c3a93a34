"""Damaged inputs of every reader, in thousands: which ended in a traceback, a hang, a crash, or took all the memory?

    python benchmarks/fuzz.py --count 10000 --keep faults/      # shared by all readers; an hour
    python benchmarks/fuzz.py --each 300 --only colmap run      # of those whose names hold one of the words

Prints a table: how many were read all the same, how many were refused with a sentence, and the faults, whose inputs are
kept to look at. What is damaged, and how, is in tests/fuzz; the seed makes a run repeatable. Each input has a process
of its own, so that a crash in a library costs one line; what crashed lies in the kept folder, too.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
KINDS = ("read", "refused", "traceback", "hang", "memory", "crash")
ROOM = 4 * 2**30  # of addresses, beyond what the libraries take: what asks for more gets a MemoryError


def work(name: str, first: int, count: int, seed: int, keep: Path) -> None:
    """Tries the inputs `first` to `count`; a line for each on stdout."""
    from fuzz.corpus import CORPUS
    from fuzz.mutations import mutated, tried

    given = CORPUS[name]
    with tempfile.TemporaryDirectory() as scratch:
        good = Path(scratch) / "good"
        good.mkdir()
        given.write(good)
        assert (outcome := tried(given.read, good)).kind == "read", outcome.said
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        for i in range(first, count):
            rng = random.Random(f"{seed} {name} {i}")
            folder = keep / f"{name.replace('/', '_')} {i}"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(good, folder)
            target = rng.choice(sorted(f for f in folder.rglob(given.files) if f.is_file()))
            target.write_bytes(mutated(target.read_bytes(), rng))
            print(json.dumps({"begun": i}), flush=True)
            outcome = tried(given.read, folder)
            print(json.dumps({"kind": outcome.kind, "said": outcome.said, "file": str(target)}), flush=True)
            if not outcome.fault:
                shutil.rmtree(folder)


def fuzzed(name: str, count: int, seed: int, keep: Path) -> Counter[str]:
    """Runs `work` again from the next input on, wherever its process dies."""
    kinds: Counter[str] = Counter()
    done = 0
    while done < count:
        words = ["--work", name, "--first", str(done), "--count", str(count), "--seed", str(seed), "--keep", str(keep)]
        begun = None
        with subprocess.Popen(
            [sys.executable, __file__, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout
            for line in process.stdout:
                if not line.startswith("{"):
                    continue  # what libraries print
                told = json.loads(line)
                if "begun" in told:
                    begun = told["begun"]
                    continue
                kinds[told["kind"]] += 1
                done, begun = done + 1, None
                if told["said"]:
                    print(f"\n{told['kind']}: {told['file']}\n{told['said']}", flush=True)
        if done < count:
            if begun is None:
                raise SystemExit(f"{name}: ended with {process.returncode} before it had begun")
            print(f"\ncrash ({process.returncode}): {name} {begun}", flush=True)
            kinds["crash"] += 1
            done = begun + 1
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="damaged inputs in all, shared by the readers")
    parser.add_argument("--each", type=int, help="instead: of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "neural3d-fuzz")
    parser.add_argument("--only", nargs="*", default=[""], help="words in the names of the inputs")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.keep.mkdir(parents=True, exist_ok=True)
    if asked.work:
        return work(asked.work, asked.first, asked.count, asked.seed, asked.keep)
    from fuzz.corpus import CORPUS

    names = [name for name in CORPUS if any(word in name for word in asked.only)]
    each = asked.each or -(-asked.count // len(names))
    total: Counter[str] = Counter()
    rows = [f"| input | {' | '.join(KINDS)} |", "|---|" + "---:|" * len(KINDS)]
    for name in names:
        kinds = fuzzed(name, each, asked.seed, asked.keep)
        rows.append(f"| {name} | {' | '.join(str(kinds[kind]) for kind in KINDS)} |")
        print(rows[-1], flush=True)
        total += kinds
    rows.append(f"| all {total.total()} | {' | '.join(str(total[kind]) for kind in KINDS)} |")
    print("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
