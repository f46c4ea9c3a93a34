"""What `ngp` measures while it trains: how long steps may be, and when space is empty enough for shorter ones."""

import math

import pytest
import torch
from toy import ball_capture

from neural3d.evaluate.views import evaluate
from neural3d.run import configure, load
from neural3d.train import Trainer

SMALL = [
    "horizon=150", "log2_table=14", "levels=8", "samples_per_batch=8192", "grid_budget=32768", "coarse_samples=32",
    "scene.unbounded=true", "random_background=false",
]  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return ball_capture(tmp_path_factory.mktemp("ball"))


def start(capture, out, half, *settings):
    """half: of the box's side, in the capture's units; cameras stand at 4 of them."""
    box = f"scene.aabb=[[{-half},{-half},{-half}],[{half},{half},{half}]]"
    return Trainer.create(out, *configure(capture, "ngp", [*SMALL, box, *settings]), CPU)


def rays(trainer):
    camera = trainer.scene.views[0].camera
    origins, directions = (x.reshape(-1, 3) for x in camera.rays())
    return origins, directions, torch.full((len(origins),), trainer.method.field.near)


def test_the_first_stride_is_the_least_that_is_cheap_enough(capture, tmp_path):
    trainer = start(capture, tmp_path / "run", 1.2)
    trainer.fit(1, previews=False)
    field, most = trainer.method.field, trainer.method.config.coarse_samples
    field.grid.bits.fill_(255)  # all of space unknown, as at the start
    per_ray = {k: len(field.march(*rays(trainer), stride=k)) / len(rays(trainer)[2]) for k in (1, field.stride)}
    assert field.stride > 1 and per_ray[1] > most
    assert most / 3 < per_ray[field.stride] < 1.3 * most


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_strides_end_with_the_fog_not_with_time(capture, tmp_path, progress):
    trainer = start(capture, tmp_path / "run", 1.2)
    trainer.fit(1, previews=False)
    method, most = trainer.method, trainer.method.config.coarse_samples
    field = method.field
    positions, contracted, _ = field._seen
    before = field.stride

    def refresh(samples):
        field._seen = positions, contracted, samples
        method.after_step(16, progress, trainer.generator, trainer.players)
        return field.stride

    assert refresh(0.51 * most) == before, "half as long steps would take more than is wanted"
    assert refresh(0.5 * most) == before // 2
    shown = sum(field.spec.level_weights)
    while field.stride > 1:
        refresh(1.0)
    assert refresh(1.0) == 1, "and no further"
    assert sum(field.spec.level_weights) == method.config.levels > shown, "finer cells come with shorter steps"


def test_a_capture_five_times_as_large_trains_the_same(capture, tmp_path):
    """Boxes that hold the cameras at 2 and at 10 units: as many samples a ray, as good a picture."""
    samples, scores = [], []
    for half in (2.0, 0.4):
        trainer = start(capture, tmp_path / str(half), half)
        lines = []
        trainer.fit(150, previews=False, report=lines.append)
        samples.append(lines[-1]["marched_per_ray"])
        scores.append(evaluate(load(tmp_path / str(half), "cpu"), pictures=False)["results"]["psnr"])
    assert math.log(samples[0] / samples[1]) == pytest.approx(0, abs=0.2)
    assert scores[0] == pytest.approx(scores[1], abs=1.0) and min(scores) > 12


def test_resume_is_exact_while_strides_change(capture, tmp_path):
    start(capture, tmp_path / "whole", 1.2).fit(60, previews=False)
    halves = start(capture, tmp_path / "halves", 1.2)
    first = []
    halves.fit(21, previews=False)
    first.append(halves.method.field.stride)
    resumed = Trainer.resume(tmp_path / "halves", CPU)
    assert resumed.method.field.stride == first[0] > 1
    resumed.fit(60, previews=False)
    whole, parts = ((tmp_path / p / "checkpoint.safetensors").read_bytes() for p in ("whole", "halves"))
    assert whole == parts
