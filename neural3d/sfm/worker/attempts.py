"""The search for cameras: the simplest lens first; where few photos are placed, more matches, lenses and mappers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pycolmap

from neural3d.sfm.worker.features import match_harder
from neural3d.sfm.worker.lenses import FIRST, RICHER, has_exif, is_better, refined, refusals, take_out, with_exif
from neural3d.sfm.worker.mapping import Models, NoFocalLength, go_on, map_photos
from neural3d.sfm.worker.merging import merged
from neural3d.sfm.worker.progress import watched

PLACED = 0.7  # share of the photos that ends the search
LENSES = (FIRST, "SIMPLE_PINHOLE", "RADIAL", "SIMPLE_RADIAL_FISHEYE")
MAPPERS = ("incremental", "global")


@dataclass
class Search:
    """models: separate ones, the largest first. exif: focal lengths in pixels by camera id. tried: in words."""

    job: dict[str, Any]
    total: int
    exif: dict[int, float]
    models: Models = field(default_factory=list)
    tried: list[str] = field(default_factory=list)

    @property
    def placed(self) -> int:
        return self.models[0].num_reg_images() if self.models else 0


def search(job: dict[str, Any]) -> Search:
    """Attempts until PLACED of the photos have a pose in one model; that, refined, is the first of its models."""
    with contextlib.closing(pycolmap.Database.open(job["database"])) as database:
        group_of = {name: group for group in job["cameras"] for name in group["names"]}
        exif = {
            image.camera_id: group_of[image.name]["focal"]
            for image in database.read_all_images()
            if group_of[image.name]["focal"]
        }
        found = Search(job, database.num_images(), exif)
    for number, (mapper, lens, seed) in enumerate(attempts(job)):
        if number == 1:
            with contextlib.closing(pycolmap.Database.open(job["database"])) as database:
                match_harder(job, database)
        attempt(found, mapper, lens, seed)
        if found.placed >= PLACED * found.total:
            break
    if found.models:
        refine(found)
    return found


def attempts(job: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(mapper, lens, seed): as asked or the simplest; then what the user left open is varied, and the seed last."""
    lenses = (job["lens"],) if job["fixed_lens"] else LENSES
    mappers = (job["mapper"],) if job["mapper"] != "auto" else MAPPERS
    seed = job["seed"]
    yield mappers[0], lenses[0], seed
    for mapper in mappers:
        yield mapper, lenses[0], seed
    for lens in lenses[1:]:
        yield mappers[0], lens, seed
    yield mappers[0], lenses[0], seed + 1


def attempt(found: Search, mapper: str, lens: str, seed: int) -> None:
    """One mapper with one lens: its plausible models join those that were there, which share photos or not."""
    way = f"{lens}, {mapper} mapper" + (f", seed {seed}" if seed != found.job["seed"] else "")
    stage = "finding cameras" + (f" again ({found.placed} of {found.total} placed), {way}" if found.tried else "")
    try:
        models = map_photos(found.job, mapper, lens, seed, stage)
    except NoFocalLength:
        found.tried.append(f"{way}: no focal lengths for it could be found")
        return
    refused, untold = set(), ""
    for i, model in enumerate(models):
        if (other := with_exif(model, found.exif, found.job["threads"])) is not None:
            focal = next(iter(model.cameras.values())).mean_focal_length()
            untold = untold or f"; EXIF's focal length fits as well as the {focal:.0f} px found"
            models[i] = model = other
        why = refusals(model, found.exif)
        take_out(model, why)
        refused |= set(why.values())
    counts = sorted((n for m in models if (n := m.num_reg_images()) >= 2), reverse=True)
    said = f"{counts[0]} of {found.total} photos" if counts else "no photo"
    said += "".join(f", and {n} in another model" for n in counts[1:4])
    said += untold + "".join(f"; refused: {why}" for why in sorted(refused))
    found.tried.append(f"{way}: {said}")
    join(found, [model for model in models if model.num_reg_images() >= 2])


def join(found: Search, models: Models) -> None:
    """The largest model of all, with what others add to it; others only where they hold photos that it lacks."""
    place = found.job["database"], found.job["images"], Path(found.job["scratch"]) / "merged"
    pool = sorted([*found.models, *models], key=lambda m: (-m.num_reg_images(), m.compute_mean_reprojection_error()))
    kept: Models = []
    for model in pool:
        if kept and set(model.reg_image_ids()) - set(kept[0].reg_image_ids()):
            whole = watched("merging models", 1, lambda: 0, partial(merged, kept[0], model, *place))
            if whole is not None and not refusals(whole, found.exif):
                found.tried.append(f"merged: {whole.num_reg_images()} of {found.total} photos")
                kept[0] = whole
                continue
        if not any(set(model.reg_image_ids()) <= set(other.reg_image_ids()) for other in kept):
            kept.append(model)
    found.models = kept


def refine(found: Search) -> None:
    """Principal points and, where many photos ask for it, a richer lens; with that the photos that are left.

    Photos that do not tell the focal length, which EXIF then gave, tell neither.
    """
    job, model = found.job, found.models[0]
    held = has_exif(model, found.exif)

    def adjusted(lens: str = "") -> pycolmap.Reconstruction | None:
        stage = "refining cameras" + (f", {lens}" if lens else "")
        return watched(stage, 1, lambda: 0, lambda: refined(model, found.exif, job["threads"], lens, held))

    best = adjusted() or model
    lens = next(iter(model.cameras.values())).model_name
    for richer in () if job["fixed_lens"] or held else RICHER.get(lens, ()):
        if (trial := adjusted(richer)) is not None and is_better(trial, best):
            best = trial
            break
    if best.num_reg_images() < found.total and not job["fixed_lens"]:
        more = go_on(job, pycolmap.Reconstruction(best), found.total, held)
        if more.num_reg_images() > best.num_reg_images() and not refusals(more, found.exif):
            best = more
    found.models[0] = best
