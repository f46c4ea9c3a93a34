"""Priors of body poses beside a mixture of Gaussians: how likely held-out poses are, and a body found by few joints.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_pose_prior.py OUT [--clips FOLDER] [--priors vae realnvp]

Clips are few, so each is held out once: the i-th is tested by what learnt from those of other i modulo FOLDS. Nats: the
mean of −log p over held-out poses, in the 36 numbers of neural3d.body.poses, radians; the VAE's is a bound by 50 codes.
The job: SMPL's average skeleton in held-out poses, of which wrists, ankles, head and both hips are seen, each 2 cm off
by chance; rotations of all joints and the root's place minimise Σ |seen − joint|² / 2 (2 cm)² − log p(pose), by Adam
from the rest pose turned as the trunk is. Errors are of the joints that are not seen. The mixture is scikit-learn's, 8
components with full covariances, as in SMPLify (Bogo et al. 2016); all rows have a weak pull to rest (1 radian).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
from bench_motion_prior import trained
from common import machine, table
from sklearn.mixture import GaussianMixture
from torch import Tensor

from neural3d.body.clips.amass import average
from neural3d.body.poses import ABOUT, PosePrior, clip_numbers, examples_of, thinned
from neural3d.body.retarget import retarget
from neural3d.body.windows import read_clips
from neural3d.errors import UserError
from neural3d.examples.reading import made
from neural3d.geometry.rotations import rotation_from_axis_angle
from neural3d.geometry.skeletons import Skeleton
from neural3d.methods.abilities import Guiding
from neural3d.run import load

CLIPS = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "motion"
FOLDS, EACH = 4, 8  # how many poses of a clip a body is fitted to
SEEN = ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "head", "left_hip", "right_hip")
TRUNK = ("head", "left_hip", "right_hip")
HIDDEN = ("left_knee", "right_knee", "left_elbow", "right_elbow", "left_shoulder", "right_shoulder", "neck", "spine2")
NOISE, WEAK = 0.02, 1.0  # metres; radians
STEPS = 200
BODY = 22  # joints of SMPL's that are not of hands
SETTINGS = {
    "vae": ["decoder=gaussian", "latent=16", "horizon=2000"],
    "realnvp": ["horizon=1000"],
}


class Mixture:
    """Guiding, by Gaussians."""

    def __init__(self, poses: np.ndarray, components: int):
        found = GaussianMixture(components, reg_covar=1e-3, random_state=0).fit(poses.astype(np.float64))
        of = [torch.from_numpy(x).float() for x in (found.weights_, found.means_, found.covariances_)]
        self.density = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(of[0]), torch.distributions.MultivariateNormal(of[1], of[2])
        )

    def energy(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return -self.density.log_prob(x)


def fitted(seen: Tensor, skeleton: Skeleton, prior: Guiding | None) -> Tensor:
    """Where all joints are, (B, J, 3), of poses of which SEEN joints were seen, (B, 7, 3)."""
    chosen = [skeleton.names.index(name) for name in SEEN]
    turn, place = towards(seen, skeleton)
    vectors = torch.zeros(len(seen), len(skeleton), 3).requires_grad_()
    places = place.clone().requires_grad_()
    scored = None if prior is None else PosePrior(prior, skeleton)
    optimizer = torch.optim.Adam([vectors, places], lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, 1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        local = rotation_from_axis_angle(vectors)
        pose = torch.cat([turn[:, None] @ local[:, :1], local[:, 1:]], 1)
        misfit = (joints_of(skeleton, pose, places)[:, chosen] - seen).square().sum() / (2 * NOISE**2)
        loss = misfit + vectors[:, 1:].square().sum() / (2 * WEAK**2)
        if scored is not None:
            loss = loss - scored.log_prob(pose).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
    return joints_of(skeleton, pose, places).detach()


def towards(seen: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """The rotation (B, 3, 3) that takes the trunk at rest nearest to the one that is seen (Kabsch), root's place."""
    rest = torch.stack([skeleton.rest[skeleton.names.index(name)] for name in TRUNK])
    trunk = seen[:, [SEEN.index(name) for name in TRUNK]]
    a, b = rest - rest.mean(0), trunk - trunk.mean(1, keepdim=True)
    u, _, v = torch.linalg.svd(b.mT @ a)
    sign = torch.det(u @ v).sign()[:, None]
    turn = u @ torch.diag_embed(torch.cat([torch.ones(len(seen), 2), sign], 1)) @ v
    return turn, trunk.mean(1) + (turn @ (skeleton.rest[0] - rest.mean(0))[:, None])[..., 0]


