"""Soft silhouettes of a body at 256², forward and both ways, beside hard ones with antialiased outlines; and a fit.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_soft_silhouette.py

cheburashka.obj (13,334 faces), drawn alone and ten at once. The fit, of 300 faces of it: it stands beside its
silhouette, which it does not overlap, turned by 30°; Adam moves and turns it for 100 steps by what both cover of what
either does, while σ narrows from 400 to 0.3 pixels².
"""

from __future__ import annotations

import math

import torch
from bench_mesh_raster import DISTANCE, FOCAL, MESHES, load, seen
from common import interleaved, machine, table

from neural3d.geometry.clean import simplified
from neural3d.geometry.mesh import Mesh
from neural3d.ops import antialias, keep_memory, mesh_raster, opposite_corners, rotation_exp, soft_silhouette

WIDTH, STEPS, FACES = 256, 100, 300


def hard(pixels, faces, opposite):
    r = mesh_raster(pixels, faces, WIDTH, WIDTH)
    return antialias((r.face >= 0).to(pixels)[..., None], r.face, r.depth, pixels, faces, opposite)[..., 0]


def project(space):
    return torch.cat([space[..., :2] / space[..., 2:] * FOCAL * WIDTH + WIDTH / 2, space[..., 2:]], -1)


def fit(draw, vertices, faces) -> float:
    """What both cover after the fit, of what either does; pixels by their centres."""
    back = torch.tensor([0.0, 0.0, 2.5 * DISTANCE])
    target = project(vertices + back + torch.tensor([1.3, 0.7, 0.0]))[None]
    truth = draw(target, faces, 0.1)
    turn, place = torch.tensor([0.0, math.radians(30), 0.0], requires_grad=True), torch.zeros(3, requires_grad=True)
    place.data -= torch.tensor([1.0, 0.6, 0.0])
    adam = torch.optim.Adam([turn, place], lr=0.05)
    for step in range(STEPS):
        adam.zero_grad()
        pixels = project(vertices @ rotation_exp(turn).T + back + place)[None]
        image = draw(pixels, faces, max(0.3, 400.0 ** (1 - 1.5 * step / STEPS)))
        both = (image * truth).sum()
        (1 - both / (image.sum() + truth.sum() - both)).backward()
        adam.step()
    now, then = (mesh_raster(p.detach(), faces, WIDTH, WIDTH).face >= 0 for p in (pixels, target))
    return float((now & then).sum() / (now | then).sum())


def main() -> None:
    keep_memory()
    vertices, faces = load(MESHES / "cheburashka.obj")
    opposite = opposite_corners(faces)
    one = seen(vertices, WIDTH)[0][None].requires_grad_()
    ten = torch.stack([seen(vertices, WIDTH, 2 * math.pi * i / 10)[0] for i in range(10)]).requires_grad_()

    def both(run, pixels):
        return torch.autograd.grad(run(pixels).square().sum(), pixels)

    runs = {f"soft, σ = {s:g}": lambda p, s=s: soft_silhouette(p, faces, WIDTH, WIDTH, s) for s in (1.0, 25.0, 400.0)}
    runs["hard, antialiased"] = lambda p: hard(p, faces, opposite)
    candidates = {}
    for name, run in runs.items():
        candidates[name, "forward"] = torch.no_grad()(lambda run=run: run(one))
        candidates[name, "both"] = lambda run=run: both(run, one)
        candidates[name, "ten, both"] = lambda run=run: both(run, ten)
    seconds = interleaved(candidates, rounds=7)
    print(machine())
    what = ("forward", "both", "ten, both")
    print(table(["256²", *what], [[name, *(f"{1e3 * seconds[name, w]:.1f} ms" for w in what)] for name in runs]))
    less = simplified(Mesh(vertices, faces.numpy()), FACES)
    space, faces = torch.tensor(less.vertices, dtype=torch.float32), torch.tensor(less.faces, dtype=torch.int32)
    opposite = opposite_corners(faces)
    soft = fit(lambda p, f, sigma: soft_silhouette(p, f, WIDTH, WIDTH, sigma), space, faces)
    sharp = fit(lambda p, f, sigma: hard(p, f, opposite), space, faces)
    print(f"Overlap of the silhouettes (intersection over union) after the fit: soft {soft:.3f}, hard {sharp:.3f}.")


if __name__ == "__main__":
    main()
