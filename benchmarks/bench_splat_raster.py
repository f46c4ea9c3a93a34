"""Binning, blending and its gradients, each on its own, beside a vectorised torch version, a copy and a matrix product.

    python benchmarks/bench_splat_raster.py [--data FOLDER] [--device cuda] [--gsplat FOLDER] [--peers] [--only NAME]
        [--channels 7]

The scenes, from the folder of real data: fox's points as splats of their nearest neighbours' distance, of opacity
0.1 (as training starts) and 0.5 (as it goes on), and with 10,000 smaller ones more, at 134 × 239 and 269 × 479; the
garden's 138,766 points at 648 × 420. Without the data: the tests' synthetic splats. --peers times the torch version,
whose lists of all pairs of a splat and a pixel that it touches are made beforehand and not timed. --gsplat, the folder
of a checkout of nerfstudio-project/gsplat, compares values and gradients with its own torch version (`accumulate` in
gsplat/cuda/_torch_impl.py), for which plain torch stands in for the two functions of nerfacc that it calls. --channels:
blended, the colours again and again; the 3 of pictures by default, where surfaces are trained 7.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import types
from pathlib import Path

import numpy as np
import torch
from bench_splat_bin import Lists
from common import copy_ceiling, interleaved, machine, sgemm_ceiling, table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from splats import synthetic_camera, synthetic_splats

from neural3d.ops import keep_memory, splat_project, splat_raster
from neural3d.ops.splat_bin import RECORD
from neural3d.scene.readers.colmap import read_model, read_points

# Operations a blended (or, in the cells visited, computed) pixel of a splat, counted in csrc/ops/splat_raster.{h,cpp},
# and of those the share of each channel; fused multiply-adds count as two, comparisons and selections as one.
FORWARD_FLOPS, BACKWARD_FLOPS = (34, 2), (60, 4)


def spacing(points: np.ndarray) -> np.ndarray:
    """Root mean square distance of the three nearest neighbours, as the scales of splats start."""
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(points).query(points, k=4)
    return np.sqrt((distance[:, 1:] ** 2).mean(1))


def projected(points, sizes, colors, opacity, camera, intrinsics, width, height):
    """What splat_raster takes, of round splats."""
    n = len(points)
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    scales = torch.as_tensor(sizes, dtype=torch.float32)[:, None].repeat(1, 3)
    means, colors = (torch.as_tensor(x, dtype=torch.float32) for x in (points, colors))
    p = splat_project(
        means, quats, scales, torch.full((n,), opacity), None, None, torch.as_tensor(camera),
        torch.as_tensor(intrinsics), width, height, sh_degree=0,
    )  # fmt: skip
    return [p.xy, p.conic, p.depth, p.opacity, colors], width, height


def fox(data: Path, width: int, height: int, opacity: float, more: int = 0):
    model = read_model(data / "fox/sparse/0")
    points, colors = read_points(data / "fox/sparse/0")
    sizes, generator = spacing(points), np.random.default_rng(0)
    parents = generator.integers(0, len(points), more)
    extra = points[parents] + generator.normal(size=(more, 3)) * sizes[parents, None] * 0.5
    points, colors = np.concatenate([points, extra]), np.concatenate([colors, colors[parents]]) / 255
    sizes = np.concatenate([sizes, sizes[parents] / 1.6])
    photo = sorted(model.photos, key=lambda photo: photo.name)[20]
    _, w, h, params = model.cameras[photo.camera_id]
    intrinsics = [params[0] * width / w, params[1] * height / h, params[2] * width / w, params[3] * height / h]
    camera = np.linalg.inv(photo.world_from_camera.numpy())
    return projected(points, sizes, colors, opacity, camera, intrinsics, width, height)


def garden(data: Path):
    scene = np.load(data / "golden_peers/gsplat/test_garden.npz")
    points, k = scene["means3d"], scene["Ks"][0]
    size = int(scene["width"]), int(scene["height"])
    intrinsics = [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]
    return projected(points, spacing(points), scene["colors"] / 255, 0.5, scene["viewmats"][0], intrinsics, *size)


def synthetic(n: int, width: int, height: int):
    means, quats, scales, opacities, sh_dc, sh_rest = (x.float() for x in synthetic_splats(n, spread=0.6))
    camera, intrinsics = synthetic_camera(3.0, width=width, height=height)
    p = splat_project(
        means, quats, scales, opacities, sh_dc, sh_rest, camera, intrinsics, width, height, sh_degree=3, raw=True
    )
    return [p.xy, p.conic, p.depth, p.opacity, p.color], width, height


def scenes(data: Path | None):
    if data is None:
        return {"synthetic 26k 269 × 479": synthetic(26_000, 269, 479)}
    found = {}
    for width, height in ((134, 239), (269, 479)):
        for name, opacity, more in (("16k o=0.1", 0.1, 0), ("16k o=0.5", 0.5, 0), ("26k o=0.5", 0.5, 10_000)):
            found[f"fox {name} {width} × {height}"] = fox(data, width, height, opacity, more)
    return found | {"garden 648 × 420": garden(data)}


class Stages:
    """The kernels one by one, on memory allocated beforehand."""

    def __init__(self, values, width, height):
        self.lists = Lists(values, width, height)
        opacity, features = values[3:]
        n, c = features.shape
        new, pixels = features.new_empty, self.lists.tiles * self.lists.kernels.splat_tile**2
        self.touched = self.lists.cells[: int(self.lists.tile_begin[-1])].clone()
        self.image, self.alpha = new(height, width, c), new(height, width, 1)
        self.both = dict(
            splats=self.lists.splats, features=features, background=None, tile_begin=self.lists.tile_begin,
            entry=self.lists.entry, cells=self.lists.cells, through=new(pixels),
            stopped=new(pixels, dtype=torch.int32), stream=self.lists.stream,
        )  # fmt: skip
        self.forward()
        self.v = [torch.randn_like(self.image), torch.randn_like(self.alpha)]
        self.back = dict(
            opacity=opacity, place=self.lists.place, v_image=self.v[0], v_alpha=self.v[1],
            rows=new(self.lists.slots, RECORD), v_tile=new(self.lists.tiles, c), v_xy=new(n, 2),
            v_conic=new(n, 3), v_opacity=new(n), v_features=new(n, c), v_background=None, v_xy_abs=None,
        )  # fmt: skip

    def forward(self):
        self.lists.kernels.splat_raster(**self.both, image=self.image, alpha=self.alpha)

    def backward(self):
        self.lists.kernels.splat_raster_vjp(**self.both, **self.back)

    def cells(self) -> int:
        """Cells of 16 pixels that are computed."""
        bits = self.touched.numpy().view(np.uint64)
        return int(np.unpackbits(bits.view(np.uint8)).sum())


def pairs(values, width, height):
    """Splats and pixels of all blended pairs, by pixel and there by depth: what the torch versions start from."""
    xy, conic, depth, opacity, _ = (x.double() for x in values)
    a, b, c = conic.unbind(-1)
    extent = 2 * (opacity * 255).clamp(min=1e-9).log().clamp(min=0) / (a * c - b * b).clamp(min=1e-12)
    r = torch.stack([(extent * c).sqrt(), (extent * a).sqrt()], -1)
    size = torch.tensor([width, height])
    low, high = ((xy + s * r - 0.5).round().long() for s in (-1, 1))
    low, high = torch.minimum(low.clamp(min=0), size), torch.minimum(high, size - 1)
    span = (high - low + 1).clamp(min=0) * (opacity > 0)[:, None]
    order = depth.argsort(stable=True)
    counts = span[order].prod(-1)
    splat = torch.repeat_interleave(order, counts)
    within = torch.arange(len(splat)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    x, y = low[splat, 0] + within % span[splat, 0], low[splat, 1] + within // span[splat, 0]
    alpha = alphas(values, splat, x, y)
    kept = alpha >= 1 / 255
    splat, pixel, alpha = splat[kept], (y * width + x)[kept], alpha[kept]
    by_pixel = pixel.argsort(stable=True)
    splat, pixel, alpha = splat[by_pixel], pixel[by_pixel], alpha[by_pixel]
    log = torch.log1p(-alpha)
    kept = segment_sums(log, pixel, width * height) + log >= float(np.log(1e-4))
    return splat[kept], pixel[kept]


def alphas(values, splat, x, y):
    xy, conic, _, opacity, _ = values
    dx, dy = x + 0.5 - xy[splat, 0], y + 0.5 - xy[splat, 1]
    q = conic[splat]
    sigma = 0.5 * (q[:, 0] * dx * dx + q[:, 2] * dy * dy) + q[:, 1] * dx * dy
    return (opacity[splat] * torch.exp(-sigma)).clamp(max=0.99)


def segment_sums(log, pixel, n):
    """Sums over the earlier entries of the same pixel."""
    total = log.double().cumsum(0) - log
    counts = torch.bincount(pixel, minlength=n)
    first = (counts.cumsum(0) - counts).clamp(max=max(len(log) - 1, 0))
    return (total - total[first[pixel]]).to(log.dtype)


def torch_raster(values, width, height, splat, pixel):
    alpha = alphas(values, splat, pixel % width, pixel // width)
    w = alpha * torch.exp(segment_sums(torch.log1p(-alpha), pixel, width * height))
    image = values[4].new_zeros(width * height, values[4].shape[1]).index_add(0, pixel, w[:, None] * values[4][splat])
    return image.view(height, width, -1), w.new_zeros(width * height).index_add(0, pixel, w).view(height, width, 1)


def gsplat_raster(folder: Path):
    """gsplat's `accumulate` with the signature of `torch_raster`."""

    def weights(alphas, ray_indices, n_rays):
        through = torch.exp(segment_sums(torch.log1p(-alphas), ray_indices, n_rays))
        return alphas * through, through

    def sums(weights, values, ray_indices, n_rays):
        values = weights[:, None] if values is None else weights[:, None] * values
        return values.new_zeros(n_rays, values.shape[1]).index_add(0, ray_indices, values)

    stand_ins = {"gsplat": {}, "gsplat.cuda": {}, "gsplat._helper": {"assert_shape": lambda *_: None}}
    stand_ins["gsplat.cuda._wrapper"] = {"CameraModel": str, "RollingShutterType": int}
    stand_ins["nerfacc"] = {"render_weight_from_alpha": weights, "accumulate_along_rays": sums}
    for name, members in stand_ins.items():
        module = sys.modules[name] = types.ModuleType(name)
        vars(module).update(members)
    sys.modules["gsplat"].__path__ = [str(folder / "gsplat")]
    sys.modules["gsplat.cuda"].__path__ = [str(folder / "gsplat/cuda")]
    accumulate = importlib.import_module("gsplat.cuda._torch_impl").accumulate

    def raster(values, width, height, splat, pixel):
        xy, conic, _, opacity, colors = (x[None] for x in values)
        image, alpha = accumulate(
            xy, conic, opacity, colors, splat, pixel, torch.zeros_like(pixel), width, height
        )  # fmt: skip
        return image[0], alpha[0]

    return raster


