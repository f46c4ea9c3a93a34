"""From photos to a capture: poses against the truth, reasons for what is left out, and nothing half-made."""

import dataclasses
import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import textured
import torch
from PIL import Image

import neural3d.sfm.solve as sfm
from neural3d.errors import UserError
from neural3d.loading import load_scene
from neural3d.scene.readers.align import similarity
from neural3d.sfm.footage import CameraGroup, Footage, Staged, find_footage, require_footage, stage
from neural3d.sfm.reasons import Evidence, doubts, remedy, why_missing
from neural3d.sfm.solve import (
    SfmOptions,
    camera_params,
    choose_pairs,
    list_pairs,
    of_these_sizes,
    process,
    read_report,
)

needs_colmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap, which finds the cameras, is not installed"
)
SIZE = (320, 240)
POSES = textured.orbit(10)
RIGHT = 9.0  # pixels by which the lens is off the pictures' middle
KEPT = {"images", "sparse", "process.json", "sfm.log", "database.db", "prepared.json"}
OPTIONS = SfmOptions(camera_model="SIMPLE_RADIAL", seed=3)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """COLMAP takes as many threads as torch has: one gives the same bytes each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return textured.write_photos(tmp_path_factory.mktemp("garden") / "photos", POSES, SIZE, right=RIGHT)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, photos):
    """The photos, two of another scene, one in the dark, one cut off."""
    folder = tmp_path_factory.mktemp("mixed") / "photos"
    shutil.copytree(photos, folder)
    textured.write_photos(folder, POSES[:2], SIZE, seed=50, right=RIGHT)
    Image.new("RGB", SIZE, (9, 9, 9)).save(folder / "dark.jpg")
    (folder / "cut.jpg").write_bytes((photos / "0 photo 00.jpg").read_bytes()[:9000])
    return folder


@pytest.fixture(scope="module")
def processed(mixed):
    stages = []
    out = mixed.parent / "capture"
    return out, process(mixed, out, OPTIONS, lambda *progress: stages.append(progress)), stages


def check_cameras(capture):
    """Poses within half a degree and 1 % of the track after the best similarity, and the lens as it is."""
    scene = load_scene(capture)
    assert [v.name for v in scene.views] == [f"0_photo_{i:02d}.jpg" for i in range(len(POSES))]
    found, truth = torch.stack([v.camera.world_from_camera for v in scene.views]).numpy(), np.stack(POSES)
    rotation, scale, offset = similarity(truth, found)
    moved = scale * found[:, :3, 3] @ rotation.T + offset
    assert np.linalg.norm(moved - truth[:, :3, 3], axis=1).max() < 0.01 * np.linalg.norm(truth[0] - truth[-1])
    turned = np.einsum("nji,jk,nkl->nil", truth[:, :3, :3], rotation, found[:, :3, :3])
    assert np.degrees(np.arccos(((np.trace(turned, axis1=1, axis2=2) - 1) / 2).clip(-1, 1))).max() < 0.5
    focal, cx, cy, _ = scene.views[0].camera.params.tolist()
    assert focal == pytest.approx(textured.FOCAL * SIZE[0], rel=0.02)
    assert (cx, cy) == (pytest.approx(SIZE[0] / 2 + RIGHT, abs=3), pytest.approx(SIZE[1] / 2, abs=3))
    assert len(scene.points[0]) > 100


@needs_colmap
def test_poses_are_those_the_photos_were_taken_from(processed):
    check_cameras(processed[0])


@needs_colmap
def test_smooth_things_are_looked_at_again(photos, tmp_path):
    """At a twentieth of their contrast COLMAP's own threshold sees nothing in these photos."""
    (tmp_path / "smooth").mkdir()
    for path in photos.iterdir():
        Image.open(path).point(lambda value: round(120 + value / 20)).save(tmp_path / "smooth" / path.name, quality=100)
    stages = []
    process(tmp_path / "smooth", tmp_path / "out", OPTIONS, lambda stage, *_: stages.append(stage))
    assert "finding fainter features" in stages
    assert len(load_scene(tmp_path / "out").views) == len(POSES)


