"""A body of SMPL's size, from shape, axis-angle pose and translation to vertices and joints, beside smplx.

    pip install smplx; python benchmarks/bench_lbs.py [--batch 32]

The model is made here, in SMPL's layout and with every term present: 6,890 vertices, 24 joints, 10 shapes, 207 pose
correctives, a dense joint regressor, four weights a vertex. "both" also goes back to shape, pose and translation.
Ours is the whole path: rotations, pose feature, joints of the shape (J₀ + J β, made once from regressor and shapes),
kinematics, blend_skin; then its parts, of which blend_skin is set beside what the machine can do. smplx's SMPL layer
reads the same file. Both are float32, and each turn is of five calls in a row, as in fitting: the first alone would be
of how long directions take to come back from memory after another candidate.
"""

from __future__ import annotations

import argparse
import io
import pickle
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from common import copy_ceiling, interleaved, machine, sgemm_ceiling, table

from neural3d.ops.lbs import blend_skin, kinematics, rotation_exp
from neural3d.ops.memory import keep_memory

VERTICES, SHAPES, CORRECTIVES, INFLUENCES = 6890, 10, 207, 4
ROW = 5  # calls in a row
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def synthetic_model() -> dict[str, np.ndarray]:
    """Arrays under SMPL's names: a cloud of a person's size, correctives of millimetres and centimetres."""
    random = np.random.default_rng(0)
    joints = random.random((VERTICES, INFLUENCES)).argsort(1) + random.integers(0, 20, (VERTICES, 1))
    weights = np.zeros((VERTICES, len(PARENTS)))
    np.put_along_axis(weights, joints, random.random(joints.shape) + 0.1, 1)
    regressor = random.random((len(PARENTS), VERTICES)) ** 8
    return {
        "v_template": random.uniform([-0.8, -0.9, -0.2], [0.8, 0.9, 0.2], (VERTICES, 3)),
        "shapedirs": random.normal(0, 0.02, (VERTICES, 3, SHAPES)),
        "posedirs": random.normal(0, 0.002, (VERTICES, 3, CORRECTIVES)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([PARENTS, range(len(PARENTS))]) % 2**32,
        "f": random.integers(0, VERTICES, (13776, 3)),
    }


class Ours:
    def __init__(self, model: dict[str, np.ndarray]):
        template, shapes, correctives, regressor, weights = (
            torch.tensor(model[name], dtype=torch.float32)
            for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
        )
        self.template = template
        self.directions = torch.cat([shapes, correctives], -1).permute(2, 0, 1).contiguous()
        self.rest_joints = (regressor @ template).flatten()
        self.joint_shapes = torch.einsum("jv,vcs->sjc", regressor, shapes).flatten(1)
        self.weights, joints = weights.topk(INFLUENCES)
        self.joints, self.parents = joints.int(), torch.tensor(PARENTS)
        self.eye = torch.eye(3)

    def pose(self, betas, pose, translation):
        rotations = rotation_exp(pose)
        feature = (rotations[:, 1:] - self.eye).flatten(1)
        joints = torch.addmm(self.rest_joints, betas, self.joint_shapes).view(len(betas), -1, 3)
        transforms, posed = kinematics(rotations, joints, self.parents)
        transforms = transforms + torch.nn.functional.pad(translation[:, None, :, None], (3, 0))
        return torch.cat([betas, feature], 1), transforms, posed + translation[:, None]

    def skin(self, coefficients, transforms):
        return blend_skin(self.template, self.directions, coefficients, self.joints, self.weights, transforms)

    def __call__(self, betas, pose, translation):
        coefficients, transforms, posed = self.pose(betas, pose, translation)
        return self.skin(coefficients, transforms), posed


def smplx_layer(model: dict[str, np.ndarray], batch: int):
    """smplx's layer of the same file as a function of (betas, pose, translation), or None where it is not installed."""
    try:
        import smplx
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        path = Path(folder) / "SMPL_NEUTRAL.pkl"
        path.write_bytes(pickle.dumps(model))
        layer = smplx.SMPL(str(path), batch_size=batch)

    def run(betas, pose, translation):
        pose = pose.flatten(1)
        out = layer(betas=betas, global_orient=pose[:, :3], body_pose=pose[:, 3:], transl=translation)
        return out.vertices, out.joints[:, : len(PARENTS)]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=32)
    batch = parser.parse_args().batch
    keep_memory()
    torch.manual_seed(0)
    model = synthetic_model()
    ours, peer = Ours(model), smplx_layer(model, batch)
    inputs = [torch.randn(batch, SHAPES), 0.5 * torch.randn(batch, len(PARENTS), 3), torch.randn(batch, 3)]
    leaves = [x.clone().requires_grad_() for x in inputs]
    v = torch.randn(batch, VERTICES, 3)

    def both(run):
        return torch.autograd.grad(run(*leaves)[0], leaves, v)

    posed = ours.pose(*inputs)[:2]
    posed_leaves = [x.clone().requires_grad_() for x in posed]

    candidates = {
        "ours forward": torch.no_grad()(lambda: ours(*inputs)),
        "ours both": lambda: both(ours),
        "blend_skin forward": torch.no_grad()(lambda: ours.skin(*posed)),
        "blend_skin both": lambda: torch.autograd.grad(ours.skin(*posed_leaves), posed_leaves, v),
    }
    if peer:
        candidates["smplx forward"] = torch.no_grad()(lambda: peer(*inputs))
        candidates["smplx both"] = lambda: both(peer)
    candidates |= {"sgemm": sgemm_ceiling(), "copy": copy_ceiling(64)}
    in_a_row = {name: lambda run=run: [run() for _ in range(ROW)] for name, run in candidates.items()}
    seconds = {name: s / ROW for name, s in interleaved(in_a_row, rounds=31, warmup=2).items()}
    flops, bandwidth = 2 * 1536**3 / seconds["sgemm"], 2 * 64 * 2**20 / seconds["copy"]

    rows = []
    for name in [name for name in candidates if " " in name]:
        s, what = seconds[name], name.split()[1]
        ratio = f"{seconds[f'smplx {what}'] / s:.1f}×" if peer else ""
        rows.append([*name.split(), f"{s * 1e3:.2f} ms", f"{batch / s:,.0f}", ratio])
    print(machine())
    print(f"batch {batch}; sgemm {flops / 1e9:.0f} GFLOP/s, copy {bandwidth / 1e9:.1f} GB/s")
    print(table(["body", "pass", "median", "meshes/s", "× smplx"], rows))
    print()
    print(limits(ours, batch, flops, bandwidth, seconds))
    if peer:
        print()
        print(agreement(ours, peer, both, inputs))


