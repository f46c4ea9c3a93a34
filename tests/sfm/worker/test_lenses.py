"""Cameras that cannot be are refused; richer lenses are taken where they earn it."""

import numpy as np
import pytest

pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which finds the cameras, is not installed")

from reconstructions import reconstruction, street, without  # noqa: E402

from neural3d.sfm.worker.lenses import (  # noqa: E402
    convert,
    implausible,
    is_better,
    refined,
    refusals,
    stretch,
    take_out,
    with_centres,
    with_exif,
)

SIZE = (4272, 2848)


def camera(lens, *params, size=SIZE, number=1):
    made = pycolmap.Camera.create_from_model_name(number, lens, 1.0, *size)
    made.params = list(params)
    return made


@pytest.mark.parametrize(
    ("lens", "params", "why"),
    [
        ("SIMPLE_RADIAL", (3000, 2136, 1424, -0.1), ""),
        ("OPENCV", (3000, 3003, 2150, 1430, 0.05, -0.03, 1e-3, 1e-3), ""),
        ("SIMPLE_PINHOLE", (2900, 2136, 1424), ""),  # 24 mm on full frame
        ("OPENCV_FISHEYE", (1500, 1500, 2136, 1424, -0.02, 0.003, 0, 0), ""),
        ("OPENCV", (33714, 6020, 2136, 1424, 0.3, 1087, 0, 0), "33714 and 6020 px differ"),
        ("SIMPLE_RADIAL", (60000, 2136, 1424, 0), "60000 px for 4272×2848 photos"),
        ("SIMPLE_RADIAL", (500, 2136, 1424, 0), "500 px for"),
        ("SIMPLE_RADIAL", (3000, 2136, 1424, 5), "bends the corners"),
        ("SIMPLE_RADIAL", (3000, 2136, 1424, -0.6), "bends the corners"),
        ("RADIAL", (3000, 2136, 1424, 0, 1087), "bends the corners"),
        ("SIMPLE_RADIAL_FISHEYE", (2000, 2136, 1424, -0.6), "bends the corners"),
        ("SIMPLE_PINHOLE", (float("nan"), 2136, 1424), "no finite camera"),
    ],
)
def test_implausible_cameras(lens, params, why):
    said = implausible(camera(lens, *params))
    assert (why in said) if why else said == ""


def test_exif_has_a_say():
    lens = camera("SIMPLE_PINHOLE", 3000, 2136, 1424)
    assert implausible(lens, exif=2600) == ""
    assert implausible(lens, exif=750) == "focal length 3000 px, but EXIF says 750"


def test_cameras_are_judged_against_each_other(tmp_path):
    model = reconstruction(tmp_path / "a.db")
    assert refusals(model, {}) == {}
    one = next(iter(model.cameras))
    assert "EXIF says 300" in refusals(model, {one: 300.0})[one]
    take_out(model, [one])
    assert model.num_reg_images() == 0


@pytest.mark.parametrize(
    ("before", "lens", "after"),
    [
        (("SIMPLE_RADIAL", 900, 410, 305, -0.1), "OPENCV", [900, 900, 410, 305, -0.1, 0, 0, 0]),
        (("OPENCV", 900, 910, 410, 305, -0.1, 2, 3, 4), "SIMPLE_RADIAL", [905, 410, 305, -0.1]),
        (("SIMPLE_PINHOLE", 900, 410, 305), "RADIAL", [900, 410, 305, 0, 0]),
        (("SIMPLE_RADIAL", 900, 410, 305, -0.1), "SIMPLE_RADIAL_FISHEYE", [900, 410, 305, 0]),
    ],
)
def test_from_lens_to_lens(before, lens, after):
    changed = camera(*before, size=(800, 600))
    changed.has_prior_focal_length = True
    convert(changed, lens)
    assert changed.model_name == lens and list(changed.params) == pytest.approx(after)
    assert changed.has_prior_focal_length and changed.verify_params()


