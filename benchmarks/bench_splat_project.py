"""Projecting splats with harmonics of degree 3, forward and backward, beside the plain torch version and a copy.

    python benchmarks/bench_splat_project.py [--splats 26000 500000] [--device cuda] [--gsplat FOLDER]

The scene is the tests' synthetic one, seen whole, 269 × 479 pixels; backward to all parameters. With --gsplat, the
folder of a checkout of nerfstudio-project/gsplat, its own torch version (gsplat/cuda/_torch_impl.py) runs along. Its
values and gradients in float64, those with respect to the camera too, must be ours in float32 to 1e-4, from a camera
that stands among the splats.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from pathlib import Path

import torch
from common import copy_ceiling, interleaved, machine, table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from reference.splat_project import splat_project as reference
from splats import HEIGHT, WIDTH, synthetic_camera, synthetic_splats

from neural3d.ops import keep_memory, splat_project

# Bytes a splat: 59 parameters; xy, conic, depth, opacity, colour and radius; the colour's slopes between the passes.
PARAMETERS, OUTPUTS, SLOPES = 4 * 59, 4 * 11, 4 * 9
FORWARD_BYTES = PARAMETERS + OUTPUTS + SLOPES
BACKWARD_BYTES = 4 * (3 + 4 + 3 + 1) + 4 * (3 + 1) + SLOPES + 4 * 10 + PARAMETERS
# Operations a splat, counted in csrc/ops/splat_project.h; a root, a quotient or an exponential counts as one.
FORWARD_FLOPS, BACKWARD_FLOPS = 560, 480
MODELS = {"pinhole": "pinhole", "orthographic": "ortho", "fisheye": "fisheye"}  # of gsplat


def gsplat_project(folder: Path):
    """gsplat's torch version with our signature; its package imports CUDA code, so that stand-ins take its place."""
    stand_ins = {"gsplat": {}, "gsplat.cuda": {}, "gsplat._helper": {"assert_shape": lambda *_: None}}
    stand_ins["gsplat.cuda._wrapper"] = {"CameraModel": str, "RollingShutterType": int}
    for name, members in stand_ins.items():
        module = sys.modules[name] = types.ModuleType(name)
        vars(module).update(members)
    sys.modules["gsplat"].__path__ = [str(folder / "gsplat")]
    sys.modules["gsplat.cuda"].__path__ = [str(folder / "gsplat/cuda")]
    impl, maths = (importlib.import_module(f"gsplat.cuda.{name}") for name in ("_torch_impl", "_math"))

    def project(means, quats, scales, opacities, dc, rest, camera, intrinsics, width, height, **options):
        covariances, _ = maths._quat_scale_to_covar_preci(quats, scales.exp(), True, False)
        fx, fy, cx, cy = intrinsics.tolist()
        k = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=means.dtype)
        _, xy, depth, conic, compensation = impl._fully_fused_projection(
            means, covariances, camera[None], k[None], width, height,
            calc_compensations=options.get("antialiased"), camera_model=MODELS[options.get("lens", "pinhole")],
        )  # fmt: skip
        centre = -camera[:3, :3].T @ camera[:3, 3]
        harmonics = torch.cat([dc[:, None], rest], 1)
        color = impl._spherical_harmonics(options["sh_degree"], means - centre, harmonics) + 0.5
        opacity = opacities.sigmoid() * (1 if compensation is None else compensation[0])
        return xy[0], conic[0], depth[0], opacity, color.clamp(min=0)

    return project


def compare(gsplat, antialiased: bool, lens: str = "pinhole") -> str:
    """The largest difference of values and of gradients, relative to the largest value; on what is visible to us."""
    camera, intrinsics = synthetic_camera(0.7)
    scene = [*synthetic_splats(20_000, size=0.03), camera]
    results = []
    for project, dtype in ((splat_project, torch.float32), (gsplat, torch.float64)):
        leaves = [x.to(dtype).requires_grad_() for x in scene]
        out = project(
            *leaves, intrinsics.to(dtype), WIDTH, HEIGHT, sh_degree=3, raw=True, antialiased=antialiased, lens=lens
        )
        if project is splat_project:
            visible = out.radius > 0
        out = [x[visible] for x in five(out)]
        g = torch.Generator().manual_seed(0)
        v = [torch.randn(x.shape, generator=g).to(dtype) for x in out]
        results.append([*out, *torch.autograd.grad(out, leaves, v)])
    errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*results)]
    assert max(errors) < 1e-4, errors
    return (
        f"{lens}, antialiased={antialiased}, {int(visible.sum())} visible of {len(visible)}: largest difference "
        f"from gsplat {max(errors[:5]):.1e} of the largest value, {max(errors[5:]):.1e} of the largest gradient"
    )


def five(out):
    return (out.xy, out.conic, out.depth, out.opacity, out.color) if hasattr(out, "xy") else out


def measure(n: int, device: str, gsplat) -> None:
    scene = [x.to(device, torch.float32).requires_grad_() for x in synthetic_splats(n, spread=0.4)]
    camera, intrinsics = (x.to(device, torch.float32) for x in synthetic_camera(3.0))
    view = camera, intrinsics, WIDTH, HEIGHT
    versions = {"ours": splat_project, "torch": reference} | ({"gsplat, torch": gsplat} if gsplat else {})
    calls = {}
    for name, version in versions.items():

        def run(version=version):
            return five(version(*scene, *view, sh_degree=3, raw=True))

        v = [torch.randn_like(x) for x in run()]
        calls[f"{name} render"] = torch.no_grad()(run)
        calls[f"{name} forward"] = run
        calls[f"{name} both"] = lambda run=run, v=v: torch.autograd.grad(run(), scene, v)
    fast = {name: call for name, call in calls.items() if name.startswith("ours")}
    seconds = interleaved({**fast, "copy": copy_ceiling(64, device)}, rounds=100, warmup=3, take=min)
    seconds |= interleaved({name: call for name, call in calls.items() if name not in fast}, rounds=3, take=min)
    bandwidth = 2 * 64 * 2**20 / seconds["copy"]
    totals = {
        "render": (FORWARD_BYTES - SLOPES, FORWARD_FLOPS),
        "forward": (FORWARD_BYTES, FORWARD_FLOPS),
        "both": (FORWARD_BYTES + BACKWARD_BYTES, FORWARD_FLOPS + BACKWARD_FLOPS),
    }
    rows = []
    for what, (size, flops) in totals.items():
        for name in versions:
            s = seconds[f"{name} {what}"]
            row = [name, what, f"{s * 1e3:.2f} ms", f"{s / seconds[f'ours {what}']:.1f}"]
            if name == "ours":
                row += [f"{size * n / 1e6:.1f} MB", f"{size * n / s / 1e9:.1f} GB/s", f"{size * n / s / bandwidth:.0%}"]
                row += [f"{flops * n / s / 1e9:.0f} GFLOP/s"]
            rows.append(row + [""] * (8 - len(row)))
    print(f"\n{n} splats; copy {bandwidth / 1e9:.1f} GB/s (read and written)\n")
    print(table(["splat_project", "pass", "fastest", "× our time", "moved", "", "of copy", "computed"], rows))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--splats", type=int, nargs="+", default=[26_000, 500_000])
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--gsplat", type=Path)
    given = options.parse_args()
    keep_memory()
    print(machine())
    gsplat = gsplat_project(given.gsplat) if given.gsplat else None
    for n in given.splats:
        measure(n, given.device, gsplat)
    if gsplat:
        print()
        for lens in MODELS:
            print(f"{compare(gsplat, False, lens)}\n{compare(gsplat, True, lens)}")


if __name__ == "__main__":
    main()
