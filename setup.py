"""Builds the kernels with CMake; everything declarative lives in pyproject.toml.

NEURAL3D_CUDA=0|1|auto        whether the CUDA kernels are built. auto (the default): if nvcc is found, and where they
                              do not compile, the installation goes on without; 1: that is an error.
NEURAL3D_CUDA_ARCHITECTURES   native (default where a GPU is visible), all (default elsewhere; what releases use), or
                              a list such as "86;90".
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def find_nvcc() -> str | None:
    """Where CUDA's compiler is: $CUDACXX, then PATH, then the usual folders."""
    folders = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ] + ["/usr/local/cuda"]
    candidates = [os.environ.get("CUDACXX", ""), "nvcc", *(f"{folder}/bin/nvcc" for folder in folders)]
    return next((path for path in map(shutil.which, filter(None, candidates)) if path), None)


def check_prerequisites() -> None:
    """Says in a sentence what CMake would say in fifty lines."""
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        sys.exit(f"neural3d: {include}/Python.h is missing; on Debian or Ubuntu: apt install python3-dev")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "").split() or ["c++", "g++", "clang++"])):
        sys.exit("neural3d: no C++ compiler was found; on Debian or Ubuntu: apt install g++")


class Build(build):
    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)  # an earlier build's modules must not reach this wheel
        super().run()


class CMakeBuild(build_ext):
    """The CPU module is built first and must succeed; the CUDA module comes second and, with `auto`, may fail."""

    def run(self) -> None:
        check_prerequisites()
        super().run()

    def build_extension(self, ext: Extension) -> None:
        mode = os.environ.get("NEURAL3D_CUDA", "auto")
        if mode not in ("0", "1", "auto"):
            sys.exit(f"neural3d: NEURAL3D_CUDA must be 0, 1 or auto, not '{mode}'.")
        if ext.name == "neural3d._native":
            # Cached paths point into an earlier pip's temporary environment: start afresh.
            self.cmake(ext, "--fresh", "-DNEURAL3D_CUDA=OFF")
            return
        nvcc = find_nvcc()
        if mode == "1" and nvcc is None:
            sys.exit("neural3d: NEURAL3D_CUDA=1, but nvcc was not found: put it on PATH, or set NEURAL3D_CUDA=0.")
        if mode == "0" or nvcc is None:
            return
        architectures = os.environ.get("NEURAL3D_CUDA_ARCHITECTURES", "")
        try:
            self.cmake(
                ext, "-DNEURAL3D_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}", f"-DNEURAL3D_ARCHITECTURES={architectures}"
            )
        except subprocess.CalledProcessError:
            if mode == "1":
                raise
            print(f"neural3d: {nvcc} could not build the CUDA kernels; going on without them.", file=sys.stderr)

    def cmake(self, ext: Extension, *options: str) -> None:
        """Configures the one build folder and builds the module `ext` into the place setuptools expects it."""
        output = Path(self.get_ext_fullpath(ext.name)).parent.resolve()
        folder = Path(self.build_temp).resolve()
        # Without build isolation, cmake and ninja may lie in a virtual environment that is not activated.
        path = os.pathsep.join([os.environ.get("PATH", ""), sysconfig.get_path("scripts")])
        environment = os.environ | {"PATH": path}
        places = [f"-DPython_EXECUTABLE={sys.executable}", f"-DNEURAL3D_OUTPUT={output}"]
        configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *places, *options]
        subprocess.run(configure, check=True, env=environment)
        target = ext.name.rpartition(".")[2]
        subprocess.run(["cmake", "--build", str(folder), "--target", target], check=True, env=environment)


setup(
    packages=[*find_packages(include=["neural3d", "neural3d.*"]), "neural3d.viewer", "neural3d.scenes"],
    package_dir={"neural3d.viewer": "viewer", "neural3d.scenes": "scenes"},
    package_data={"neural3d.scenes": ["*.toml"], "neural3d": ["py.typed"]},
    ext_modules=[
        Extension("neural3d._native", sources=[]),
        Extension("neural3d._native_cuda", sources=[], optional=True),  # optional: may be absent after the build
    ],
    cmdclass={"build": Build, "build_ext": CMakeBuild},
)
