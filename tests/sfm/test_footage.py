"""Folders of photos as people have them: subfolders, masks, copies, blur, raw beside JPEG; and what `info` says."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from neural3d.errors import UserError
from neural3d.render.images import save_film
from neural3d.scene.capture import find_mask
from neural3d.sfm.footage import find_footage, stage
from neural3d.sfm.footage_doctor import describe_footage
from neural3d.sfm.survey import blurred, copies, survey

SIZE = (120, 90)


def photo(path, seed=0, size=SIZE, **options):
    """Fine noise in a coarse pattern, as no two photos have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = Image.blend(Image.fromarray(fine), Image.fromarray(fine[:4, :5]).resize(size), 0.6)
    picture.save(path, **({"quality": 95} | options))
    return path


def mask(path, size=SIZE, left=1 / 3, **options):
    """White from the left up to a share of the width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[:, : round(left * size[0])] = 255
    Image.fromarray(pixels).save(path, **options)
    return path


def staged(folder, out):
    return stage(find_footage(folder), out / "images", 0, lambda *_: None)


def test_subfolders_are_cameras_of_their_own(tmp_path):
    """Names stay paths; equal names in two folders, and names that become equal, collide nowhere."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(("left/1.jpg", "left/2.jpg", "right/1.jpg", "right/a b.png", "right/a_b.png", "0.jpg")):
        photo(folder / name, seed)
    for name in ("masks/0.jpg", ".trash/1.jpg", "left/.2.jpg"):
        photo(folder / name, 9)
    photo(folder / "capture" / "images" / "x.jpg")
    (folder / "capture" / "transforms.json").write_text("{}")
    cameras, unreadable, notes = staged(folder, tmp_path / "out")
    assert [c.names for c in cameras] == [
        ["0.jpg"], ["left/1.jpg", "left/2.jpg"], ["right/1.jpg", "right/a_b.png", "right/_a_b.png"]
    ]  # fmt: skip
    assert not unreadable and not notes
    for name, source in (("right/1.jpg", "right/1.jpg"), ("right/a_b.png", "right/a b.png")):
        assert (tmp_path / "out/images" / name).read_bytes() == (folder / source).read_bytes()
    assert dict(describe_footage(find_footage(folder))[0])["folders"].startswith("3:")


def test_names_that_conversion_makes_equal(tmp_path):
    a, b = photo(tmp_path / "in/a.png", 1), photo(tmp_path / "in/a.webp", 2, lossless=True)
    cameras, _, _ = staged(tmp_path / "in", tmp_path / "out")
    assert cameras[0].names == ["a.png", "_a.png"]
    for name, source in (("a.png", a), ("_a.png", b)):
        pair = (np.asarray(Image.open(p).convert("RGB")) for p in (tmp_path / "out/images" / name, source))
        assert np.array_equal(*pair)


@pytest.mark.parametrize(
    "name",
    ["masks/1.png", "masks/1.jpg.png", "mask/1.jpg", "masks/1.mask.png", "1.mask.png", "1_mask.png", "1.jpg.png"],
)
def test_masks_beside_photos(tmp_path, name):
    """Found by each of the usual names, never taken for photos, and where a capture's reader finds them."""
    photo(tmp_path / "in/1.jpg", 1)
    photo(tmp_path / "in/2.jpg", 2)
    mask(tmp_path / "in" / name)
    footage = find_footage(tmp_path / "in")
    assert [p.name for p in footage.photos] == ["1.jpg", "2.jpg"] and len(footage.masks) == 1
    staged(tmp_path / "in", tmp_path / "out")
    found = find_mask(tmp_path / "out/images/1.jpg", tmp_path / "out/images", tmp_path / "out")
    assert found == tmp_path / "out/masks/1.jpg.png"
    pixels = np.asarray(Image.open(found))
    assert pixels.shape == SIZE[::-1] and (pixels[:, :38] >= 240).all() and (pixels[:, 44:] == 0).all()
    assert find_mask(tmp_path / "out/images/2.jpg", tmp_path / "out/images", tmp_path / "out") is None


