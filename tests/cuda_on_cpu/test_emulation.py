"""The emulation finds what is wrong with kernels (faults.cu), and runs a right one rightly."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cuda_on_cpu import FOLDER, SANITIZED

pytestmark = pytest.mark.skipif(FOLDER is None, reason="NEURAL3D_EMULATED does not name a build of tests/cuda_on_cpu")
RIGHT, HALF_A_WARP, TWO_COLLECTIVES, TWO_BARRIERS, LEFT_EARLY = range(5)
UNWRITTEN, OF_ANOTHER_BLOCK, NO_BARRIER, NO_WAIT, TOO_MUCH, NOT_ALIGNED, NOT_SHARED, BEYOND = range(5, 13)


@pytest.fixture(scope="module")
def faults():
    (path,) = Path(FOLDER).glob("_faults*.so")
    spec = importlib.util.spec_from_file_location("_faults", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(which, blocks=1, shared=0):
        out = torch.zeros(blocks * 64)
        module.run(which, len(out), out.data_ptr(), shared)
        return out

    return run


def test_a_right_kernel(faults):
    sums = faults(RIGHT, blocks=3).view(3, 64)
    assert torch.equal(sums, torch.tensor([[2016.0], [2017.0], [2018.0]]).expand(3, 64))


@pytest.mark.parametrize(
    "which, words",
    [
        (HALF_A_WARP, r"wait for each other: 32 at a barrier at \S+faults.cu:\d+, 32 at a collective"),
        (TWO_COLLECTIVES, r"different collectives, \S+faults.cu:(\d+) and"),
        (TWO_BARRIERS, r"different barriers, \S+faults.cu:(\d+) and"),
        (LEFT_EARLY, "ends while others wait at a barrier|some threads of the block never reach"),
        (TOO_MUCH, "more shared memory"),
        (NOT_ALIGNED, r"not aligned, \S+faults.cu:\d+"),
        (NOT_SHARED, r"outside of the block's shared memory, \S+faults.cu:\d+"),
    ],
)
def test_faults_are_named(faults, which, words):
    with pytest.raises(RuntimeError, match=words):
        faults(which)
    assert faults(RIGHT)[0] == 2016  # one fault does not spoil what comes after


@pytest.mark.parametrize("which", [UNWRITTEN, OF_ANOTHER_BLOCK, NO_BARRIER, NO_WAIT])
def test_what_was_not_written_in_time_is_no_number(faults, which):
    assert faults(which, blocks=2 if which == OF_ANOTHER_BLOCK else 1).isnan().any()


@pytest.mark.parametrize("blocks, shared", [(0, 0), (1, 48 * 1024 + 1)])
def test_launches_that_a_gpu_refuses(faults, blocks, shared):
    with pytest.raises(RuntimeError, match="faults: invalid"):
        faults(RIGHT, blocks, shared)
    assert faults(RIGHT)[0] == 2016


if SANITIZED:

    def test_addresses_out_of_bounds_end_the_process(faults):
        (path,) = Path(FOLDER).glob("_faults*.so")
        program = (
            f"import sys, torch; sys.path.insert(0, {str(path.parent)!r}); import _faults; "
            f"out = torch.zeros(64); _faults.run({BEYOND}, 64, out.data_ptr(), 0)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode and "heap-buffer-overflow" in done.stderr
