"""The whole way of a folder as people have it: two cameras' subfolders with masks beside them become a scene."""

import importlib.util

import numpy as np
import pytest
import textured
from PIL import Image

from neural3d.loading import load_scene
from neural3d.scene.readers.colmap import read_model
from neural3d.sfm.solve import SfmOptions, process

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap, which finds the cameras, is not installed"
)
SIZE = (320, 240)
HIDDEN = 60  # columns at the left that masks take away


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    root = tmp_path_factory.mktemp("two")
    pixels = np.full(SIZE[::-1], 255, np.uint8)
    pixels[:, :HIDDEN] = 0
    for i, pose in enumerate(textured.orbit(8)):
        name = f"{'left' if i < 4 else 'right'}/{i % 4}"  # equal names in both
        for folder, picture, suffix in (
            ("images", textured.picture(pose, *SIZE), ".png"),
            ("masks", pixels, ".jpg" if i == 3 else ".png"),
        ):
            path = root / "photos" / folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    (root / "photos/masks/left/3.jpg").rename(root / "photos/images/left/3.mask.png")  # by its content, JPEG
    (root / "photos/masks/right/0.png").unlink()
    (root / "photos/images/right/3 copy.png").write_bytes((root / "photos/images/right/3.png").read_bytes())
    report = process(root / "photos", root / "out", SfmOptions(camera_model="SIMPLE_RADIAL"))
    return root / "out", report


def test_all_are_placed_with_a_camera_for_each_folder(capture):
    out, report = capture
    assert (report.photos, report.registered, report.cameras) == (8, 8, 2) and not report.missing
    assert report.notes == ["right/3 copy.png is left out: a copy of right/3.png"]
    model = read_model(out / "sparse/0")
    assert len({photo.camera_id for photo in model.photos}) == 2
    assert {photo.name.split("/")[0] for photo in model.photos} == {"left", "right"}


def test_features_lie_where_masks_let_them(capture):
    out, _ = capture
    for photo in read_model(out / "sparse/0").photos:
        assert len(photo.xy) > 100
        assert (photo.xy[:, 0].min() > HIDDEN - 2) == (photo.name != "right/0.png")  # which has no mask


def test_the_scene_has_the_masks(capture):
    out, _ = capture
    scene = load_scene(out)
    masks = {view.name: view.mask() for view in scene.views}
    assert masks.pop("right/0.png") is None
    for mask in masks.values():
        assert (mask[:, : HIDDEN - 8] == 0).all() and (mask[:, HIDDEN + 8 :] == 255).all()