def test_masks_beside_a_folder_of_images(tmp_path):
    photo(tmp_path / "in/images/left/1.png", 1)
    photo(tmp_path / "in/images/left/1.png.png", 2)  # the masks of PNGs are no photos either
    photo(tmp_path / "in/images/left/2.png", 2)
    mask(tmp_path / "in/masks/left/2.png")
    footage = find_footage(tmp_path / "in")
    assert sorted(p.name for p in footage.photos) == ["1.png", "2.png"]
    assert {p.name: m.relative_to(tmp_path / "in").as_posix() for p, m in footage.masks.items()} == {
        "1.png": "images/left/1.png.png", "2.png": "masks/left/2.png",
    }  # fmt: skip


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("orientation, turn", [(6, 1), (8, 3), (3, 2)])
def test_masks_are_turned_with_their_photo(tmp_path, orientation, turn, stored):
    """Made of the pixels as stored, or (told by its shape) of the picture as it stands."""
    upright = Image.open(photo(tmp_path / "upright.jpg"))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = Image.fromarray(np.rot90(np.asarray(upright), turn))
    (tmp_path / "in").mkdir()
    lying.save(tmp_path / "in/1.jpg", exif=exif, quality=95)
    coverage = Image.open(mask(tmp_path / "upright.png"))
    if stored or turn == 2:  # a picture on its head has the same shape
        coverage = Image.fromarray(np.rot90(np.asarray(coverage), turn))
    coverage.save(tmp_path / "in/1.mask.png")
    staged(tmp_path / "in", tmp_path / "out")
    assert np.array_equal(Image.open(tmp_path / "out/masks/1.jpg.png"), Image.open(tmp_path / "upright.png"))
    pixels = np.asarray(Image.open(tmp_path / "out/images/1.jpg"), np.float32)
    assert abs(pixels - np.asarray(upright)).mean() < 4


def test_masks_of_another_size_or_kind(tmp_path):
    """Twice as large, and with the silhouette in its alpha; one of another shape is an error, a torn one too."""
    photo(tmp_path / "in/1.jpg", 1)
    cut = Image.fromarray(np.zeros((180, 240, 4), np.uint8))
    cut.putalpha(Image.open(mask(tmp_path / "a.png", (240, 180))))
    cut.save(tmp_path / "in/1.mask.png")
    staged(tmp_path / "in", tmp_path / "out")
    assert (np.asarray(Image.open(tmp_path / "out/masks/1.jpg.png"))[:, [0, 39, 40, 119]] == [255, 255, 0, 0]).all()
    mask(tmp_path / "in/1.mask.png", (90, 90))
    with pytest.raises(UserError, match=r"Mask .*1\.mask\.png is 90×90 but its photo 1\.jpg 120×90; make it"):
        staged(tmp_path / "in", tmp_path / "again")
    (tmp_path / "in/1.mask.png").write_bytes(b"no mask")
    with pytest.raises(UserError, match=r"Mask .*1\.mask\.png cannot be read"):
        staged(tmp_path / "in", tmp_path / "third")


def test_copies_and_blur_are_told(tmp_path):
    """A copy with other EXIF is one all the same; blurred photos are named and stay."""
    for i in range(8):
        photo(tmp_path / f"in/{i}.png", i)
    first = Image.open(tmp_path / "in/3.png")
    exif = Image.Exif()
    exif[0x0110] = "edited"
    first.save(tmp_path / "in/3 (copy).png", exif=exif)
    Image.open(tmp_path / "in/5.png").filter(ImageFilter.GaussianBlur(1.5)).save(tmp_path / "in/5.png")
    cameras, _, notes = staged(tmp_path / "in", tmp_path / "out")
    assert sum(len(c.names) for c in cameras) == 8
    assert notes == [
        "3 (copy).png is left out: a copy of 3.png",
        "blurred, compared with the photos before and after: 5.png",
    ]
    rows, advice = describe_footage(find_footage(tmp_path / "in"))
    assert (dict(rows)["copies"], dict(rows)["blurred"]) == ("3 (copy).png of 3.png", "5.png")
    assert any("1 photos are blurred" in sentence for sentence in advice)


def test_no_photo_of_real_sets_is_called_a_copy_and_few_blurred(data_dir):
    """Phone photos as taken; a slight blur put on one of them is found, among 11 as among 50."""
    for name in ("sceaux_castle", "fox"):
        stats, unreadable = survey(sorted((data_dir / name / "images").iterdir())[:24])
        assert not unreadable and not copies(stats) and not blurred(stats)


def test_a_blurred_real_photo_is_found(data_dir, tmp_path):
    photos = sorted((data_dir / "sceaux_castle" / "images").iterdir())
    with Image.open(photos[4]) as sharp:
        sharp.filter(ImageFilter.GaussianBlur(3)).save(tmp_path / photos[4].name, quality=95)
    stats, _ = survey([*photos[:4], tmp_path / photos[4].name, *photos[5:]])
    assert [p.name for p in blurred(stats)] == [photos[4].name]


def test_raw_beside_the_cameras_own_jpeg(tmp_path):
    photo(tmp_path / "in/P1.JPG", 1)
    photo(tmp_path / "in/P2.JPG", 2)
    (tmp_path / "in/P1.NEF").write_bytes(b"raw")
    cameras, unreadable, notes = staged(tmp_path / "in", tmp_path / "out")
    assert cameras[0].names == ["P1.JPG", "P2.JPG"] and not unreadable
    assert notes == ["P1.NEF is left out: P1.JPG beside it is the same photo"]