@needs_colmap
def test_the_global_mapper_finds_them_too(photos, tmp_path):
    """It takes the focal length as given: without EXIF that must be found first."""
    stages = []
    options = dataclasses.replace(OPTIONS, mapper="global")
    process(photos, tmp_path / "out", options, lambda stage, *_: stages.append(stage))
    check_cameras(tmp_path / "out")
    assert "finding focal lengths" in stages
    assert {p.name for p in (tmp_path / "out").iterdir()} == KEPT


@needs_colmap
def test_the_report_says_what_was_left_out_and_why(processed):
    out, report, stages = processed
    assert (report.registered, report.photos) == (10, 14) and report.error < 1 and report.points > 100
    assert set(report.missing) == {"50_photo_00.jpg", "50_photo_01.jpg", "dark.jpg", "cut.jpg"}
    assert report.missing["dark.jpg"].startswith("too few features (0)")
    assert report.missing["cut.jpg"].startswith("cannot be read")
    assert "overlap" in report.missing["50_photo_00.jpg"]
    assert report.doubts == [] and read_report(out) == report
    assert [s for s in dict.fromkeys(s for s, *_ in stages)] == [
        "reading photos", "finding features", "matching all pairs", "finding cameras", "refining cameras"
    ]  # fmt: skip
    assert all(0 <= done <= total for _, done, total in stages)


@needs_colmap
def test_the_capture_holds_links_and_nothing_that_only_the_search_needed(processed, mixed):
    out = processed[0]
    assert {p.name for p in out.iterdir()} == KEPT
    assert os.path.samefile(out / "images" / "0_photo_00.jpg", mixed / "0 photo 00.jpg")
    assert not out.with_name("capture.partial").exists()
    assert len(list(mixed.iterdir())) == 14  # nothing was moved


@needs_colmap
def test_an_existing_folder_is_left_alone(processed, photos):
    before = sorted(p.name for p in processed[0].iterdir())
    with pytest.raises(UserError, match=r"capture exists already; choose another folder"):
        process(photos, processed[0], OPTIONS)
    assert sorted(p.name for p in processed[0].iterdir()) == before


