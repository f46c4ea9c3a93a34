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
