"""What is tried, in which order, and when it ends: with mappers that find what the test says."""

import pytest

pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which finds the cameras, is not installed")

from reconstructions import reconstruction, street, without  # noqa: E402

import neural3d.sfm.worker.attempts as attempts  # noqa: E402
from neural3d.sfm.worker.lenses import convert  # noqa: E402
from neural3d.sfm.worker.mapping import NoFocalLength  # noqa: E402

PHOTOS = 12
HARDER = "match harder"


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attempts")
    model = reconstruction(folder / "database.db", PHOTOS, noise=0.2)
    return model, folder


@pytest.fixture
def searched(capture, monkeypatch):
    """search() with what each mapper run finds, in turn; how it was called, and what came out."""
    model, folder = capture
    job = {
        "database": str(folder / "database.db"), "images": str(folder), "scratch": str(folder / "scratch"),
        "cameras": [{"names": [image.name for image in model.images.values()], "focal": None}],
        "lens": "SIMPLE_RADIAL", "fixed_lens": False, "mapper": "auto", "seed": 5, "threads": 1,
    }  # fmt: skip
    (folder / "scratch").mkdir(exist_ok=True)

    def run(*found, **changes):
        calls, left = [], list(found)

        def map_photos(job, mapper, lens, seed, stage):
            calls.append((mapper, lens, seed, stage))
            if isinstance(outcome := left.pop(0) if left else [], Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(attempts, "map_photos", map_photos)
        monkeypatch.setattr(attempts, "match_harder", lambda *_: calls.append(HARDER))
        monkeypatch.setattr(attempts, "go_on", lambda job, model, total, held: model)
        return calls, attempts.search({**job, **changes})

    return run


def part(model, *kept):
    return without(model, set(model.reg_image_ids()) - set(sorted(model.reg_image_ids())[slice(*kept)]))


def test_one_attempt_where_it_places_enough(searched, capture):
    calls, found = searched([part(capture[0], 9)])
    assert calls == [("incremental", "SIMPLE_RADIAL", 5, "finding cameras")]
    assert found.placed == 9 and found.tried == ["SIMPLE_RADIAL, incremental mapper: 9 of 12 photos"]


def test_more_matches_then_mappers_lenses_and_seeds(searched):
    calls, found = searched(NoFocalLength())
    assert calls[1] == HARDER and calls.count(HARDER) == 1
    assert [call[:3] for call in calls if call != HARDER] == [
        ("incremental", "SIMPLE_RADIAL", 5), ("incremental", "SIMPLE_RADIAL", 5), ("global", "SIMPLE_RADIAL", 5),
        ("incremental", "SIMPLE_PINHOLE", 5), ("incremental", "RADIAL", 5), ("incremental", "SIMPLE_RADIAL_FISHEYE", 5),
        ("incremental", "SIMPLE_RADIAL", 6),
    ]  # fmt: skip
    assert calls[2][3] == "finding cameras again (0 of 12 placed), SIMPLE_RADIAL, incremental mapper"
    assert not found.models and len(found.tried) == 7 and "no focal lengths" in found.tried[0]


def test_what_the_user_fixed_stays(searched):
    calls, _ = searched(mapper="global", lens="OPENCV", fixed_lens=True)
    assert {call[:2] for call in calls if len(call) == 4} == {("global", "OPENCV")}
    assert [call[2] for call in calls if call != HARDER] == [5, 5, 6]


def test_the_largest_model_is_taken_wherever_it_comes(searched, capture):
    small, large = part(capture[0], 3), part(capture[0], 3, 12)
    _, found = searched([small, large])
    assert found.placed == 9 and [m.num_reg_images() for m in found.models] == [9, 3]
    assert found.tried == ["SIMPLE_RADIAL, incremental mapper: 9 of 12 photos, and 3 in another model"]


def test_models_that_share_photos_are_merged(searched, capture):
    _, found = searched([part(capture[0], 7), part(capture[0], 4, 12)])
    assert found.placed == 12 and len(found.models) == 1 and found.tried[-1] == "merged: 12 of 12 photos"


def test_an_implausible_camera_is_no_result(searched, capture):
    """All photos, but with the lens of the issue: another attempt with half of them is better."""
    mad = pycolmap.Reconstruction(capture[0])
    for camera in mad.cameras.values():
        convert(camera, "OPENCV")
        camera.params = [33714, 6020, 400, 300, 0.3, 1087, 0, 0]
    calls, found = searched([mad], [part(capture[0], 10)])
    assert "refused: focal lengths 33714 and 6020 px differ" in found.tried[0] and "no photo" in found.tried[0]
    assert found.placed == 10 and len(calls) == 3


def test_where_photos_do_not_tell_it_exif_does(searched, capture):
    """A model of a street, whose focal length is too short by more than is refused, is taken with the right one."""
    cameras = [{"names": [image.name for image in capture[0].images.values()], "focal": 1300.0}]
    _, found = searched([street()], cameras=cameras)
    assert found.tried[0].endswith("12 of 12 photos; EXIF's focal length fits as well as the 900 px found")
    assert found.models[0].cameras[1].mean_focal_length() == 1300
