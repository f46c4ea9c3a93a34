"""Photos without poses as a scene, with a stand-in for COLMAP; tests/test_process_command.py finds real ones."""

import dataclasses
import json

import pytest
from captures import ring, write_picture, write_transforms

from neural3d.errors import UserError
from neural3d.loading import load_scene
from neural3d.sfm.footage import find_footage
from neural3d.sfm.solve import REPORT, SfmOptions, SfmReport, photos_hash, read_report


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of three photos; `process` is replaced by one that writes a capture of ten and counts its calls."""
    folder = tmp_path / "photos"
    for name in "abc":
        write_picture(folder / f"{name}.png")
    calls = []

    def process(source, out, options, report):
        calls.append(out)
        report("matching", 0, 3)
        report("matching", 3, 3)
        write_transforms(out, ring())
        made = SfmReport(str(source), photos_hash(find_footage(source)), {}, 3, 3, 1, 0.5, 0, {}, [])
        (out / REPORT).write_text(json.dumps(dataclasses.asdict(made)))
        assert options == SfmOptions()
        return made

    monkeypatch.setattr("neural3d.sfm.solve.process", process)
    return folder, calls


def test_load_scene_finds_the_cameras_once_and_says_so(photos, capsys):
    folder, calls = photos
    scene = load_scene(folder)
    capture = folder.parent / "photos-capture"
    assert calls == [capture] and scene.path == capture and scene.name == "photos" and len(scene.views) == 10
    assert capsys.readouterr().out.splitlines() == [
        f"{folder} has no poses: finding them first, into {capture}", "matching", "registered 3 of 3 photos",
    ]  # fmt: skip
    again = load_scene(folder)
    assert calls == [capture] and len(again.views) == 10
    assert capsys.readouterr().out == f"poses: those found earlier, in {capture} (3 of 3 photos)\n"


def test_a_capture_of_other_photos_is_neither_taken_nor_lost(photos):
    folder, calls = photos
    load_scene(folder)
    write_picture(folder / "d.png")
    with pytest.raises(UserError, match="photos-capture was made of other photos"):
        load_scene(folder)
    assert len(calls) == 1 and (folder.parent / "photos-capture" / "transforms.json").is_file()


@pytest.mark.parametrize("key, value", [("registered", "three"), ("missing", ["a.png"]), ("error", None), ("new", 1)])
def test_a_damaged_report_is_none(tmp_path, key, value):
    """And is not believed until something divides by its text."""
    made = dataclasses.asdict(SfmReport("photos", "hash", {}, 3, 3, 1, 0.5, 0, {"a.png": "dark"}, []))
    (tmp_path / REPORT).write_text(json.dumps(made))
    assert dataclasses.asdict(read_report(tmp_path)) == made
    (tmp_path / REPORT).write_text(json.dumps(made | {key: value}))
    assert read_report(tmp_path) is None


def test_a_capture_is_taken_as_it_is(photos, tmp_path, capsys):
    write_transforms(tmp_path / "capture", ring())
    assert load_scene(tmp_path / "capture").path == tmp_path / "capture"
    assert not photos[1] and not capsys.readouterr().out