def limits(ours: Ours, batch: int, flops: float, bandwidth: float, seconds: dict[str, float]) -> str:
    """blend_skin beside the time its arithmetic would take in sgemm, and its memory traffic in a copy."""
    coordinates = batch * 3 * VERTICES
    product, blended = 2 * (SHAPES + CORRECTIVES) * coordinates, batch * VERTICES * INFLUENCES * 24
    skinned = blended + 6 * coordinates
    rows = []
    # Back: one product as large, the blended transforms once more, their gradient as many operations, and that to p.
    for what, work, scalars in (
        ("forward", product + skinned, coordinates),
        ("both", 2 * product + skinned + 2 * blended + 6 * coordinates, 4 * coordinates),
    ):
        moved = 4 * (scalars + ours.directions.numel() * (1 if what == "forward" else 2))
        s = seconds[f"blend_skin {what}"]
        row = [f"{work / 1e6:.0f} M", f"{work / s / 1e9:.0f} GFLOP/s", f"{work / s / flops:.0%}"]
        rows.append([what, *row, f"{moved / 1e6:.1f} MB", f"{moved / s / bandwidth:.0%}"])
    return table(["blend_skin", "operations", "", "of sgemm", "memory", "of copy"], rows)


def agreement(ours: Ours, peer, both, inputs) -> str:
    """The largest differences: vertices and joints in the model's unit, gradients relative to their largest."""
    vertices, joints = (float((a - b).abs().max()) for a, b in zip(ours(*inputs), peer(*inputs)))
    gradients = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(both(ours), both(peer))]
    names = ", ".join(f"{name} {x:.1e}" for name, x in zip(("shape", "pose", "translation"), gradients))
    return f"Differences from smplx: vertices {vertices:.1e} m, joints {joints:.1e} m; gradients to {names}, relative."


if __name__ == "__main__":
    main()
