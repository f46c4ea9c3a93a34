"""Shared fixtures."""

import os
from pathlib import Path

import pytest
import torch


def _cuda_missing() -> str:
    """Why CUDA tests cannot run here, or an empty string."""
    if not torch.cuda.is_available():
        return "no GPU on this machine"
    from neural3d.ops.native import cuda_usable

    return "" if cuda_usable() else "the CUDA kernels were not built"


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> torch.device:
    """Every kernel test runs on each device there is."""
    if request.param == "cuda" and (reason := _cuda_missing()):
        pytest.skip(reason)
    return torch.device(request.param)


def _shared_data() -> Path | None:
    """$NEURAL3D_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    candidates = [os.environ.get("NEURAL3D_DATA"), beside, "/work/shared/data"]
    return next((Path(c) for c in candidates if c and Path(c).is_dir()), None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data. Where it exists, a data set missing inside is a failure, not a skip."""
    folder = _shared_data()
    if folder is None:
        pytest.skip("no real data: ../shared/data is absent and NEURAL3D_DATA is not set")
    return folder
