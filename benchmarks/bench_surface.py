"""Depths and normals in pictures of a run beside the true ones that the stool's test views come with.

    neural3d train stool --method splat --minutes 3 --set surface=true --out RUN
    python benchmarks/bench_surface.py RUN [RUN ...] [--data FOLDER]

The surface itself: neural3d eval RUN --mesh FOLDER/synth_stool_cc0/gt_mesh.ply. Here no fusion comes between.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from common import table

from neural3d.run import Run, load


def errors(run: Run, truth: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """(how far each pixel's surface lies behind the true one along its normal, in % of the scene's box's diagonal,
    angles between normals in degrees)
    """
    scene = run.scene
    scale = float(torch.linalg.det(scene.scene_from_capture[:3, :3])) ** (1 / 3)
    turn = (scene.scene_from_capture[:3, :3] / scale).float()
    diagonal = float((scene.aabb[1] - scene.aabb[0]).norm())
    behind, angles = [], []
    for view in (scene.views[i] for i in scene.split["test"]):
        path = truth / f"{Path(view.name).stem}_gt.npz"
        if not path.exists():
            continue
        with np.load(path) as true:
            depth, normal = (torch.from_numpy(true[name].astype(np.float32)) for name in ("depth", "normal"))
        out, direction, normal = run.render(view.camera), view.camera.rays()[1], normal @ turn.T
        ours = out.depth[..., 0] / (direction @ view.camera.forward.float())
        both = (depth > 0) & (out.alpha[..., 0] > 0.5)
        cosine = -(normal * direction).sum(-1)
        behind.append((100 / diagonal * (ours - scale * depth) * cosine)[both])
        angles.append((normal * out.normal).sum(-1)[both].clamp(-1, 1).acos().rad2deg())
    return torch.cat(behind), torch.cat(angles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=os.environ.get("NEURAL3D_DATA"))
    args = parser.parse_args()
    rows = []
    for path in args.runs:
        run = load(path, "cpu")
        behind, angles = errors(run, Path(args.data) / "synth_stool_cc0" / "test")
        rows.append([path.name, str(run.step), *(f"{x:.3f}" for x in (behind.mean(), behind.abs().mean()))])
        rows[-1] += [f"{behind.abs().median():.3f}", f"{angles.median():.1f}"]
    print(table(["run", "steps", "behind, mean", "off, mean", "off, median", "normals, median °"], rows))


if __name__ == "__main__":
    main()
