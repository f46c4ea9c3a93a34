"""What happens where the CUDA kernels, or torch's OpenMP runtime, are not what we would wish."""

import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from neural3d.errors import UserError
from neural3d.ops import native


@pytest.fixture
def cuda_module(monkeypatch):
    """Puts a stand-in for the CUDA kernels in place, on a machine where torch sees a GPU."""

    def put(module):
        monkeypatch.setitem(sys.modules, "neural3d._native_cuda", module)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    native._cuda_module.cache_clear()
    yield put
    native._cuda_module.cache_clear()


def test_a_working_module_is_used_in_silence(cuda_module):
    kernels = SimpleNamespace(runtime_error=lambda: "")
    cuda_module(kernels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.cuda_usable()
    assert native.native(torch.device("cuda")) is kernels


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (None, "not built.*NEURAL3D_CUDA=1"),  # None in sys.modules: the import fails as if nothing were there
        (SimpleNamespace(runtime_error=lambda: "driver version is insufficient"), "insufficient.*Update the driver"),
    ],
)
def test_an_unusable_module_costs_one_sentence_and_falls_back(cuda_module, module, words):
    cuda_module(module)
    with pytest.warns(UserWarning, match=f"(?s){words}") as caught:
        assert not native.cuda_usable()
        assert not native.cuda_usable()
    assert len(caught) == 1
    with pytest.raises(RuntimeError, match="no kernels for device 'cuda'"):
        native.native(torch.device("cuda"))
    assert native.native(torch.device("cpu")) is native._cpu


def test_without_a_gpu_nothing_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not native.cuda_usable()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux builds resolve OpenMP from torch")
def test_an_openmp_runtime_private_to_torch_is_shared(tmp_path):
    """Some builds of torch load OpenMP for themselves alone; our kernels must find it all the same."""
    code = """
import ctypes
class Private(ctypes.CDLL):
    def __init__(self, name, mode=0, *args, **kwargs):
        super().__init__(name, 0, *args, **kwargs)  # never RTLD_GLOBAL
shared, ctypes.CDLL = ctypes.CDLL, Private
import torch
ctypes.CDLL = shared
try:
    import neural3d._native
except ImportError as error:
    print(error)
from neural3d.ops.native import native
print(native(torch.device("cpu")).isa())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in ("base", "avx2", "avx512")


def test_an_instruction_set_that_cannot_be_had_is_no_other():
    native._as_wished(None, "avx2")
    native._as_wished("avx2", "avx2")
    with pytest.raises(UserError, match="NEURAL3D_ISA=avx512: this processor lacks it; choose base or avx2"):
        native._as_wished("avx512", "avx2")
    with pytest.raises(UserError, match="NEURAL3D_ISA=sse: there is no such"):
        native._as_wished("sse", "base")


def test_the_command_line_says_so():
    done = subprocess.run(
        [sys.executable, "-m", "neural3d.cli", "train", "nowhere"], env=os.environ | {"NEURAL3D_ISA": "sse"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "NEURAL3D_ISA=sse" in done.stderr and "Traceback" not in done.stderr


def test_none_for_a_tensor_is_an_error_that_names_it(device):
    """Optional ones take None; a null pointer where the kernel reads would be a crash. Nothing goes by position."""
    kernels, x = native.native(torch.device(device)), torch.rand(4, device=device)
    arguments = dict(param=x, grad=x.clone(), m=x.clone(), v=x.clone(), rows=4, width=1, skip_untouched=False, lr=0.0,
                     beta1=0.9, beta2=0.99, eps=1e-8, correction1=1.0, correction2=1.0, stream=0)  # fmt: skip
    kernels.adam_step(**arguments)
    for name in ("param", "grad", "m", "v"):
        with pytest.raises(TypeError, match=f"adam_step: {name} must be a tensor, not None"):
            kernels.adam_step(**arguments | {name: None})
    for wrong in (x.double(), x[::2], "x"):
        with pytest.raises(TypeError):
            kernels.adam_step(**arguments | {"grad": wrong})
    with pytest.raises(TypeError):
        kernels.adam_step(*arguments.values())
    image, means, sums = torch.rand(8, 8, 3, device=device), x.new_empty(2), x.new_zeros(2, dtype=torch.float64)
    kernels.ssim(image=image, truth=image, partials=None, sums=sums, means=means, stream=0)
    assert abs(float(means[0]) - 1) < 1e-6