@needs_colmap
def test_an_interrupted_search_goes_on_and_ends_the_same(processed, mixed, tmp_path):
    """Ctrl-C while cameras are found: no capture appears; the next attempt takes features and matches as they are."""

    def interrupt(stage, done, total):
        if stage == "finding cameras":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process(mixed, tmp_path / "again", OPTIONS, interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["again.partial"]
    stages = {}
    process(mixed, tmp_path / "again", OPTIONS, lambda name, done, total: stages.setdefault(name, (done, total)))
    assert stages["finding features"] == (13, 13) and stages["matching all pairs"] == (78, 78)
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        model = "sparse/0/" + name
        assert (tmp_path / "again" / model).read_bytes() == (processed[0] / model).read_bytes()


@needs_colmap
def test_another_lens_costs_no_features_again(processed, mixed, tmp_path):
    """The capture beside it keeps them; the sizes and times of the photos say that they are the same."""
    beside = processed[0].with_name("again")
    stages = []
    options = SfmOptions(camera_model="SIMPLE_PINHOLE", seed=3)
    report = process(mixed, beside, options, lambda name, done, total: stages.append((name, done)))
    first = dict(reversed(stages))
    assert "reading photos" not in first and first["finding features"] == 13 and first["matching all pairs"] == 78
    assert (report.registered, report.lens) == (10, "SIMPLE_PINHOLE")
    assert report.missing.keys() == processed[1].missing.keys()
    assert os.path.samefile(beside / "images" / "0_photo_00.jpg", mixed / "0 photo 00.jpg")
    assert processed[1] == read_report(processed[0])  # untouched
    shutil.rmtree(beside)


@needs_colmap
def test_by_default_the_lens_is_the_simplest_that_does(photos, tmp_path):
    report = process(photos, tmp_path / "out", SfmOptions(seed=3))
    assert report.lens == "SIMPLE_RADIAL" and report.tried == ["SIMPLE_RADIAL, incremental mapper: 10 of 10 photos"]
    check_cameras(tmp_path / "out")


@needs_colmap
def test_a_damaged_database_is_named(photos, tmp_path):
    def interrupt(stage, done, total):
        if stage == "finding features":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process(photos, tmp_path / "out", OPTIONS, interrupt)
    for left in (tmp_path / "out.partial").glob("database.db*"):
        left.write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=r"COLMAP stopped .*sfm\.log\. Delete .*out\.partial to begin"):
        process(photos, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


@needs_colmap
def test_photos_without_overlap(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos", ignore=lambda _, names: sorted(names)[1:])
    textured.write_photos(tmp_path / "photos", POSES[:1], SIZE, seed=50)
    with pytest.raises(UserError) as error:
        process(tmp_path / "photos", tmp_path / "out", OPTIONS)
    said = str(error.value)
    assert "no cameras were found for these 2 photos. The photos do not show the same thing" in said
    assert "0_photo_00.jpg: no other photo matches it" in said and "50_photo_00.jpg" in said
    assert not (tmp_path / "out").exists()


def test_bad_input(photos, tmp_path, monkeypatch):
    def fails(path, message, options=OPTIONS):
        with pytest.raises(UserError, match=message):
            process(path, tmp_path / "out", options)

    empty, one, broken = (tmp_path / name for name in ("empty", "one", "broken"))
    for folder in (empty, one, broken):
        folder.mkdir()
    fails(empty, r"empty holds no photos \(\.png, \.jpg")
    fails(tmp_path / "nowhere", r"nowhere does not exist; give a folder of photos or a video")
    shutil.copy(photos / "0 photo 00.jpg", one)
    fails(one, r"one holds one photo only; .* take 20 or more")
    fails(one / "0 photo 00.jpg", r"neither a folder of photos nor a video")
    fails(tmp_path, r"holds one photo only")
    for i in range(3):
        (broken / f"{i}.jpg").write_bytes(b"no photo")
    fails(broken, r"broken: 0 readable photo\(s\).*\n  0\.jpg: cannot be read")
    (tmp_path / "film.mp4").write_bytes(b"no film" * 100)
    fails(tmp_path / "film.mp4", r"film\.mp4 holds no frames that can be decoded")
    fails(photos, r"unknown camera model 'OPENCVV'; did you mean 'OPENCV'", SfmOptions(camera_model="OPENCVV"))
    fails(photos, r"--frames must be at least 2", SfmOptions(frames=1))
    monkeypatch.setattr(sfm.importlib.util, "find_spec", lambda name: None)
    fails(photos, r"pycolmap, which finds the cameras, is not installed: pip install pycolmap")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_photos_are_staged_upright_and_grouped_by_camera(photos, tmp_path):
    """A photo that EXIF turns, one of another camera, one with a blank in its name, one that COLMAP cannot read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    upright = Image.open(photos / "0 photo 00.jpg")
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "Phone"
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif, quality=95)
    upright.save(folder / "a b.jpg")
    upright.resize((160, 120)).save(folder / "small.jpg")
    upright.save(folder / "c.webp", lossless=True)
    cameras, unreadable, _ = stage(find_footage(folder), tmp_path / "staged", 0, lambda *_: None)
    assert not unreadable
    assert sorted((c.size, c.names) for c in cameras) == [
        ((160, 120), ["small.jpg"]), (SIZE, ["a_b.jpg", "c.png"]), (SIZE, ["turned.jpg"]),
    ]  # fmt: skip
    for name in ("turned.jpg", "c.png"):
        pixels = np.asarray(Image.open(tmp_path / "staged" / name).convert("RGB"), np.float32)
        assert np.abs(pixels - np.asarray(upright)).mean() < 4
    staged = Image.open(tmp_path / "staged" / "turned.jpg").getexif()
    assert staged.get(0x0112, 1) == 1 and staged[0x0110] == "Phone"


def test_intrinsics_beside_the_photos(photos, tmp_path):
    folder = tmp_path / "castle"
    shutil.copytree(photos, folder / "images")
    assert find_footage(folder).intrinsics is None
    (folder / "K.txt").write_text("352 0 160\n0 350 120\n0 0 1\n")
    for path in (folder, folder / "images"):
        assert find_footage(path).intrinsics == (352, 350, 160, 120)
    footage, group = find_footage(folder), CameraGroup(SIZE, [])
    assert camera_params(group, footage, "OPENCV") == "352.0,350.0,160.0,120.0,0.0,0.0,0.0,0.0"
    assert camera_params(group, footage, "SIMPLE_RADIAL") == "351.0,160.0,120.0,0.0"
    assert camera_params(group, Footage(folder), "OPENCV") == ""
    with pytest.raises(UserError, match=r"principal point at \(160, 120\) of 640×480 photos; scale it"):
        camera_params(CameraGroup((640, 480), []), footage, "OPENCV")
    shrunk, notes = CameraGroup((107, 80), []), []  # a third, less what the division leaves
    fitted = of_these_sizes(footage, Staged([shrunk], {}, notes))
    assert fitted.intrinsics == pytest.approx((352 / 3, 350 / 3, 160 / 3, 40)) and "photos 3 times larger" in notes[0]
    assert camera_params(shrunk, fitted, "SIMPLE_RADIAL").startswith("117.0,")
    for other in ((320, 240), (640, 480), (107, 40)):  # its own, larger ones, and such that are no copies
        assert of_these_sizes(footage, Staged([CameraGroup(other, [])], {}, notes)) is footage and len(notes) == 1
    for wrong in ("352 0 160", "0 0 160 0 350 120 0 0 1", "a b c d e f g h i"):
        (folder / "K.txt").write_text(wrong)
        with pytest.raises(UserError, match=r"K\.txt is no matrix of intrinsics"):
            require_footage(folder)


def test_the_focal_length_of_exif_is_where_a_camera_starts():
    group = CameraGroup(SIZE, [], focal=350.0)
    assert camera_params(group, Footage(Path()), "SIMPLE_RADIAL") == "350.0,160.0,120.0,0.0"


def test_which_pairs_are_matched():
    names = [f"{i:04d}" for i in range(300)]
    assert choose_pairs(names, "auto", False) == {"pairs": [], "similar": True, "which": "similar photos"}
    film = choose_pairs(names, "auto", True)
    assert film["similar"] and film["pairs"] == list_pairs(names, "sequential")
    assert not choose_pairs([*names, "x"], "auto", False)["similar"]  # of very many photos neighbours alone
    assert len(choose_pairs(names, "exhaustive", False)["pairs"]) == 300 * 299 // 2


def test_pairs():
    few = [f"{i}" for i in range(5)]
    assert len(list_pairs(few, "exhaustive")) == 10 == len(set(map(frozenset, list_pairs(few, "exhaustive"))))
    many = [f"{i:04d}" for i in range(600)]
    pairs = list_pairs(many, "sequential")
    assert len(pairs) == len(set(map(frozenset, pairs))) < 600 * 20
    linked = set(pairs)
    assert {("0000", "0001"), ("0000", "0010"), ("0000", "0016"), ("0007", "0519"), ("0000", "0580")} <= linked
    assert ("0000", "0011") not in linked and all(a < b for a, b in pairs)


def test_reasons():
    evidence = Evidence(
        {"a": 900, "b": 800, "c": 50, "d": 700, "e": 700, "f": 700, "g": 600, "h": 600},
        {frozenset("ab"): 300, frozenset("ad"): 16, frozenset("ef"): 100, frozenset("gh"): 30},
        flat=0.0,
    )
    why = why_missing(evidence, [["a", "b"], ["g", "h"]])
    assert set(why) == set("cdefgh")
    assert why["c"] == "too few features (50): blurred, dark, or without texture"
    assert why["d"] == "its 16 verified matches with 1 registered photos are too few for a pose"
    assert why["e"] == "matches only f, which are not registered either: not enough overlap with the model"
    assert why["g"] == "belongs to a group of 2 photos that does not overlap enough with the rest"
    assert why_missing(evidence, [])["a"] == "its 316 verified matches with 2 photos gave no pose"
    assert doubts(20.0, 2, 4) == []
    assert "fewer than half" in doubts(20.0, 2, 5)[0]
    assert "hardly moved" in doubts(2.0, 5, 5)[0]
    assert doubts(20.0, 5, 5, 0.0011) == [] and "the lens is another" in doubts(20.0, 5, 5, 0.002)[0]
    assert "small steps around" in remedy(evidence)
    assert "turned on the spot" in remedy(Evidence(evidence.features, evidence.matches, flat=0.9))
    assert "same thing" in remedy(Evidence(evidence.features, {}, 0.0))
    assert "texture" in remedy(Evidence({"a": 3, "b": 0}, {}, 0.0))
