"""Photos as cameras write them, whatever the format: JPEG and its kin, HEIC, camera raw, all opened in one way.

HEIC is read by pillow-heif and camera raw by rawpy (LibRaw), extras both; each is imported only where such a photo is.
TIFF of more than 8 bits a channel is read in `images/deep_tiff.py`; which colours are meant, `images/colour.py` knows.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from neural3d.images.colour import eight_bit, srgb
from neural3d.images.deep_tiff import largest_page, open_deep
from neural3d.images.exif import EXIF, GPS, MAKE, MAKER_NOTE, MODEL, ORIENTATION

Image.MAX_IMAGE_PIXELS = None  # photos may be large; Pillow's alarm is meant for web servers
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")  # in any case
TIFF = (".tif", ".tiff")
HEIC = (".heic", ".heif", ".hif")
RAW = (
    ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr",
    ".fff", ".iiq", ".x3f", ".mrw", ".rwl", ".erf", ".kdc", ".dcr",
)  # fmt: skip
PHOTOS = PICTURES + HEIC + RAW
UNREADABLE = (EOFError, OSError, RuntimeError, SyntaxError, ValueError)  # what decoders raise over damaged files
VAST, DENSEST = 2**26, 10_000  # pixels; of those, in a byte of the file: one bit of an even grey takes 1/8,000 in PNG
EXTRAS = {"heic": (HEIC, "pillow_heif", "HEIC"), "raw": (RAW, "rawpy", "camera raw")}


def is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTOS


def missing_readers(photos: Sequence[Path]) -> list[tuple[list[Path], str]]:
    """The photos that cannot be read for want of an extra, and what to do, for each such extra."""
    missing = []
    for extra, (suffixes, module, kind) in EXTRAS.items():
        of_kind = [p for p in photos if p.suffix.lower() in suffixes]
        if of_kind and importlib.util.find_spec(module) is None:
            are = f"and {len(of_kind) - 1} more are" if len(of_kind) > 1 else "is"
            remedy = f"which takes an extra: pip install 'neural3d[{extra}]'; or convert them to JPEG"
            missing.append((of_kind, f"{of_kind[0]} {are} {kind}, {remedy}."))
    return missing


def open_photo(path: Path, quick: bool = False) -> Image.Image:
    """The photo as a Pillow picture, with its EXIF; pixels as stored, to be turned as EXIF asks.

    quick: half the size will do, with info["full_size"] (camera raw: a quarter of the time). HEIC, raw and TIFF come
    upright (see `orientation_of`). Of several pages the largest is taken, of equal ones the first.
    Raises one of UNREADABLE where it cannot be read, some of them only once pixels are asked for.
    """
    if path.suffix.lower() in RAW:
        return _develop(path, quick)
    if path.suffix.lower() in HEIC:
        import pillow_heif

        pillow_heif.register_heif_opener()
    if path.suffix.lower() not in TIFF:
        picture = Image.open(path)
        _check_size(path, *picture.size)
        if picture.format == "PNG":
            _check_chunks(path)
        return _scaled_key(picture)
    page = largest_page(path)
    if page:
        _check_size(path, page.width, page.height)
    if page and page.deep and (deep := open_deep(path, page)):
        return _with_exif(deep, path)
    picture = Image.open(path)
    _check_size(path, *picture.size)
    if page and page.number:
        picture.seek(page.number)
    if picture.format == "TIFF":  # Pillow turns it when it is loaded
        picture.info["original_orientation"] = picture.getexif().get(ORIENTATION, 1)
    return picture


def _check_size(path: Path, width: int, height: int) -> None:
    """What a few damaged bytes say of a picture's size would be believed, and gigabytes of black be made for it."""
    if width * height > max(VAST, DENSEST * path.stat().st_size):
        raise OSError(f"its header says {width} × {height} pixels, but it has {path.stat().st_size} bytes")


def _check_chunks(path: Path) -> None:
    """Pillow makes room for what a PNG's chunk says it holds, up to 4 GB. What is cut off is found in decoding."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            if file.tell() + length > size + VAST:
                raise OSError(f"a part of it says {length:,} bytes, of which {size - file.tell():,} are there")
            file.seek(length + 4, 1)


def _scaled_key(picture: Image.Image) -> Image.Image:
    """A PNG of 2 or 4 bits of grey with the value that is transparent on Pillow's scale, as its pixels will be."""
    if isinstance(picture, PngImageFile) and picture.tile and "transparency" in picture.info:
        picture.info["transparency"] *= {"L;2": 85, "L;4": 17}.get(str(picture.tile[0][3]), 1)
    return picture