def test_what_info_says_of_photos(tmp_path):
    """Camera, lens, focal length, sizes, orientation, exposure, GPS, and what follows from them."""
    for i in range(6):
        exif = Image.Exif()
        exif[0x010F], exif[0x0110], exif[0x0112] = "Canon", "Canon EOS 100D", 6 if i == 0 else 1
        exif.get_ifd(0x8769).update({
            0x829A: 1 / (100 if i < 3 else 800), 0x829D: 4.0, 0x8827: 100, 0x920A: 50.0, 0xA405: 80, 0xA434: "EF50mm"
        })  # fmt: skip
        exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 0.0, 2.0 * i), 3: "E", 4: (8.0, 0.0, 0.0), 6: 400.0})
        size = SIZE[::-1] if i == 5 else SIZE
        photo(tmp_path / f"in/{i}.jpg", i, size, exif=exif)
    rows, advice = describe_footage(find_footage(tmp_path / "in"))
    said = dict(rows)
    assert said["photos"] == "6, without poses"
    assert said["photo size"] == "4 of 120×90, 2 of 90×120"
    assert said["orientation"] == "4 landscape, 2 portrait; 1 of them stored otherwise, and turned upright"
    assert (said["camera"], said["lens"]) == ("6 of Canon EOS 100D", "6 of EF50mm")
    assert said["focal length"] == "50 mm = 80 mm on 35 mm film = 277 px"
    assert said["exposure"].startswith("for light of EV 10.6 to 13.6; mean brightness varies by ")
    assert said["GPS"] == "of 6 photos, over 0 × 309 m, 0 m in height: may give scale and up"
    assert advice == [
        "6 photos are few: 20 to 100 are usual, each sharing two thirds with the next.",
        "Exposure varies by 3.0 stops: use AE lock next time; per-image exposure helps.",
    ]


def test_what_info_says_of_photos_without_exif(tmp_path):
    for i in range(2):
        photo(tmp_path / f"in/{i}.jpg", i)
    (tmp_path / "in/torn.jpg").write_bytes(b"no photo")
    rows, advice = describe_footage(find_footage(tmp_path / "in"))
    said = dict(rows)
    assert (said["camera"], said["focal length"], "GPS" in said) == ("not said", "not said", False)
    assert any("torn.jpg cannot be read" in sentence for sentence in advice)
    assert any("EXIF tells no focal length" in sentence for sentence in advice)


def test_what_info_says_of_a_film(tmp_path):
    """Darkened by half of its linear light, as 2^(-1/2.2) of its values, over 30 frames."""
    base = np.asarray(Image.open(photo(tmp_path / "a.png", size=(128, 96)))).astype(float)
    save_film(tmp_path / "film.mp4", (np.uint8(base * 2 ** (-i / 14 / 2.2)) for i in range(30)))
    rows, advice = describe_footage(find_footage(tmp_path / "film.mp4"))
    said = dict(rows)
    assert "128×96 at " in said["video"] and said["orientation"] == "landscape"
    assert "key frames" in said["exposure"] and any("film is short" in sentence for sentence in advice)


def test_panoramas_are_noticed_and_left_out(tmp_path):
    """By what goes on from the right at the left, or by what 360° cameras write into the file; wide photos stay."""
    folder = tmp_path / "photos"
    half = np.asarray(Image.open(photo(tmp_path / "half.png", 7, (150, 150))).resize((300, 300)))
    Image.fromarray(np.concatenate([half, half[:, ::-1]], 1)).save(folder.parent / "around.png")
    for i in range(3):
        photo(folder / f"{i}.jpg", i)
    photo(folder / "wide.jpg", 5, (600, 300))
    (tmp_path / "around.png").rename(folder / "around.png")
    gpano = b'<x:xmpmeta><rdf:Description GPano:ProjectionType="equirectangular"/></x:xmpmeta>'
    photo(folder / "theta.jpg", 6, (600, 300), xmp=gpano)
    cameras, unreadable, _ = staged(folder, tmp_path / "out")
    assert sorted(unreadable) == ["around.png", "theta.jpg"]
    assert all("cut it into perspective views" in why for why in unreadable.values())
    assert sorted(n for c in cameras for n in c.names) == ["0.jpg", "1.jpg", "2.jpg", "wide.jpg"]
    advice = describe_footage(find_footage(folder))[1]
    assert sum("is a panorama" in sentence for sentence in advice) == 2
