"""What a prior of pictures is for: noise taken out of them, and missing parts drawn given the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import fold, unfold

from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.images.formats import UNREADABLE, is_photo, open_photo
from neural3d.images.reading import read_header, read_image
from neural3d.methods.abilities import Completing, Denoising
from neural3d.run import Run

HALF = 128  # of 255: below, a pixel is not known, or is a zero of binary pictures


def pictures_in(path: Path) -> list[Path]:
    """A picture, or those of a folder. Raises UserError where there is none."""
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path.")
    found = sorted(p for p in path.iterdir() if is_photo(p)) if path.is_dir() else [path]
    if not found or not is_photo(found[0]):
        raise UserError(f"{path}: no pictures; give a picture or a folder of pictures.")
    return found


def restored(
    prior: Run, files: list[Path], *, unknown: Path | None = None, samples: int = 1, seed: int = 0
) -> Iterator[tuple[Path, list[Float[Tensor, "C H W"]]]]:
    """Of each picture: without its noise, or `samples` answers to what is missing; values from 0 to 1.

    What is missing: transparent pixels, or those that are dark in the picture of the same name in the folder `unknown`.
    Pictures with something missing need a prior that completes, of their own size; others one that denoises, whose
    pictures may be smaller: it is then applied to all such parts of a picture, and their mean is taken.
    Raises UserError where the prior learnt something else, or cannot.
    """
    examples = prior.data
    if not isinstance(examples, Examples) or examples.kind != "images":
        raise UserError(f"{prior.directory}: has not learnt pictures; give a run of a prior of pictures.")
    device = next(prior.method.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    for file in files:
        x, known = read_picture(file, examples, unknown)
        x = x.to(device)
        if known is None:
            yield file, [_denoised(prior, x)]
            continue
        method = prior.able(Completing)
        if list(x.shape) != examples.shape:
            raise UserError(
                f"{file}: {_size(x.shape)}, but {prior.directory} learnt {_size(examples.shape)}; scale it."
            )
        several, where = (a.to(device)[None].expand(samples, *x.shape) for a in (x, known))
        yield file, list(method.complete(several, where, generator).cpu())


def read_picture(
    file: Path, examples: Examples, unknown: Path | None = None
) -> tuple[Float[Tensor, "C H W"], Bool[Tensor, "C H W"] | None]:
    """(the picture as the prior's examples are, but of its own size; what of it is known or None: all)"""
    try:
        width, height, alpha = read_header(file)
        pixels = read_image(file, width, height, alpha=True)
    except UNREADABLE as error:
        raise UserError(f"{file}: cannot be read ({error}); copy it again.") from None
    colours = pixels[..., :3].astype(np.float32) / 255
    if examples.shape[0] == 1:
        colours = colours.mean(-1, keepdims=True)
    x = torch.from_numpy(colours).permute(2, 0, 1).contiguous()
    if examples.binary:
        x = (x >= HALF / 255).float()
    mask = pixels[..., 3] if alpha else None
    if unknown is not None:
        mask = _mask(unknown, file, width, height)
    if mask is None or (mask >= HALF).all():
        return x, None
    return x, torch.from_numpy(mask >= HALF).expand(x.shape)


def _mask(folder: Path, file: Path, width: int, height: int) -> np.ndarray:
    own = next((p for p in sorted(folder.glob(f"{file.stem}.*")) if is_photo(p)), None)
    if own is None:
        raise UserError(f"{folder}: has no picture called {file.stem}, to say what of {file} is known (white).")
    with open_photo(own) as picture:
        if picture.size != (width, height):
            raise UserError(f"{own}: {picture.size[0]} × {picture.size[1]} pixels, but {file} {width} × {height}.")
        return np.asarray(picture.convert("L"))


def _denoised(prior: Run, x: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
    method = prior.able(Denoising)
    shape = prior.data.shape  # type: ignore[union-attr]
    channels, height, width = shape
    if list(x.shape) == shape:
        return method.denoise(x[None])[0].cpu()
    if x.shape[1] < height or x.shape[2] < width:
        raise UserError(f"pictures of {_size(x.shape)} are smaller than what the prior learnt, {_size(shape)}.")
    stride = max(1, height // 4), max(1, width // 4)
    grown = [_reaching(n, k, s) for n, k, s in zip(x.shape[1:], (height, width), stride)]
    padded = torch.nn.functional.pad(x[None], (0, grown[1] - x.shape[2], 0, grown[0] - x.shape[1]), mode="reflect")
    parts = unfold(padded, (height, width), stride=stride)  # (1, C·h·w, parts)
    clean = torch.cat([method.denoise(p) for p in parts[0].T.reshape(-1, *shape).split(256)])
    columns = clean.flatten(1).T[None]
    total = fold(columns, (grown[0], grown[1]), (height, width), stride=stride)
    count = fold(torch.ones_like(columns), (grown[0], grown[1]), (height, width), stride=stride)
    return (total / count)[0, :channels, : x.shape[1], : x.shape[2]].cpu()


def _reaching(length: int, part: int, stride: int) -> int:
    """The least length, not below, that parts cover exactly."""
    return part + -(-(length - part) // stride) * stride


def _size(shape: list[int] | torch.Size) -> str:
    return f"{shape[2]} × {shape[1]} pixels of {'grey' if shape[0] == 1 else 'colour'}"
