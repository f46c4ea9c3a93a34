"""Where the errors of a run on the stool come from: its depths and normals in pictures, and the surface fused of them.

    neural3d train stool --method splat --minutes 3 --set surface=true --out RUN
    python benchmarks/bench_surface.py RUN [RUN ...] [--data FOLDER] [--resolution CELLS]

Pictures are compared with the true ones that the stool's test views come with. Of the surface, the distances to the
truth are shared out: result whose nearest truth no two training views see; what is more than 1 % off, such as a lid
over a hollow; and the rest, with its mean (bias, positive outside) and the spread about it. "true depths" is the truth
itself, drawn from the training views and fused alike: what fusion and its grid cost.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from common import table
from scipy.spatial import cKDTree

from neural3d.evaluate.mesh import VIEWS, load_truth
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh, extract
from neural3d.geometry.mesh_metrics import sample_surface, seen_by
from neural3d.geometry.solid import Solid
from neural3d.render import RenderOut
from neural3d.render.fusion import Fused, fewer_and_smaller, fused_surface, truncation
from neural3d.run import Run, load
from neural3d.shapes.shape import Shape

SAMPLES = 20_000
FAR = 1.0  # % of the diagonal


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


def shares(result: Mesh, truth: Mesh, cameras: list[Camera]) -> list[str]:
    """Chamfer distance and its parts, see the module's page; all in the frame of the truth."""
    low, diagonal = truth.vertices.min(0), float(np.linalg.norm(np.ptp(truth.vertices, axis=0)))
    ours, theirs = (Mesh((m.vertices - low) / diagonal, m.faces) for m in (result, truth))
    rng = np.random.default_rng(0)
    points, true = (sample_surface(m, SAMPLES, rng)[0] for m in (ours, theirs))
    counts = seen_by(Solid(truth), cameras, true * diagonal + low, VIEWS)
    solid = Solid(theirs)
    distance = 100 * solid.distance(points).astype(np.float64)
    missing = 100 * Solid(ours).distance(true[counts]).astype(np.float64)
    seen, outside = counts[cKDTree(true).query(points)[1]], solid.winding(points) == 0
    signed, far = np.where(outside, distance, -distance), distance > FAR
    rest = seen & ~far
    parts = [distance * ~seen, distance * (seen & far), distance * rest, missing * (missing > FAR)]
    parts = [(distance.mean() + missing.mean()) / 2, *(x.mean() for x in parts), (missing * (missing <= FAR)).mean()]
    return [f"{x:.3f}" for x in parts] + [f"{signed[rest].mean():+.3f}", f"{signed[rest].std():.3f}"]


def true_depths(truth: Mesh, run: Run, resolution: int) -> Mesh:
    """The truth, in the run's frame, as its training views see it and fusion makes it."""
    solid, box = Solid(truth), run.scene.aabb

    def render(camera: Camera, background: torch.Tensor) -> RenderOut:
        origin, direction = (x.reshape(-1, 3) for x in camera.rays())
        t, face = solid.first_hit(origin.numpy(), direction.numpy())
        hit = torch.from_numpy(face >= 0).float().view(camera.height, camera.width, 1)
        z = torch.from_numpy(t).nan_to_num(posinf=0) * (direction @ camera.forward.float())
        rgb = hit.expand(-1, -1, 3)
        return RenderOut(rgb, hit, z.view_as(hit), torch.zeros_like(rgb))

    fused = Fused(render, fewer_and_smaller(run.scene.cameras("train")), truncation(box, resolution))
    return fused_surface(fused, lambda field: extract(field, box, resolution), closed=True)[0]


def surface_rows(name: str, run: Run, truth: Shape, resolution: int) -> list[list[str]]:
    truth_from_scene = truth.scene_from_capture @ torch.linalg.inv(run.scene.scene_from_capture)
    cameras = [camera.moved(truth_from_scene) for camera in run.scene.cameras("train")]
    ideal = true_depths(truth.mesh.transformed(torch.linalg.inv(truth_from_scene)), run, resolution)
    made = {name: run.method.mesh(resolution), "true depths": ideal}
    return [[n, *shares(m.transformed(truth_from_scene), truth.mesh, cameras)] for n, m in made.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=os.environ.get("NEURAL3D_DATA"))
    parser.add_argument("--resolution", type=int, default=256)
    args = parser.parse_args()
    folder = Path(args.data) / "synth_stool_cc0"
    truth = load_truth(folder / "gt_mesh.ply")
    pictures, surfaces = [], []
    for path in args.runs:
        run = load(path, "cpu")
        behind, angles = errors(run, folder / "test")
        pictures.append([path.name, str(run.step), *(f"{x:.3f}" for x in (behind.mean(), behind.abs().mean()))])
        pictures[-1] += [f"{behind.abs().median():.3f}", f"{angles.median():.1f}"]
        surfaces += surface_rows(path.name, run, truth, args.resolution)
    print(table(["run", "steps", "behind, mean", "off, mean", "off, median", "normals, median °"], pictures))
    parts = ["by the unseen", "seen, > 1 %", "seen, rest", "missing, > 1 %", "missing, rest"]
    print(table(["surface", "Chamfer", *parts, "bias of rest", "spread"], surfaces))


if __name__ == "__main__":
    main()
