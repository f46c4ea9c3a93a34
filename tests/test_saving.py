"""A run is saved often, cheaply, and behind the training's back."""

import threading
import time

import pytest
import torch

from neural3d import saving
from neural3d.checkpoint import Snapshot, load_state
from neural3d.errors import DiskFull
from neural3d.saving import LATEST, OFTEN, SHARE, Saver, interval


def test_cheap_saves_come_often_and_dear_ones_take_their_share_until_half_a_minute_is_at_stake():
    assert interval(blocked=0.01, writing=0.1, busy=0.1, cores=2) == OFTEN
    blocked, busy = 0.2, 0.4
    assert interval(blocked, 1.0, busy, cores=2) == pytest.approx((blocked + busy / 2) / SHARE)
    assert interval(blocked=2.0, writing=3.0, busy=2.0, cores=2) == LATEST - 3.0  # 2 % would be 150 s


def test_training_waits_for_the_copy_alone(tmp_path, monkeypatch):
    go, write = threading.Event(), Snapshot.write

    def slow(self, path):
        assert go.wait(10)
        write(self, path)

    monkeypatch.setattr(Snapshot, "write", slow)
    state = {"x": torch.zeros(5)}
    with Saver(tmp_path / "c", None) as saver:
        saver.save(3, state)
        state["x"] += 1
        assert saver.saved is None and not saver.due(), "one at a time"
        go.set()
        saver.wait()
        assert saver.saved == 3
    assert load_state(tmp_path / "c")["x"].sum() == 0


def test_the_first_save_is_due_by_the_clock(tmp_path, monkeypatch):
    now = time.perf_counter()
    monkeypatch.setattr(saving.time, "perf_counter", lambda: now)
    with Saver(tmp_path / "c", None) as saver:
        assert not saver.due()
        now += OFTEN
        assert saver.due()


def test_what_the_disk_refused_reaches_the_training(tmp_path, monkeypatch):
    def full(self, path):
        raise DiskFull("full")

    monkeypatch.setattr(Snapshot, "write", full)
    with Saver(tmp_path / "c", 7) as saver:
        saver.save(9, {})
        with pytest.raises(DiskFull):
            while not saver.due():
                time.sleep(0.01)
        assert saver.saved == 7
