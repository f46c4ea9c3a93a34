import pytest
import torch

from neural3d import checkpoint
from neural3d.checkpoint import load_state, save_state
from neural3d.errors import UserError

STATE = {
    "step": 7,
    "extra": {"rays": 512, "name": "x", "ratio": 0.1 + 0.2},
    "optimizer": {"0": {"step": 3, "m": torch.arange(6.0).reshape(2, 3)}},
    "random": torch.arange(5, dtype=torch.uint8),
}


def test_round_trip_is_exact_and_equal_states_give_equal_bytes(tmp_path):
    save_state(tmp_path / "a", STATE)
    loaded = load_state(tmp_path / "a")
    assert loaded["step"] == 7 and loaded["extra"] == STATE["extra"] and loaded["optimizer"]["0"]["step"] == 3
    assert torch.equal(loaded["optimizer"]["0"]["m"], STATE["optimizer"]["0"]["m"])
    assert loaded["random"].dtype == torch.uint8
    save_state(tmp_path / "b", dict(reversed(loaded.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_interrupted_save_keeps_the_earlier_state(tmp_path, monkeypatch):
    save_state(tmp_path / "a", STATE)
    before = (tmp_path / "a").read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full_disk)
    with pytest.raises(OSError):
        save_state(tmp_path / "a", {**STATE, "step": 8})
    assert (tmp_path / "a").read_bytes() == before


def test_damage_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no checkpoint here"):
        load_state(tmp_path / "missing")
    save_state(tmp_path / "a", STATE)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_state(tmp_path / "a")
    save_state(tmp_path / "b", STATE)
    newer = (tmp_path / "b").read_bytes().replace(b'version\\": 1', b'version\\": 9')
    (tmp_path / "b").write_bytes(newer)
    with pytest.raises(UserError, match="newer neural3d"):
        load_state(tmp_path / "b")
