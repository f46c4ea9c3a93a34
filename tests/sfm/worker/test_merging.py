"""Two models that share photos become one; what does not fit stays apart."""

import numpy as np
import pytest

pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which finds the cameras, is not installed")

from reconstructions import reconstruction, without  # noqa: E402

from neural3d.sfm.worker.merging import merged  # noqa: E402


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merging")
    return reconstruction(folder / "a.db", 12, noise=0.2), str(folder / "a.db"), folder


def halves(whole, common):
    """Two models of the 12 photos that share `common`; the second in a frame of its own."""
    ids = sorted(whole.reg_image_ids())
    first, second = without(whole, set(ids[6 + common // 2 :])), without(whole, set(ids[: 6 - common // 2]))
    turn = pycolmap.Rotation3d(np.array([0.1, -0.3, 0.2, 0.9]))
    second.transform(pycolmap.Sim3d(2.5, turn, np.array([3.0, -1.0, 7.0])))
    return first, second


def centres(model, ids):
    return np.stack([model.image(i).projection_center() for i in ids])


def test_two_halves_become_one(capture):
    whole, database, folder = capture
    first, second = halves(whole, 4)
    assert (first.num_reg_images(), second.num_reg_images()) == (8, 8)
    one = merged(first, second, database, str(folder), folder / "scratch")
    ids = sorted(whole.reg_image_ids())
    assert sorted(one.reg_image_ids()) == ids
    assert first.num_reg_images() == 8  # nothing was changed
    extent = np.ptp(centres(whole, ids), 0).max()
    back = pycolmap.align_reconstructions_via_proj_centers(one, whole, 0.1)
    one.transform(back)
    assert np.abs(centres(one, ids) - centres(whole, ids)).max() < 0.01 * extent
    assert one.compute_mean_reprojection_error() < 0.5 and one.num_points3D() > 100
    assert all(one.image(i).num_points3D >= 30 for i in ids)


def test_models_that_do_not_fit_stay_apart(capture):
    whole, database, folder = capture
    place = database, str(folder), folder / "scratch"
    first, second = halves(whole, 0)
    assert merged(first, second, *place) is None  # no photo in common
    first, second = halves(whole, 4)
    assert merged(first, without(first, {min(first.reg_image_ids())}), *place) is None  # nothing new
    zoomed = pycolmap.Reconstruction(second)
    for camera in zoomed.cameras.values():
        camera.params = [1300, 400, 300, 0.0]
    assert merged(first, zoomed, *place) is None
    torn = pycolmap.Reconstruction(second)
    for i in sorted(torn.reg_image_ids())[:4]:  # the shared photos stand elsewhere in it
        torn.frame(torn.image(i).frame_id).rig_from_world = pycolmap.Rigid3d(
            pycolmap.Rotation3d(np.array([0.5, 0.1 * i, 0.2, 0.7])), np.array([i, 2.0, 3.0])
        )
    assert merged(first, torn, *place) is None
