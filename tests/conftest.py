"""Shared fixtures, and the guarantee that the tests run against the package they are meant for."""

import importlib.metadata
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _prefer_the_installed_package() -> None:
    """`python -m pytest` puts the checkout first on sys.path; without kernels it would hide the installed package."""
    if any((ROOT / "neural3d").glob("_native.*")):
        return  # tools/dev_build.sh: the checkout is what is being worked on
    installed = [Path(str(d.locate_file(""))).resolve() for d in importlib.metadata.distributions(name="neural3d")]
    if any(folder != ROOT for folder in installed):
        sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]


_prefer_the_installed_package()

import torch  # noqa: E402

import neural3d  # noqa: E402

# Programs that tests start import the same package, whatever folder they run in.
if Path(neural3d.__file__).parents[1] == ROOT:
    os.environ["PYTHONPATH"] = str(ROOT)
else:
    os.environ["PYTHONSAFEPATH"] = "1"


def pytest_report_header() -> str:
    return f"neural3d {neural3d.__version__} from {Path(neural3d.__file__).parent}"


def _cuda_missing() -> str:
    """Why CUDA tests cannot run here, or an empty string."""
    if not torch.cuda.is_available():
        return "no GPU on this machine"
    from neural3d.ops.native import cuda_usable

    return "" if cuda_usable() else "the CUDA kernels cannot be used on this machine"


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> torch.device:
    """Every kernel test runs on each device there is."""
    if request.param == "cuda" and (reason := _cuda_missing()):
        pytest.skip(reason)
    return torch.device(request.param)


def _real_data() -> Path | None:
    """$NEURAL3D_DATA, or shared/data beside the checkout or beside a folder that holds it."""
    candidates = [Path(os.environ["NEURAL3D_DATA"])] if os.environ.get("NEURAL3D_DATA") else []
    candidates += [folder / "shared" / "data" for folder in ROOT.parents]
    return next((folder for folder in candidates if folder.is_dir()), None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data. Where it exists, a data set missing inside is a failure, not a skip."""
    folder = _real_data()
    if folder is None:
        pytest.skip("no real data: ../shared/data is absent and NEURAL3D_DATA is not set")
    return folder
