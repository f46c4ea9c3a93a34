"""COLMAP's mappers on photos that are only points."""

import pytest

pytest.importorskip("pycolmap", reason="pycolmap is not installed, or has no wheel here")

from reconstructions import reconstruction, without

from neural3d.sfm.worker.lenses import convert
from neural3d.sfm.worker.mapping import go_on, take_out_unseen


def test_a_photo_without_points_is_not_placed(tmp_path):
    """The global mapper places whatever matches, one with a single point too: its pose was 70° off on dtu24."""
    model = reconstruction(tmp_path / "a.db", 12, noise=0.2)
    ids = sorted(model.reg_image_ids())
    for point, track in {k: list(p.track.elements) for k, p in model.points3D.items()}.items():
        if point % 40 and any(element.image_id == ids[3] for element in track) and len(track) > 2:
            at = next(element.point2D_idx for element in track if element.image_id == ids[3])
            model.delete_observation(ids[3], at)
    few = model.image(ids[3]).num_points3D
    assert 0 < few < 30
    take_out_unseen(model, ids[:3])
    assert model.num_reg_images() == 12
    take_out_unseen(model, ids)
    assert sorted(model.reg_image_ids()) == [i for i in ids if i != ids[3]]


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
