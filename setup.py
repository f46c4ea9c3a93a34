"""Builds the kernels with CMake; everything declarative lives in pyproject.toml.

NEURAL3D_CUDA=0|1|auto        whether nvcc is used (auto: if found)
NEURAL3D_CUDA_ARCHITECTURES   e.g. "90" to build for one GPU only (default: all we release for)
"""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """One CMake run builds every module; setuptools only needs to know where they land."""

    def build_extension(self, ext: Extension) -> None:
        output = Path(self.get_ext_fullpath(ext.name)).parent.resolve()
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(build),
            "-G",
            "Ninja",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DNEURAL3D_OUTPUT={output}",
            f"-DNEURAL3D_CUDA={os.environ.get('NEURAL3D_CUDA', 'auto')}",
        ]
        architectures = os.environ.get("NEURAL3D_CUDA_ARCHITECTURES")
        if architectures:
            configure.append(f"-DCMAKE_CUDA_ARCHITECTURES={architectures}")
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)


setup(
    packages=[
        "neural3d",
        *(f"neural3d.{p.name}" for p in sorted((ROOT / "neural3d").iterdir()) if (p / "__init__.py").exists()),
        "neural3d.viewer",
        "neural3d.scenes",
    ],
    package_dir={"neural3d.viewer": "viewer", "neural3d.scenes": "scenes"},
    package_data={"neural3d.scenes": ["*.toml"], "neural3d": ["py.typed"]},
    ext_modules=[Extension("neural3d._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
