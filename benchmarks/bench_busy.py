"""Training beside one busy process: steps per second, quiet and beside a loop that takes whatever a core gives it.

    python benchmarks/bench_busy.py                              # ngp, splat and igr
    GOMP_SPINCOUNT=300000 python benchmarks/bench_busy.py ngp    # how OpenMP's threads wait; see neural3d/__init__.py

Quiet and busy stretches alternate (the neighbour is stopped and continued), so that a machine that slows down meanwhile
is unfair to neither. The scene is the demo's; igr has a sphere.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import neural3d  # first: it says how OpenMP's threads wait before torch loads them

import torch  # isort: skip
from common import machine, table

from neural3d.run import configure
from neural3d.synthetic.analytic import make_demo_scene
from neural3d.train import Trainer


def make_trainer(method: str, folder: Path) -> Trainer:
    data = folder / "scene" / "scene.toml"
    if method == "igr":
        directions = torch.nn.functional.normalize(torch.randn(20_000, 3), dim=1)
        data = folder / "sphere.xyz"
        data.write_text("".join("{} {} {}\n".format(*point) for point in directions.tolist()))
    elif not data.exists():
        make_demo_scene(folder / "scene", train_views=20)
    config, loaded = configure(data, method)
    return Trainer.create(folder / method, config, loaded, torch.device("cpu"))


def rate(trainer: Trainer, seconds: float) -> float:
    """Steps per second for about so long."""
    first, begin = trainer.step, time.perf_counter()
    trainer.fit(1 << 30, stop=lambda: time.perf_counter() > begin + seconds, previews=False)
    return (trainer.step - first) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=["ngp", "splat", "igr"])
    parser.add_argument("--seconds", type=float, default=5.0, help="of a stretch")
    parser.add_argument("--rounds", type=int, default=3, help="a quiet and a busy stretch each")
    parser.add_argument("--warmup", type=float, default=10.0, help="seconds before the first")
    options = parser.parse_args()
    spins = os.environ.get("GOMP_SPINCOUNT", "the runtime's own")
    print(f"{machine()}, neural3d {neural3d.__version__}, GOMP_SPINCOUNT {spins}")
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
    rows = []
    try:
        neighbour.send_signal(signal.SIGSTOP)
        with TemporaryDirectory() as folder:
            for method in options.methods:
                trainer = make_trainer(method, Path(folder))
                rate(trainer, options.warmup)
                quiet = busy = 0.0
                for _ in range(options.rounds):
                    quiet += rate(trainer, options.seconds) / options.rounds
                    neighbour.send_signal(signal.SIGCONT)
                    busy += rate(trainer, options.seconds) / options.rounds
                    neighbour.send_signal(signal.SIGSTOP)
                rows.append([method, f"{quiet:.2f}", f"{busy:.2f}", f"{100 * busy / quiet:.0f} %"])
    finally:
        neighbour.kill()
    print(table(["method", "steps/s quiet", "beside a busy process", "share"], rows))


if __name__ == "__main__":
    main()