def read_size(path: Path) -> tuple[int, int, bool]:
    """Width, height and whether there is alpha, by the header alone. Raises what `open_photo` raises."""
    if path.suffix.lower() in TIFF and (page := largest_page(path)) and page.deep:
        _check_size(path, page.width, page.height)
        return page.width, page.height, page.alpha
    with open_photo(path) as picture:
        return *picture.size, picture.has_transparency_data


def _develop(path: Path, quick: bool) -> Image.Image:
    """Camera raw as sRGB, with the white balance it was taken with.

    The same light gives the same value in every photo: LibRaw's brightening of each by its own histogram is off.
    """
    import rawpy

    try:
        with rawpy.imread(str(path)) as raw:
            sizes, exif = raw.sizes, _raw_exif(path, raw)  # of the whole picture: halving it halves these
            pixels = raw.postprocess(
                use_camera_wb=True, no_auto_bright=True, adjust_maximum_thr=0.0, gamma=(2.4, 12.92), half_size=quick
            )
    except rawpy.LibRawError as error:
        raise OSError(f"LibRaw: {error}") from error
    picture = Image.fromarray(pixels)
    full = sizes.width, sizes.height
    picture.info["full_size"] = full[::-1] if sizes.flip & 4 else full
    picture.info["original_orientation"] = exif.get(ORIENTATION, 1)
    picture.info["exif"] = _about_the_shot(exif).tobytes()
    return picture


def _raw_exif(path: Path, raw) -> Image.Exif:
    """What a raw file says of camera, exposure and place: most are TIFF, others hold a JPEG preview that says it."""
    import rawpy

    found = Image.Exif()
    with path.open("rb") as file:
        tiff = file.read(4) in (b"II*\0", b"MM\0*")
        if tiff:
            file.seek(0)
            found.load(file.read())
    if not tiff:
        try:
            thumb = raw.extract_thumb()
        except rawpy.LibRawError:
            return Image.Exif()
        if thumb.format == rawpy.ThumbFormat.JPEG:
            with Image.open(io.BytesIO(thumb.data)) as preview:
                found = preview.getexif()
    return found


def orientation_of(picture: Image.Image) -> int:
    """EXIF's orientation of the file; what comes upright (see `open_photo`) keeps here how it was turned."""
    return picture.info.get("original_orientation") or picture.getexif().get(ORIENTATION, 1)


def _with_exif(picture: Image.Image, path: Path) -> Image.Image:
    """The pixels of a TIFF file upright, with what it says of the shot."""
    exif, shot = Image.Exif(), Image.Exif()
    with path.open("rb") as file, contextlib.suppress(SyntaxError):  # BigTIFF
        exif.load_from_fp(file)
        shot = _about_the_shot(exif)
    orientation = shot[ORIENTATION] = exif.get(ORIENTATION, 1)
    picture.info["exif"] = shot.tobytes()
    upright = ImageOps.exif_transpose(picture)
    upright.info["original_orientation"] = orientation
    return upright


def comes_upright(picture: Image.Image) -> bool:
    return "original_orientation" in picture.info


def _about_the_shot(exif: Image.Exif) -> Image.Exif:
    """Camera, exposure and place, without what describes the file it came from: orientation, layout, maker's notes."""
    kept = Image.Exif()
    for tag in (MAKE, MODEL):
        if tag in exif:
            kept[tag] = exif[tag]
    for group in (EXIF, GPS):
        kept.get_ifd(group).update({k: v for k, v in exif.get_ifd(group).items() if k != MAKER_NOTE})
    return kept


def upright_srgb(picture: Image.Image) -> Image.Image:
    """A copy turned as EXIF asks, RGB or RGBA, of 8 bits a channel, in sRGB."""
    exif = picture.getexif()  # before it is copied: of TIFF the copy has none
    developed = srgb(eight_bit(ImageOps.exif_transpose(picture)))
    developed = developed.convert("RGBA" if developed.has_transparency_data else "RGB")
    developed.info = {"exif": _about_the_shot(exif).tobytes()}
    return developed
