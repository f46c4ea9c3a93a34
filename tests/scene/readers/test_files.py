"""Finding the photos that another machine's file names."""

import pytest
from captures import write_picture

from neural3d.errors import UserError
from neural3d.scene.readers.files import find_photos


def photo(path, size=(8, 6)):
    write_picture(path, size=size)
    return path


def test_the_longest_matching_tail(tmp_path):
    """Windows' and other paths; folders of one name and photos of one name; endings in another case or none."""
    file = tmp_path / "capture" / "cameras.xml"
    left, right = (photo(tmp_path / "capture" / side / "DCIM" / "IMG_1.JPG") for side in ("left", "right"))
    other = photo(tmp_path / "capture" / "IMG_2.v1.png")
    names = ["C:\\shots\\Left\\DCIM\\IMG_1.jpg", "/home/me/right/DCIM/IMG_1.JPG", "IMG_2.v1"]
    assert find_photos(file, names) == [left, right, other]
    with pytest.raises(
        UserError, match=r"'img_1' may be .*left.* or .*right.*; name the folder of the photos with images"
    ):
        find_photos(file, ["IMG_1"])
    assert find_photos(file, ["IMG_1"], "left") == [left]


def test_full_size_before_copies_and_masks(tmp_path):
    full = photo(tmp_path / "images" / "a.png")
    reduced, _ = photo(tmp_path / "images_2" / "a.png"), photo(tmp_path / "masks" / "a.png")
    assert find_photos(tmp_path / "cameras.xml", ["a"]) == [full]
    assert find_photos(tmp_path / "cameras.xml", ["a"], "images_2") == [reduced]


def test_the_folder_above(tmp_path):
    """Photos beside the file's own folder, but never those of another capture there."""
    file = tmp_path / "reconstruction" / "sfm_data.json"
    photo(tmp_path / "another" / "images" / "a.png")
    photo(tmp_path / "another" / "a.png")
    with pytest.raises(UserError, match=r"photo 'images/a\.png' is not below .*reconstruction; put the photos there"):
        find_photos(file, ["images/a.png"])
    here = photo(tmp_path / "images" / "a.png")
    assert find_photos(file, ["images/a.png"]) == [here] == find_photos(file, ["a"])
    with pytest.raises(UserError, match=r"photo 'b' and 1 more are not below"):
        find_photos(file, ["a", "b", "c"])
