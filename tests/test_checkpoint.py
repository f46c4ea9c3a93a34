import errno
import os

import pytest
import torch
from safetensors.torch import load_file

from neural3d import checkpoint
from neural3d import disk as files
from neural3d.checkpoint import KINDS, Snapshot, load_state, save_state
from neural3d.disk import PAGE
from neural3d.errors import DiskFull, UserError

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
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_pages", full_disk)
    with pytest.raises(DiskFull, match="the disk or its quota is full"):
        save_state(tmp_path / "a", {**STATE, "step": 8})
    assert (tmp_path / "a").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_every_flipped_bit_is_found(tmp_path):
    """Half of them are loaded without a word by safetensors alone: those in the numbers."""
    save_state(tmp_path / "a", STATE)
    whole = (tmp_path / "a").read_bytes()
    end = whole.index(b"}}  ") + 4  # of the header's words; then come spaces
    for bit in [*range(0, 8 * end, 3), *range(8 * (PAGE - 1), 8 * len(whole))]:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "b").write_bytes(changed)
        try:
            same = load_state(tmp_path / "b")
        except UserError:
            continue
        assert bit // 8 < PAGE, "a number has changed"
        assert same["step"] == 7 and torch.equal(same["random"], STATE["random"]), "not only the checksums' name"
    changed = bytearray(whole)
    changed[-1] ^= 1
    (tmp_path / "b").write_bytes(changed)
    with pytest.raises(UserError, match="checksum of random is wrong: bits have changed"):
        load_state(tmp_path / "b")


def test_a_snapshot_does_not_follow_its_state(tmp_path):
    state = {"a": torch.zeros(3), "b": {"list": [1]}}
    snapshot = Snapshot.of(state)
    state["a"] += 1
    state["b"]["list"].append(2)
    snapshot.write(tmp_path / "a")
    loaded = load_state(tmp_path / "a")
    assert loaded["a"].sum() == 0 and loaded["b"]["list"] == [1]


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


def test_others_may_read_it_as_any_other_file(tmp_path):
    save_state(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_every_kind_and_shape_of_tensor_by_safetensors_itself(tmp_path):
    """Widest first, as its own writer has them; what is not contiguous, a number, and nothing at all, too."""
    state = {str(kind): torch.arange(300).remainder(2).to(kind).reshape(3, 100).T for kind in KINDS}
    state |= {"number": torch.tensor(1.5), "nothing": torch.zeros(0, 3), "x" * PAGE: torch.zeros(1)}
    save_state(tmp_path / "a", state)
    for loaded in (load_file(tmp_path / "a"), load_state(tmp_path / "a")):
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[k], v) and loaded[k].dtype == v.dtype for k, v in state.items())


@pytest.mark.parametrize("error", [None, errno.EINVAL])
def test_whole_pages_go_past_the_cache_where_that_can_be_done(tmp_path, monkeypatch, error):
    tried, real = [], os.open

    def opened(path, flags, *mode):
        tried.append(bool(flags & os.O_DIRECT))
        if error and tried[-1]:
            raise OSError(error, "")
        return real(path, flags, *mode)

    monkeypatch.setattr(files.os, "open", opened)
    save_state(tmp_path / "a", {"x": torch.arange(5000.0)})
    assert torch.equal(load_state(tmp_path / "a")["x"], torch.arange(5000.0))
    assert tried == ([True, False] if error else [True])