def test_a_richer_lens_where_photos_ask_for_it(tmp_path):
    """Taken by a lens with two radial coefficients and tilted glass, found with one."""
    truth = (700, 700, 400, 300, -0.2, 0.3, 0.004, 0.0)
    model = reconstruction(tmp_path / "a.db", 14, "OPENCV", truth, noise=0.3)
    for i in model.cameras:
        convert(model.camera(i), "SIMPLE_RADIAL")
    richer = refined(model, {}, 1, "OPENCV")
    assert is_better(richer, refined(model, {}, 1))
    assert {camera.model_name for camera in model.cameras.values()} == {"SIMPLE_RADIAL"}  # nothing was changed
    (found,) = richer.cameras.values()
    assert found.params[:2] == pytest.approx(truth[:2], rel=0.003) and stretch(found) < 0.003
    assert found.params[6] == pytest.approx(truth[6], abs=0.001)
    few = without(model, set(list(model.reg_image_ids())[:5]))
    assert refined(few, {}, 1, "OPENCV") is None  # nine photos are not enough to believe it


def test_no_richer_lens_without_a_reason(tmp_path):
    """Neither for noise nor for a principal point off the middle, which tangential distortion can imitate."""
    for off in (0, 9):
        model = reconstruction(tmp_path / f"{off}.db", 14, params=(900, 400 + off, 300, 0.0), noise=0.3)
        next(iter(model.cameras.values())).params = [900, 400, 300, 0.0]
        assert not is_better(refined(model, {}, 1, "OPENCV"), refined(model, {}, 1))


def test_principal_points(tmp_path):
    model = reconstruction(tmp_path / "a.db", 14, params=(900, 412, 293, 0.0), noise=0.2)
    (start,) = model.cameras.values()
    start.params = [900, 400, 300, 0.0]
    found = with_centres(model, {}, 1)
    assert found is not None
    assert next(iter(found.cameras.values())).params[1:3] == pytest.approx([412, 293], abs=1)
    far = reconstruction(tmp_path / "b.db", 14, params=(900, 500, 300, 0.0), noise=0.2)
    next(iter(far.cameras.values())).params = [900, 400, 300, 0.0]
    assert with_centres(far, {}, 1) is None  # 100 of 800 px off the middle: no lens, unless cropped
    assert np.isfinite(far.compute_mean_reprojection_error())


def test_no_principal_point_where_focal_lengths_would_move_apart(tmp_path):
    """Pixels that are no squares: a single focal length hides that, and principal points are not to be trusted."""
    model = reconstruction(tmp_path / "a.db", 14, "OPENCV", (900, 909, 412, 293, 0, 0, 0, 0), noise=0.2)
    for camera in model.cameras.values():
        convert(camera, "SIMPLE_RADIAL")
        camera.params = [904, 400, 300, 0.0]
    assert with_centres(model, {}, 1) is None


@pytest.mark.parametrize("exif", [1250.0, 640.0])
def test_photos_of_a_street_do_not_tell_their_focal_length(exif):
    """EXIF does; the street gets as long as it says, and no wider."""
    model = street()
    held = with_exif(model, {1: exif}, 1)
    assert held is not None and held.cameras[1].mean_focal_length() == exif
    before, after = (np.array([m.image(i).projection_center() for i in (1, 12)]) for m in (model, held))
    points = {i: p.xyz - model.points3D[i].xyz * (1, 1, exif / 900) for i, p in held.points3D.items()}
    scale = np.linalg.norm(after[1] - after[0]) / np.linalg.norm(before[1] - before[0])
    assert scale == pytest.approx(exif / 900, rel=0.05)
    assert np.median(np.abs(np.array(list(points.values()))[:, :2])) < 0.05


def test_photos_from_around_tell_their_focal_length(tmp_path):
    """So EXIF is not believed where it differs; where it hardly differs, nothing is done either."""
    model = reconstruction(tmp_path / "a.db", noise=0.2)
    assert with_exif(model, {1: 1250.0}, 1) is None
    assert with_exif(model, {1: 950.0}, 1) is None
    assert with_exif(street(), {}, 1) is None


def test_what_is_held_stays_held_when_all_is_refined():
    model = street()
    assert refined(model, {1: 900.0}, 1, held=True).cameras[1].mean_focal_length() == 900
    assert refined(model, {1: 900.0}, 1).cameras[1].mean_focal_length() != 900
