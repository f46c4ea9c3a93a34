"""Shared fixtures, and the guarantee that the tests run against the package they are meant for."""

import importlib.metadata
import os
import sys
from collections.abc import Iterator
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

import cuda_on_cpu  # noqa: E402
import torch  # noqa: E402

import neural3d  # noqa: E402

# Programs that tests start import the same package, whatever folder they run in.
if Path(neural3d.__file__).parents[1] == ROOT:
    os.environ["PYTHONPATH"] = str(ROOT)
else:
    os.environ["PYTHONSAFEPATH"] = "1"


def pytest_report_header() -> str:
    return f"neural3d {neural3d.__version__} from {Path(neural3d.__file__).parent}"


# Every kernel test runs on the CPU, and on a GPU or, where that is missing and NEURAL3D_EMULATED names a build of
# tests/cuda_on_cpu, on kernels for CUDA that run on the CPU.
EMULATED = "emulated cuda"
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [EMULATED] if cuda_on_cpu.FOLDER else [])]


@pytest.fixture(scope="session")
def emulated_kernels():
    return cuda_on_cpu.load()


@pytest.fixture(params=DEVICES)
def device(request) -> Iterator[torch.device]:
    if request.param == EMULATED:
        with cuda_on_cpu.emulated(request.getfixturevalue("emulated_kernels")):
            yield torch.device("cpu")
        return
    from neural3d.ops.native import cuda_usable

    if request.param == "cuda" and not cuda_usable():
        pytest.skip("the CUDA kernels cannot be used on this machine")
    yield torch.device(request.param)


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
