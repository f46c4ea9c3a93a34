#!/bin/sh
# Builds the kernels in place, into this checkout's neural3d/, for work on them: PYTHONPATH=. pytest uses the result.
# NEURAL3D_CUDA=1 NEURAL3D_CUDA_ARCHITECTURES=90 tools/dev_build.sh also compiles the CUDA part.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
cmake -S "$root" -B "$root/build/dev" -G Ninja -DPython_EXECUTABLE="$(command -v "$python")" \
  -DNEURAL3D_CUDA="${NEURAL3D_CUDA:-0}" -DNEURAL3D_ARCHITECTURES="${NEURAL3D_CUDA_ARCHITECTURES:-}" >/dev/null
cmake --build "$root/build/dev" "$@"
