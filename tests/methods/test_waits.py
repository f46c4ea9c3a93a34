"""How often a step in full swing asks for a number: on a GPU it would wait for all work given so far."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from methods.test_all import SMALL
from torch.utils._python_dispatch import TorchDispatchMode
from toy import ball_capture

import neural3d
from neural3d.run import configure
from neural3d.train import Trainer

STEPS = 10
PACKAGE = Path(neural3d.__file__).parent
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2"}
OPTIONS = {
    "ngp": ["horizon=1000", "grid_every=1000"],
    "splat": ["horizon=1000", "densify_from=500", "sh_every=1000"],
}
WAITS = {"ngp": {"ops/ray_march.py": 2}, "splat": {}}  # a step; ngp: samples that are marched, and that are visible


def by_mask(indices) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


class Waits(TorchDispatchMode):
    """Counts operators whose result the host must know, by the module of ours that asks. Reports and saving may."""

    def __init__(self) -> None:
        super().__init__()
        self.by: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name in WAITING or (function._schema.name == "aten::index" and by_mask(args[1])):
            frame = sys._getframe()
            while frame and PACKAGE not in (path := Path(frame.f_code.co_filename)).parents:
                frame = frame.f_back
            asks = path.relative_to(PACKAGE).as_posix() if frame else "elsewhere"
            self.by[asks] += asks != "train.py"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", WAITS)
def test_a_steady_step_waits_no_more_than_it_must(tmp_path, method):
    """The kernels' own waits are not seen here: `splat_bin` has one, for the size of its lists."""
    capture = ball_capture(tmp_path / "photos", train=6, test=1, size=24)
    config, scene = configure(capture, method, [*SMALL[method][1], *OPTIONS[method]])
    trainer = Trainer.create(tmp_path / "run", config, scene, torch.device("cpu"))
    trainer.fit(STEPS, previews=False)
    with Waits() as waits:
        trainer.fit(2 * STEPS, previews=False)
    assert +waits.by == {module: STEPS * n for module, n in WAITS[method].items()}


def test_waits_are_seen():
    with Waits() as waits:
        x = torch.ones(3)
        float(x.sum()), x.nonzero(), bool(x.any()), x[x > 0]
    assert waits.by == {"elsewhere": 4}
