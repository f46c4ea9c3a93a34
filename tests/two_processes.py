"""What test_processes.py lets two processes do: torchrun two_processes.py FOLDER."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from neural3d.ops.adam import Adam
from neural3d.processes import join, leave
from neural3d.run import configure
from neural3d.train import Trainer

CPU = torch.device("cpu")
GRID = ["log2_table=13", "levels=4", "max_resolution=32", "horizon=20"]
SETTINGS = {
    "nerf": ["width=32", "depth=3", "skip=2", "color_width=16", "samples_coarse=8", "samples_fine=8", "batch=65",
             "horizon=20", "grid_resolution=16", "grid_every=3"],
    "neus": [*GRID, "color_log2_table=13", "samples_per_batch=1024", "grid_resolution=32"],
    "ngp": [*GRID, "samples_per_batch=1024", "grid_every=3", "grid_budget=2048", "exposure=true"],
    "splat": ["horizon=40", "random_points=100", "densify_from=2", "densify_every=3", "sh_every=3",
              "grow_gradient=1e-9", "exposure=true"],
}  # fmt: skip


def main(folder: Path) -> None:
    processes = join("cpu")
    for way, theirs in {"memory": processes, "messages": replace(processes, shared=None)}.items():
        gradients(folder / way, theirs)
    for method, settings in SETTINGS.items():
        rounds = 2 if method == "splat" else 1
        for name, first in (("whole", 8), ("half", 5)):
            out = folder / f"{method}-{name}"
            trainer = Trainer.create(out, *configure(folder / "photos", method, settings), CPU, processes)
            trainer.fit(rounds * first, previews=False)
        Trainer.resume(out, CPU, processes).fit(rounds * 8, previews=False)
    apart = replace(processes, shared=None)
    trainer = Trainer.create(folder / "ngp-messages", *configure(folder / "photos", "ngp", SETTINGS["ngp"]), CPU, apart)
    trainer.fit(8, previews=False)
    tables(processes)
    leave()


def tables(processes) -> None:
    """One that is not trained yet is each process's own; then both step halves of it."""
    table, waits = (torch.nn.Parameter(torch.zeros(10, 2)) for _ in range(2))
    optimizer = Adam([dict(params=[table, waits], by_rows=True, skip_untouched=True)], lr=0.5)
    for step in range(4):
        if step == 2:
            waits.data += 1  # a method's own work, in each process
        trained = [table] if step < 2 else [table, waits]
        for p in trained:
            p.grad = torch.ones_like(p) if p.grad is None else p.grad.add_(1)
        processes.divide(optimizer)
        processes.sum_gradients([table, waits], 0.5)
        optimizer.step()
        processes.together()
    for p, steps, start in ((table, 4, 0.0), (waits, 2, 1.0)):
        torch.testing.assert_close(p.data, torch.full((10, 2), start - 0.5 * steps), rtol=1e-4, atol=1e-4)
        assert optimizer.rows[p] == (slice(0, 5), slice(5, 10))[processes.rank] and not p.grad.any()
    processes.wait()


def gradients(folder: Path, processes) -> None:
    folder.mkdir(exist_ok=True)
    random = torch.Generator().manual_seed(processes.rank)
    shapes = {"dense": (3, 2), "table": (5000, 3), "pairs": (5000, 2), "one's own": (7,), "nobody's": (7,)}
    every = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
    for name, x in every.items():
        if name != "nobody's" and (name != "one's own" or processes.rank == 1):
            x.grad = torch.randn(x.shape, generator=random)
            if x.ndim > 1 and len(x) == 5000:
                x.grad[torch.rand(5000, generator=random) < 0.7] = 0
    torch.save({name: None if x.grad is None else x.grad.clone() for name, x in every.items()},
               folder / f"before_{processes.rank}.pt")  # fmt: skip
    count = torch.tensor([3.0, processes.rank], dtype=torch.float64)
    processes.total_later(count)
    processes.sum_gradients(every.values(), (0.25, 0.75)[processes.rank])
    assert count.tolist() == [6.0, 1.0]
    torch.save({name: x.grad for name, x in every.items()}, folder / f"gradients_{processes.rank}.pt")
    processes.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
