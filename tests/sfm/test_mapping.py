"""COLMAP's mappers on photos that are only points."""

import pytest

pytest.importorskip("pycolmap", reason="pycolmap is not installed, or has no wheel here")

from synthetic import reconstruction, without

from neural3d.sfm.lenses import convert
from neural3d.sfm.mapping import go_on


def test_the_rest_is_placed_with_the_richer_lens_that_was_found(tmp_path):
    """The database still holds the lens of the beginning."""
    whole = reconstruction(tmp_path / "database.db")
    found = without(whole, set(sorted(whole.reg_image_ids())[:2]))
    for camera in found.cameras.values():
        convert(camera, "OPENCV")
    job = {"database": str(tmp_path / "database.db"), "images": str(tmp_path), "scratch": str(tmp_path)}
    more = go_on({**job, "seed": 0, "threads": 1}, found, 12)
    assert more.num_reg_images() == 12
    assert {camera.model_name for camera in more.cameras.values()} == {"OPENCV"}