def joints_of(skeleton: Skeleton, pose: Tensor, places: Tensor) -> Tensor:
    world, at = [pose[:, 0]], [places]
    for joint, parent in enumerate(skeleton.parents[1:], 1):
        world.append(world[parent] @ pose[:, joint])
        at.append(at[parent] + world[parent] @ skeleton.offsets[joint])
    return torch.stack(at, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--priors", nargs="+", default=[*SETTINGS])
    parser.add_argument("--folds", type=int, nargs="+", default=[*range(FOLDS)])
    parser.add_argument("--validate", action="store_true", help="hold out of what is learnt, and test on that")
    parser.add_argument("--set", nargs="*", default=[], help="settings for all priors, after those above")
    given = parser.parse_args()
    print(machine())
    whole = average("smplh")
    skeleton = Skeleton(whole.names[:BODY], whole.parents[:BODY], whole.rest[:BODY])
    clips, truths = [], []
    for motion in read_clips(given.clips)[0]:
        try:
            numbers = thinned(clip_numbers(motion))
        except UserError:  # four-legged
            continue
        carried = retarget(motion, skeleton).joints()
        clips.append(numbers)
        truths.append(carried[torch.linspace(0, len(carried) - 1, min(EACH, len(carried))).round().long()])
    nats: dict[str, list[Tensor]] = {}
    apart: dict[str, list[Tensor]] = {}
    hidden, chosen = ([skeleton.names.index(name) for name in names] for names in (HIDDEN, SEEN))
    generator = torch.Generator().manual_seed(0)
    for fold in given.folds:
        learnt = [i for i in range(len(clips)) if i % FOLDS != fold]
        test = [i for i in range(len(clips)) if i % FOLDS == fold]
        if given.validate:
            learnt, test = [k for j, k in enumerate(learnt) if j % FOLDS], learnt[::FOLDS]
        parts = {"train": examples_of([clips[i] for i in learnt], True), "test": examples_of([clips[i] for i in test])}
        examples = made(given.clips.resolve(), {name: (x, None) for name, x in parts.items()})
        examples = dataclasses.replace(examples, about=ABOUT)
        priors: dict[str, Guiding | None] = {"none": None}
        for count in (1, 8):
            priors[f"mixture of {count}"] = Mixture(parts["train"], count)
        for name in given.priors:
            out = given.out / f"fold{fold}" / name
            print(name, trained(examples, name, out, [*SETTINGS.get(name, []), *given.set]), flush=True)
            priors[name] = load(out, "cpu").able(Guiding)
        truth = torch.cat([truths[i] for i in test])
        seen = truth[:, chosen] + NOISE * torch.randn(len(truth), len(SEEN), 3, generator=generator)
        for name, prior in priors.items():
            if prior is not None:
                x = torch.from_numpy(parts["test"])
                with torch.no_grad():
                    score = getattr(prior, "score", None)
                    own = -score(x, torch.Generator().manual_seed(0)) if score else prior.energy(x, torch.Generator())
                nats.setdefault(name, []).append(own)
            found = fitted(seen, skeleton, prior)
            apart.setdefault(name, []).append(1000 * (found - truth)[:, hidden].norm(dim=-1))
            own = f"{float(nats[name][-1].mean()):.2f} nats, " if name in nats else ""
            error = float(apart[name][-1].mean())
            print(f"fold {fold}, {len(learnt)} clips, {len(truth)} bodies, {name}: {own}{error:.1f} mm", flush=True)
    rows = []
    for name, errors in apart.items():
        each = torch.cat(errors)
        own = torch.cat(nats[name]) if name in nats else None
        said = "-" if own is None else f"{float(own.mean()):.2f} ± {float(own.std()) / len(own) ** 0.5:.2f}"
        limbs = [f"{float(each[:, k : k + 2].mean()):.0f}" for k in (0, 2, 4, 6)]
        rows.append([name, said, f"{float(each.mean()):.1f}", *limbs])
    print(table(["prior", "nats a pose", "hidden joints, mm", "knees", "elbows", "shoulders", "neck, spine"], rows))


if __name__ == "__main__":
    main()