def compare(gsplat, values, width, height) -> str:
    """Ours in float32 against gsplat's in float64: largest differences, relative to the largest values."""
    leaves = [[x.to(d).requires_grad_() for x in values] for d in (torch.float32, torch.float64)]
    ours = splat_raster(*leaves[0], width, height)
    theirs = gsplat(leaves[1], width, height, *pairs(values, width, height))
    v = [torch.randn_like(x) for x in ours]
    results = []
    for out, (xy, conic, _, opacity, colors) in ((ours, leaves[0]), (theirs, leaves[1])):
        results.append([*out, *torch.autograd.grad(out, (xy, conic, opacity, colors), [x.to(out[0].dtype) for x in v])])
    errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*results)]
    rms = [((a - b).norm() / b.norm()).item() for a, b in zip(*results)]
    names = ("image", "alpha", "v_xy", "v_conic", "v_opacity", "v_colors")
    return ", ".join(f"{name} {e:.1e} ({r:.1e})" for name, e, r in zip(names, errors, rms))


def measure(name: str, values, width: int, height: int, peers: bool) -> list[list[str]]:
    stages = Stages(values, width, height)
    calls = {
        "bin and sort": stages.lists.bin,
        "fill": stages.lists.fill,
        "forward": stages.forward,
        "backward": stages.backward,
    }

    def render():
        with torch.no_grad():
            return splat_raster(*values, width, height)

    leaves = [x.clone().requires_grad_() for x in values]

    def step():
        out = splat_raster(*leaves, width, height)
        return torch.autograd.grad(out, [x for i, x in enumerate(leaves) if i != 2], stages.v)

    ceilings = {"copy": copy_ceiling(64), "gemm": sgemm_ceiling()}
    whole = {"image, no gradient": render, "image and gradients": step}
    seconds = interleaved({**calls, **whole, **ceilings}, rounds=40, warmup=3, take=min)
    if peers:
        listed = pairs(values, width, height)
        slow = {
            "image, no gradient": lambda: torch.no_grad()(torch_raster)(values, width, height, *listed),
            "image and gradients": lambda: torch.autograd.grad(
                torch_raster(leaves, width, height, *listed), [x for i, x in enumerate(leaves) if i != 2], stages.v
            ),
        }
        torch_seconds = interleaved(slow, rounds=2, take=min)
    n, c = values[4].shape
    seen, slots, pixels = stages.lists.seen, stages.lists.slots, width * height
    computed = 16 * stages.cells() if values[4].device.type == "cpu" else 0
    flops = {
        stage: (base + c * channel) * computed
        for stage, (base, channel) in (("forward", FORWARD_FLOPS), ("backward", BACKWARD_FLOPS))
    }
    size = {  # bytes that must be read or written: inputs, records, lists, pictures and their state, gradients
        "bin and sort": n * 4 * (7 + c) + seen * (64 + 8),
        "fill": seen * (64 + 8) + slots * 16,
        "forward": slots * (64 + 12) + pixels * 4 * (c + 3),
        "backward": slots * (64 + 12 + 64) + pixels * 4 * (c + 3) + n * 4 * (6 + c),
    }
    size["image, no gradient"] = size["bin and sort"] + size["fill"] + size["forward"]
    size["image and gradients"] = size["image, no gradient"] + size["backward"]
    bandwidth, gemm = 2 * 64 * 2**20 / seconds["copy"], 2 * 1536**3 / seconds["gemm"]
    rows = []
    for stage in size:
        s = seconds[stage]
        row = [name, stage, f"{s * 1e3:.2f} ms", f"{size[stage] / 1e6:.1f} MB", f"{size[stage] / s / bandwidth:.0%}"]
        row += [f"{flops[stage] / s / 1e9:.0f} GFLOP/s, {flops[stage] / s / gemm:.0%}" if flops.get(stage) else ""]
        row += [f"{torch_seconds[stage] / s:.0f}" if peers and stage in torch_seconds else ""]
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEURAL3D_DATA"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--gsplat", type=Path)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--only", default="", help="scenes whose names contain this")
    args = parser.parse_args()
    keep_memory()
    torch.manual_seed(0)
    rows = []
    gsplat = gsplat_raster(args.gsplat) if args.gsplat else None
    print(machine())
    for name, (values, width, height) in scenes(Path(args.data) if args.data else None).items():
        if args.only not in name:
            continue
        values[4] = values[4].repeat(1, -(-args.channels // 3))[:, : args.channels]
        if gsplat and width < 600:
            print(f"{name}: from gsplat, largest (and rms): {compare(gsplat, values, width, height)}")
        rows += measure(name, [x.to(args.device) for x in values], width, height, args.peers)
    header = ["scene", "stage", "fastest", "must move", "of copy", "of a matrix product", "torch × our time"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
