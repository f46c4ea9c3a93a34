"""Scores a run on held-out views, and says by which protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.methods.abilities import Exposed, Renderable
from neural3d.run import Run, write_json
from neural3d.scene import Data, Scene, View

LABELS = ("truth", "result")
GAIN = "PSNR after the gain of each channel that brings a picture nearest to its photo"
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


def background_color(scene: Data, name: str | None = None) -> Float[Tensor, "3"] | None:
    """What alpha images are composited on: `name`, or the scene's own; None for opaque photos."""
    name = name or scene.background
    return None if name is None else torch.tensor(BACKGROUNDS[name])


def truth(scene: Scene, view: View, background: str | None = None) -> Float[Tensor, "H W 3"]:
    """The photo as the protocol shows it: straight alpha composited on the background."""
    image = torch.from_numpy(np.array(view.image())).float() / 255
    if image.shape[-1] == 3:
        return image
    color = background_color(scene, background or scene.background or "white")
    assert color is not None
    return image[..., :3] * image[..., 3:] + color * (1 - image[..., 3:])


def with_gain(got: Float[Tensor, "H W 3"], want: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 3"]:
    """A picture as exposed as the photo: nobody knows how a photo that was not trained on was exposed.

    The gain of each channel is the least-squares one, Σ got·want / Σ got².
    """
    return (got * (got * want).sum((0, 1)) / got.square().sum((0, 1)).clamp(min=1e-12)).clamp(0, 1)


def evaluate(
    run: Run,
    *,
    split: str = "test",
    background: str | None = None,
    lpips_weights: Path | None = None,
    pictures: bool = True,
    sheet: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Renders every view of a split, compares it with its photo, writes RUN/eval.json and returns what it wrote.

    PSNR is the mean of the per-image values, SSIM 11 × 11 with σ = 1.5 as published, both on sRGB values in [0, 1]
    without clipping the truth; renders are clipped. Pixels outside a view's mask count as they are in the photo.
    Where photos have gains (exposure=true), also psnr_gain: see `with_gain`.
    background: white or black, for alpha images; default the scene's. lpips_weights: a local file (see metrics.Lpips).
    pictures: truth beside result as RUN/eval/NNN.png; sheet: the first four of them in one picture.
    Raises UserError for an empty split or a missing photo.
    """
    from neural3d.metrics import Lpips, psnr, ssim
    from neural3d.render.images import comparison, save_png

    scene, method = run.scene, run.able(Renderable)
    if not isinstance(scene, Scene):
        raise UserError(f"{run.directory}: fitted to a shape, which has no photos to compare with; give a --mesh.")
    views = [scene.views[i] for i in scene.split.get(split, [])]
    if not views:
        known = ", ".join(f"{k} ({len(v)})" for k, v in scene.split.items() if v)
        raise UserError(f"{run.directory}: the split '{split}' has no views; choose among {known}.")
    lpips = Lpips.load(lpips_weights) if lpips_weights else None
    color = background_color(scene, background)
    gains = isinstance(method, Exposed) and method.gains() is not None
    per_image = []
    rows: list[list[Tensor]] = []
    for n, view in enumerate(views):
        want = truth(scene, view, background)
        got = method.render(view.camera, color).rgb.cpu().clamp(0, 1)
        row: dict[str, Any] = {"name": view.name, "psnr": psnr(got, want), "ssim": ssim(got, want)}
        if gains:
            row["psnr_gain"] = psnr(with_gain(got, want), want)
        if lpips is not None:
            row["lpips"] = lpips(got, want)
        per_image.append(row)
        if pictures:
            save_png(run.directory / "eval" / f"{n:03d}.png", comparison([[want, got]], LABELS))
            rows.append([want, got])
        progress(n + 1, len(views))
    results: dict[str, Any] = {
        key: sum(row[key] for row in per_image) / len(per_image) for key in per_image[0] if key != "name"
    }
    first = views[0].camera
    report = {
        "method": run.config.method,
        "checkpoint": {"step": run.step},
        "protocol": {
            "split": split,
            "views": len(views),
            "resolution": [first.width, first.height],
            "downscale": scene.downscale,
            "background": (background or scene.background) if scene.has_alpha else None,
            "undistortion": "none: pictures are compared as photographed"
            if all(v.lens is None for v in views)
            else "photos are resampled to pinhole copies: same focal length, cut to what the photo covers",
            "psnr": "mean of per-image PSNR, sRGB in [0, 1]",
            **({"psnr_gain": GAIN} if gains else {}),
            "ssim": "11x11 Gaussian window, sigma 1.5, valid region, mean over channels",
        },
        "results": {**results, "per_image": per_image},
    }
    write_json(run.directory / "eval.json", report)
    if sheet is not None:
        save_png(sheet, comparison(rows[:4], LABELS))
    return report
