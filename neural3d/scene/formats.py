"""Photos as cameras write them, whatever the format: JPEG and its kin, HEIC, camera raw, all opened in one way.

HEIC is read by pillow-heif and camera raw by rawpy (LibRaw), extras both; each is imported only where such a photo is.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

from neural3d.scene.capture import PICTURES
from neural3d.scene.exif import EXIF, GPS, MAKE, MAKER_NOTE, MODEL, ORIENTATION

HEIC = (".heic", ".heif", ".hif")
RAW = (
    ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr",
    ".fff", ".iiq", ".x3f", ".mrw", ".rwl", ".erf", ".kdc", ".dcr",
)  # fmt: skip
DEVELOPED = PICTURES
PHOTOS = DEVELOPED + HEIC + RAW
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

    quick: half the size will do, with info["full_size"] (camera raw: a quarter of the time). HEIC and raw come upright
    (see `orientation_of`).
    Raises OSError, SyntaxError or ValueError where it cannot be read, some of them only once pixels are asked for.
    """
    if path.suffix.lower() in RAW:
        return _develop(path, quick)
    if path.suffix.lower() in HEIC:
        import pillow_heif

        pillow_heif.register_heif_opener()
    return Image.open(path)


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
    """EXIF's orientation of the file; pillow-heif and `_develop` turn the pixels and keep here how."""
    return picture.info.get("original_orientation") or picture.getexif().get(ORIENTATION, 1)


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
    """A copy turned as EXIF asks, RGB or RGBA, in sRGB where a profile of another colour space is attached."""
    upright = ImageOps.exif_transpose(picture)
    exif = upright.getexif()
    mode = "RGBA" if "A" in upright.mode or "transparency" in upright.info else "RGB"
    if in_srgb(picture):
        converted = upright.convert(mode)
    else:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
        plain = upright if upright.mode in ("RGB", "RGBA", "CMYK", "L") else upright.convert(mode)
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(plain, profile, srgb, outputMode="RGB") or plain.convert("RGB")
        if mode == "RGBA":
            converted.putalpha(upright.convert("RGBA").getchannel("A"))
    converted.info = {"exif": _about_the_shot(exif).tobytes()}
    return converted


def in_srgb(picture: Image.Image) -> bool:
    """Whether colours are sRGB as they stand: no profile is attached, that one is, or it cannot be read."""
    if not (data := picture.info.get("icc_profile")):
        return True
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(data)))
    except (ImageCms.PyCMSError, OSError):
        return True
    return "srgb" in name.lower() or picture.mode in ("L", "LA", "1", "P")
