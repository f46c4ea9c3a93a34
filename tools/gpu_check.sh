#!/usr/bin/env bash
# Builds neural3d on a machine with an NVIDIA GPU, runs the CUDA tests and every benchmark there, trains the demo scene
# on both devices and compares. Needs no network: what is missing in the machine's Python can lie in a folder of wheels.
#
#   [WHEELS=DIR] [PYTHON=python3] [OUT=DIR] tools/gpu_check.sh [build] [tests] [benchmarks] [train]     (default: all four)
#
# The machine brings torch with CUDA, nvcc, cmake, ninja, nanobind and setuptools. Results: $OUT (default
# benchmarks/results)/cuda-GPU.md, and the logs beside it under gpu-logs/. Exit status 1 where anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
parts=${*:-build tests benchmarks train}
out=${OUT:-$PWD/benchmarks/results}
logs=$out/gpu-logs
site=$PWD/build/gpu-site # kept between calls, so that the parts can be run one by one
mkdir -p "$logs" "$site"
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PATH="$PATH:$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')"
gpu=$("$python" -c 'import torch; print(torch.cuda.get_device_name())') || { echo "torch sees no GPU here"; exit 1; }
results=$out/cuda-$(echo "$gpu" | tr -cs 'A-Za-z0-9\n' '-').md
failed=()

part() { # part NAME COMMAND...: logs it, keeps its time in $took and its end on the screen, remembers a failure
  local name=$1 from=$SECONDS status
  shift
  "$@" >"$logs/$name.log" 2>&1
  status=$?
  took=$((SECONDS - from))
  ((status)) && failed+=("$name") && tail -n 40 "$logs/$name.log"
  echo "=== $name: $took s, $(((status)) && echo FAILED || echo ok)"
}
neural3d() { "$python" -c 'from neural3d.cli import main; main()' "$@"; }
wanted() { [[ " $parts " == *" $1 "* ]]; }
report() { tee -a "$results"; }

build() {
  if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install -q --no-index --no-deps --upgrade --target "$site" "$WHEELS"/*.whl || return
  fi
  NEURAL3D_CUDA=1 "$python" -m pip install -v --no-index --no-deps --no-build-isolation --upgrade --target "$site" . || return
  "$python" - <<'PY'
import importlib.metadata as metadata
import re

import torch

from neural3d.ops.native import cuda_usable, native

missing = []
for requirement in metadata.requires("neural3d"):
    name = re.match(r"[\w-]+", requirement)[0]
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        if "extra ==" not in requirement:
            missing.append(name)
print("not installed here (put wheels into WHEELS where a test needs one):", *(missing or ["nothing"]))
assert cuda_usable(), "torch sees no GPU, or our CUDA kernels cannot be used (see the warning)"
print("CPU kernels:", native(torch.device("cpu")).isa())
PY
}

train() { # train DEVICE: the demo scene, one seed, a fixed number of steps
  rm -rf "build/gpu-runs/$1"
  neural3d train build/gpu-runs/scene --method ngp --steps 600 --seed 0 --device "$1" --out "build/gpu-runs/$1" &&
    neural3d eval "build/gpu-runs/$1" --device "$1"
}

bench() { # bench NAME [ARGUMENT...]: runs the benchmark and adds what it prints to the results
  local name=$1
  shift
  part "$name" timeout 150 env PYTHONSAFEPATH= "$python" "benchmarks/$name.py" "$@"
  printf '\n## %s\n\n%s\n' "$name" "$(cat "$logs/$name.log")" >>"$results"
}

compare() { # the two runs' held-out scores: rounding differs between the devices, quality must not
  "$python" - <<'PY'
import json
import sys

psnr = {d: json.load(open(f"build/gpu-runs/{d}/eval.json"))["results"]["psnr"] for d in ("cpu", "cuda")}
print(f"cpu {psnr['cpu']:.2f} dB, cuda {psnr['cuda']:.2f} dB")
sys.exit(abs(psnr["cpu"] - psnr["cuda"]) > 0.5)
PY
}

if wanted build; then
  part build build
  if ((${#failed[@]})); then exit 1; fi
  {
    echo "# neural3d on $gpu"
    "$python" -c 'import sys; sys.path.insert(0, "benchmarks"); from common import machine; print(f"\n{machine()}")'
    echo "Python $("$python" -V | cut -d" " -f2), $(nvcc --version | grep -o 'release [0-9.]*'), built in $took s."
    echo "Made by tools/gpu_check.sh."
  } >"$results"
fi
if wanted tests; then
  part tests "$python" -m pytest -q -p no:cacheprovider -k cuda tests
  if grep -E '^SKIPPED.*(no GPU|cannot be used) on this machine' "$logs/tests.log"; then failed+=(skips); fi
  printf '\n## Tests (-k cuda)\n\n%s\n' "$(tail -n 1 "$logs/tests.log")" | report
fi
if wanted benchmarks; then
  for script in benchmarks/bench_cuda.py $(ls benchmarks/bench_*.py | grep -v -e cuda -e train); do
    bench "$(basename "$script" .py)"
  done
fi
if wanted train; then
  rm -rf build/gpu-runs
  part scene "$python" -c 'from neural3d.synthetic.analytic import make_demo_scene; make_demo_scene("build/gpu-runs/scene")'
  printf '\n## The demo scene, ngp, 600 steps\n\n' | report
  for device in cuda cpu; do
    part "train-$device" train "$device"
    echo "$device: $took s with start and evaluation; $(grep -h 'rays/s' "$logs/train-$device.log" | tail -n 1)" | report
  done
  part compare compare
  report <"$logs/compare.log"
  bench bench_train build/gpu-runs/scene --minutes 1 --device cuda --out build/gpu-runs/bench
fi

echo "=== results in $results; failed: ${failed[*]:-nothing}"
exit $((${#failed[@]} > 0))
