"""`neural3d process`, `train PHOTOS` and `info PHOTOS`, as a user types them."""

import importlib.util
import json

import captures
import pytest
import textured

import neural3d.cli.process
from neural3d.cli import main
from neural3d.run import configure
from neural3d.sfm.solve import SfmReport

needs_colmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap, which finds the cameras, is not installed"
)
TINY = ["--method", "ngp", "--steps", "2", "--device", "cpu", "--downscale", "4"]
TINY += ["--set", "log2_table=10", "levels=4", "horizon=2"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return textured.write_photos(tmp_path_factory.mktemp("garden") / "photos", textured.orbit(5), (320, 240))


@needs_colmap
def test_train_finds_the_cameras_first_and_once(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["train", str(photos), *TINY])
    said = " ".join(capsys.readouterr().out.split())
    assert "has no poses: finding them first, into runs/photos-capture" in said
    assert "registered 5 of 5 photos" in said and "done: step 2" in said
    assert json.loads((tmp_path / "runs/photos-ngp/config.json").read_text())["scene"].endswith("photos-capture")
    main(["train", str(photos), "--out", "runs/second", *TINY])
    said = " ".join(capsys.readouterr().out.split())
    assert "poses: those found earlier, in runs/photos-capture (5 of 5 photos)" in said and "finding" not in said
    (photos / "one more.jpg").write_bytes((photos / "0 photo 00.jpg").read_bytes())
    with pytest.raises(SystemExit) as stop:
        main(["train", str(photos), "--out", "runs/third", *TINY])
    (photos / "one more.jpg").unlink()
    assert stop.value.code == 2
    assert "runs/photos-capture was made of other photos" in " ".join(capsys.readouterr().err.split())


def test_ctrl_c_says_how_to_go_on(photos, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("neural3d.sfm.solve.process", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["process", str(photos), str(tmp_path / "out")])
    assert stop.value.code == 130
    assert "stopped; the same command goes on" in capsys.readouterr().err


def report(registered, photos=60):
    return SfmReport(
        source="p", photos_hash="h", options={}, photos=photos, registered=registered, cameras=1, error=0.6, points=99,
        missing={"a.jpg": "blurred"}, doubts=["fewer than half"], tried=["one lens: 2 of 60", "another: 2 of 60"],
    )  # fmt: skip


def test_under_half_is_said_first_and_ends_with_3(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("neural3d.sfm.solve.process", lambda *_: report(29))
    with pytest.raises(SystemExit) as stop:
        main(["process", str(photos), str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 3
    assert said.startswith("only 29 of 60 photos could be placed")
    assert "done" not in said and "next:" not in said and "tried: another: 2 of 60" in said
    with pytest.raises(SystemExit) as stop:  # `train` does not train on it either
        main(["train", str(photos), "--out", str(tmp_path / "run"), *TINY])
    assert stop.value.code == 3 and not (tmp_path / "run").exists()


def test_half_is_enough(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("neural3d.sfm.solve.process", lambda *_: report(30))
    main(["process", str(photos), str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("registered 30 of 60 photos") and "next: neural3d train" in said


def test_train_refuses_fewer_than_three_views(tmp_path, capsys):
    cameras = captures.ring(count=4)
    for count in (2, 3):
        folder = captures.write_transforms(tmp_path / str(count), cameras[:count])
        if count == 3:
            configure(folder, "ngp")
            continue
        with pytest.raises(SystemExit) as stop:
            main(["train", str(folder), "--out", str(tmp_path / "run"), *TINY])
        assert stop.value.code == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "has 2 photo(s) with a pose" in said and "take more photos" in said
    assert not (tmp_path / "run").exists()


def test_bad_input_ends_with_2(photos, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["process", str(photos), str(tmp_path / "there")])
    assert stop.value.code == 2
    assert "there exists already" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "there" / "mine.txt").read_text() == "mine"


def test_info_names_the_command(photos, capsys):
    main(["info", str(photos)])
    said = " ".join(capsys.readouterr().out.split())
    assert "5, without poses" in said and "5 of 320×240" in said and "neural3d process" in said


def test_plain_progress_is_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(neural3d.cli.console.time, "monotonic", lambda: 100.0)
    with neural3d.cli.console.StageProgress() as shown:
        for done in range(1001):
            shown.update("matching", done, 1000)
    assert capsys.readouterr().out.splitlines() == ["matching: 0 of 1000", "matching: 1000 of 1000"]
