"""Picture files in and out, through Pillow, which is imported when it is needed.

What is read is upright and in sRGB; what is written keeps transparency and metadata where its format can.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SinkError, SourceError
from ..host.files import write_whole
from ..types import MAX_PIXELS, Floats, Image, check_image
from . import color_profiles, extended_xmp
from .color_profiles import srgb_profile
from .convert import to_planes
from .picture import Metadata, Picture, is_gray, over_ground

READABLE = {
    ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif",
}  # fmt: skip
# Other decoders of Pillow are not wanted: some start programs, none reads what people photograph.
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "GIF", "AVIF")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Run lengths only at the fastest level: a quarter less time than the default strategy, and smaller files.
_PNG: dict[str, Any] = {"compress_level": 1, "compress_type": 3}
_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", _PNG),
    ".jpg": ("JPEG", {}),
    ".jpeg": ("JPEG", {}),
    ".webp": ("WEBP", {}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
    ".ppm": ("PPM", {}),
}
WRITABLE = set(_WRITERS)
_WITH_ALPHA = ("PNG", "WEBP", "TIFF")
_WITH_METADATA = ("PNG", "WEBP", "TIFF", "JPEG")
_ORIENTATION, _EXIF_IFD, _WIDTH, _HEIGHT, _COLOR_SPACE, _XMP_TAG = 0x0112, 0x8769, 0xA002, 0xA003, 0xA001, 700
_IPTC = 0x0404  # of Photoshop's resources, in which JPEG holds IPTC's records
_DNG, _SUBFILE = 0xC612, 0x00FE  # of TIFF: a raw file's version; 1: the picture is a preview
_DEEP = "it has more than 8 bits a channel: 8 are kept"
_pillow_limit = threading.Lock()


def read_image(path: str | Path) -> Image:
    """BGR uint8 [H,W,3] in sRGB, turned upright; gray is repeated, transparency laid on white.

    Raises SourceError. :func:`read_picture` keeps transparency and metadata.
    """
    return read_picture(path).image


def read_aligned(folder: Path) -> list[Floats]:
    """A folder's aligned pictures as RGB float32 [3,S,S], -1..1, in the order of their names.

    Raises SourceError for a folder without pictures, and for one that is no square.
    """
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not paths:
        raise SourceError(f"{folder}: expected a folder with aligned pictures (PNG, JPEG, WebP), got none")
    crops = []
    for path in paths:
        picture = read_image(path)
        height, width = picture.shape[:2]
        if height != width:
            raise SourceError(f"{path}: expected an aligned, square picture, got {width}x{height}")
        crops.append(to_planes(picture))
    return crops


def read_picture(path: str | Path) -> Picture:
    """The picture with all that :func:`write_picture` can keep. Raises SourceError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(
            f"{path}: expected an image, got: {error.strerror or error}; check the path"
        ) from error
    return decode_picture(data, str(path))


def decode_picture(
    data: bytes,
    path: str = "picture",  # what errors call it
    *,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """As :func:`read_picture`, of a file's bytes; too many pixels are refused before they are decoded."""
    if not data:
        raise SourceError(f"{path}: expected an image, got an empty file; convert it to PNG or remove it")
    formats: tuple[str, ...] = _FORMATS
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        formats = (*_FORMATS, _heif_format(path))
    try:
        return _decoded(data, formats, path, max_pixels)
    except (SourceError, KeyboardInterrupt):
        raise
    except MemoryError:
        raise SourceError(f"{path}: expected an image that fits into memory; make it smaller first") from None
    except Exception as error:  # what decoders raise on damaged data has no common base
        raise SourceError(
            f"{path}: expected an image, got {_kind_of(data)}; convert it to PNG or remove it"
        ) from error


def write_image(
    path: str | Path,
    image: Image,  # BGR uint8 [H,W,3]
    *,
    quality: int = 95,  # of JPEG and WebP, 1..100
) -> None:
    """Encode by the suffix; the file appears complete or not at all, its folder is made. Raises SinkError."""
    write_picture(path, Picture(check_image(image, Path(path).name)), quality=quality)


def write_picture(
    path: str | Path,
    picture: Picture,
    *,
    quality: int = 95,  # of JPEG and WebP, 1..100
) -> None:
    """Encode by the suffix, with transparency and metadata where the format has them (see :func:`lost_in`).

    The file appears complete or not at all, its folder is made. Raises SinkError.
    """
    path = Path(path)
    data = encode_picture(picture, path, quality=quality)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise SinkError(f"{path}: cannot write: {error.strerror}; check space and permissions") from error


def encode_picture(
    picture: Picture,
    path: str | Path,  # its suffix is the format; nothing is written
    *,
    quality: int = 95,  # of JPEG and WebP, 1..100
) -> memoryview:
    """The bytes that :func:`write_picture` writes. Raises SinkError."""
    path = Path(path)
    check_image(picture.image, path.name)
    name, options = _writer(path)
    if name in ("JPEG", "WEBP"):
        options = {"quality": quality}
    if name in _WITH_METADATA:
        options |= _metadata_options(name, picture.metadata)
    data = io.BytesIO()
    try:
        encoded = _to_pillow(picture, name)
        if picture.tagged and name in _WITH_METADATA and encoded.mode.startswith("RGB"):
            options["icc_profile"] = srgb_profile()
        encoded.save(data, name, **options)
    except (OSError, ValueError, MemoryError, OverflowError) as error:
        height, width = picture.image.shape[:2]
        got = f"{width}x{height} pixels do not go into {name}"
        raise SinkError(f"{path}: {got}: {error}; try .png") from error
    return data.getbuffer()


def lost_in(picture: Picture, suffix: str) -> list[str]:
    """What a file with that suffix cannot keep, for people."""
    name, _ = _WRITERS[suffix.lower()]
    losses = []
    if picture.alpha is not None and name not in _WITH_ALPHA:
        losses.append(f"{name} has no transparency, so the picture lies on white; .png and .webp keep it")
    if picture.metadata != Metadata() and name not in _WITH_METADATA:
        losses.append(f"{name} has no metadata, so Exif and the like are left out; .png and .jpg keep them")
    if _too_long(name, picture.metadata.exif):
        losses.append("its Exif is too long for a JPEG and is left out; .png keeps it")
    return losses


def check_writable(path: Path) -> None:
    """Raise SinkError if :func:`write_picture` knows no format of that name."""
    _writer(path)


def _writer(path: Path) -> tuple[str, dict[str, Any]]:
    if path.suffix.lower() not in _WRITERS:
        raise SinkError(
            f"{path}: expected a file that ends in one of {' '.join(sorted(WRITABLE))}, "
            f"got {path.suffix!r}; rename the output"
        )
    name, options = _WRITERS[path.suffix.lower()]
    return name, dict(options)


def _to_pillow(picture: Picture, name: str) -> Any:
    from PIL import Image as pillow

    alpha = picture.alpha if name in _WITH_ALPHA else None
    colors = picture.image if alpha is None or picture.colors is None else picture.colors
    gray = picture.gray and name != "WEBP" and is_gray(colors)
    if gray:
        one = pillow.fromarray(np.ascontiguousarray(colors[..., 0]))
    else:
        size = (colors.shape[1], colors.shape[0])
        one = pillow.frombuffer("RGB", size, np.ascontiguousarray(colors), "raw", "BGR", 0, 1)
    if alpha is not None:
        one.putalpha(pillow.fromarray(alpha))
    return one


def _metadata_options(name: str, metadata: Metadata) -> dict[str, Any]:
    """What Pillow's writer of a format takes."""
    from PIL import Image as pillow
    from PIL import PngImagePlugin

    options: dict[str, Any] = {}
    if metadata.exif and not _too_long(name, metadata.exif):
        options["exif"] = metadata.exif
    if metadata.dpi and name != "WEBP":
        options["dpi"] = metadata.dpi
    xmp, extensions = metadata.xmp, list[bytes]()
    if _too_long(name, xmp):
        xmp, extensions = extended_xmp.split(xmp)
    if xmp and name in ("JPEG", "WEBP"):
        options["xmp"] = xmp
    if name == "JPEG":
        if metadata.comment:
            options["comment"] = metadata.comment
        segments = [_segment(0xE1, extension) for extension in extensions]
        if metadata.iptc:
            segments.append(_photoshop_segment(metadata.iptc))
        if segments:
            options["extra"] = b"".join(segments)
    if name == "PNG":
        notes = PngImagePlugin.PngInfo()
        for key, text in metadata.texts.items():
            notes.add_itxt(key, text)
        if metadata.xmp:
            notes.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = notes
    if name == "TIFF" and metadata.exif:
        options["compression"] = None  # the compressing writer, libtiff, cannot write Exif's directories
    if name == "TIFF" and metadata.xmp:
        tags = pillow.Exif()
        tags.load(metadata.exif)
        tags[_XMP_TAG] = metadata.xmp
        options["exif"] = tags
    return options


def _too_long(name: str, block: bytes) -> bool:
    """JPEG's segments hold 64 KiB."""
    return name == "JPEG" and len(block) > 65000


def _photoshop_segment(iptc: bytes) -> bytes:
    """A JPEG segment APP13 with IPTC's records."""
    block = b"8BIM" + _IPTC.to_bytes(2, "big") + b"\0\0" + len(iptc).to_bytes(4, "big") + iptc
    content = b"Photoshop 3.0\0" + block + b"\0" * (len(iptc) % 2)
    return _segment(0xED, content) if len(content) < 65533 else b""


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def _decoded(data: bytes, formats: tuple[str, ...], path: str, max_pixels: int) -> Picture:
    from PIL import Image as pillow
    from PIL import ImageOps

    with _our_limit(pillow), pillow.open(io.BytesIO(data), formats=formats) as opened:
        width, height = opened.size
        if width * height > max_pixels:
            raise SourceError(
                f"{path}: expected a picture of at most {max_pixels // 1_000_000} megapixels, "
                f"got {width}x{height}; make it smaller first"
            )
        if min(width, height) < 2:
            raise SourceError(f"{path}: expected a picture of 2x2 pixels or more, got {width}x{height}")
        if opened.format == "JPEG" and len(data) * 2048 < width * height:
            raise SourceError(  # a bit for every 8x8 pixels is the least there can be
                f"{path}: expected a complete JPEG of {width}x{height}, got {len(data)} bytes; "
                "copy the file again"
            )
        notes = []
        count = getattr(opened, "n_frames", 1)
        if count > 1:
            notes.append(f"it holds {count} pictures: the first is taken, the others are left out")
        tags: Any = getattr(opened, "tag_v2", {})
        if opened.format == "TIFF" and (_DNG in tags or tags.get(_SUBFILE) == 1):
            raise SourceError(
                f"{path}: expected a picture, got a camera's raw file with a small preview; "
                "develop it to JPEG or PNG first"
            )
        deep = any(";16" in str(part) for tile in opened.tile for part in tile)
        if deep and not opened.mode.startswith("I"):
            notes.append(_DEEP)
        ImageOps.exif_transpose(opened, in_place=True)
        tagged = "icc_profile" in opened.info or "srgb" in opened.info
        colors, alpha, gray = _pixels(opened, notes)
        metadata = _metadata(opened)
    picture = Picture(
        colors, gray=gray or is_gray(colors), metadata=metadata, tagged=tagged, notes=tuple(notes)
    )
    return (
        picture
        if alpha is None
        else replace(picture, image=over_ground(colors, alpha), alpha=alpha, colors=colors)
    )


def _pixels(picture: Any, notes: list[str]) -> tuple[Image, NDArray[np.uint8] | None, bool]:
    """BGR uint8 [H,W,3] in sRGB, straight alpha [H,W], and whether the file has one channel for colors."""
    info = picture.info
    profile, gamma, is_srgb = info.get("icc_profile"), info.get("gamma"), "srgb" in info
    adobe_rgb = picture.getexif().get_ifd(_EXIF_IFD).get(_COLOR_SPACE) == 2
    alpha: NDArray[np.uint8] | None = None
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in info:
        picture = picture.convert("LA" if picture.mode in ("L", "1", "LA", "La") else "RGBA")
        alpha = np.array(picture.getchannel("A"))
        if int(alpha.min()) == 255:
            alpha = None
        picture = picture.convert("L" if picture.mode == "LA" else "RGB")
    gray = picture.mode in ("1", "L", "F") or picture.mode.startswith("I")
    if picture.mode.startswith(("I", "F")):
        picture = _to_eight_bits(picture)
        notes.append(_DEEP)
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    if profile:
        picture, remark = color_profiles.to_srgb(picture, profile)
        if remark:
            notes.append(remark)
    pixels = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    if (
        not profile
        and gamma
        and not is_srgb
        and abs(gamma - color_profiles.SRGB_GAMMA) > 0.01
        and gamma > 0.05
    ):
        pixels = color_profiles.without_gamma(pixels, gamma)
    if not profile and adobe_rgb and pixels.ndim == 3:
        pixels = color_profiles.from_adobe_rgb(pixels)
    if gray and pixels.ndim == 3:  # a gray profile's neutral, up to rounding
        pixels = np.ascontiguousarray(pixels[..., 1])
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2), alpha, gray
    bgr = np.empty_like(pixels)
    for source, target in ((0, 2), (1, 1), (2, 0)):
        bgr[..., target] = pixels[..., source]
    return bgr, alpha, gray


def _to_eight_bits(picture: Any) -> Any:
    """Gray of 16 bits, 32 bits or floats -> mode L; Pillow would cut off what is above 255."""
    from PIL import Image as pillow

    deep = np.asarray(picture)
    if picture.mode == "F":
        top = float(np.nanmax(deep)) if np.isfinite(deep).any() else 1.0
        scaled = np.nan_to_num(deep) * (255 if top <= 1 else 1 if top <= 255 else 255 / top)
        return pillow.fromarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))
    return pillow.fromarray(np.clip(deep // 256, 0, 255).astype(np.uint8))


def _metadata(picture: Any) -> Metadata:
    """Of an opened picture that was turned upright.

    Exif loses its thumbnail and the maker's note, which may hold one, too: they show the picture as it was.
    """
    info = picture.info
    exif = picture.getexif()
    exif.pop(_ORIENTATION, None)
    for tag in (_XMP_TAG, 34675, 33723, 34377):  # XMP, ICC, IPTC and Photoshop's of TIFF: kept on their own
        exif.pop(tag, None)
    inner = exif.get_ifd(_EXIF_IFD)
    if inner:
        if _WIDTH in inner and _HEIGHT in inner:
            inner[_WIDTH], inner[_HEIGHT] = picture.size
        if _COLOR_SPACE in inner:
            inner[_COLOR_SPACE] = 1  # sRGB
    if picture.format == "TIFF":  # its own tags describe how its pixels are stored
        kept = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, _EXIF_IFD, 0x8825}
        for tag in [tag for tag in exif if tag not in kept]:
            del exif[tag]
    raw = exif.tobytes() if len(exif) or inner else b""
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    if picture.format in ("JPEG", "MPO"):
        xmp = extended_xmp.joined(xmp, (body for name, body in picture.applist if name == "APP1"))
    xmp = _without_thumbnails(xmp)
    texts = {
        str(key): str(text)
        for key, text in getattr(picture, "text", {}).items()
        if key not in ("XML:com.adobe.xmp", "Raw profile type exif")
    }
    photoshop = info.get("photoshop")
    dpi = info.get("dpi")
    comment = info.get("comment", b"")
    return Metadata(
        exif=raw,
        xmp=xmp,
        iptc=bytes(photoshop.get(_IPTC, b"")) if isinstance(photoshop, dict) else b"",
        texts=texts,
        comment=comment if isinstance(comment, bytes) else str(comment).encode(),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(0 < float(d) < 1e5 for d in dpi) else None,
    )


def _without_thumbnails(xmp: bytes) -> bytes:
    """In one pass over beginnings and ends: a pattern for both takes quadratic time on what has no end."""
    kept, begun, name = [], 0, b""
    for tag in re.finditer(rb"<(/?)(\w{1,60}:Thumbnails)>", xmp):
        if not name and not tag[1]:
            kept.append(xmp[begun : tag.start()])
            begun, name = tag.start(), tag[2]
        elif tag[1] and tag[2] == name:
            begun, name = tag.end(), b""
    return b"".join([*kept, xmp[begun:]])


@contextlib.contextmanager
def _our_limit(pillow: Any) -> Iterator[None]:
    """Pillow warns from 89 megapixels and refuses from 179; MAX_PIXELS holds instead."""
    with _pillow_limit:
        before, pillow.MAX_IMAGE_PIXELS = pillow.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            pillow.MAX_IMAGE_PIXELS = before


def _heif_format(path: str | Path) -> str:
    """Pillow's name for HEIC once its plugin is there; SourceError says how to get it."""
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        raise SourceError(
            f"{path}: expected an image that Pillow decodes, got HEIC, which needs a plugin; "
            'run `pip install "doppelgan[heic]"`, or convert it to JPEG or PNG'
        ) from None
    register_heif_opener()
    return "HEIF"


def _kind_of(data: bytes) -> str:
    """What undecodable data seems to be."""
    for head, name in (
        (b"\x89PNG", "a damaged PNG"),
        (b"\xff\xd8\xff\xf7", "a JPEG-LS picture"),
        (b"\xff\xd8\xff", "a damaged JPEG"),
        (b"\xff\x0a", "a JPEG XL picture"),
        (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
        (b"SDPX", "a DPX picture"),
        (b"XPDS", "a DPX picture"),
        (b"SIMPLE  =", "a FITS picture"),
        (b"qoif", "a QOI picture"),
        (b"\0\0\1\0", "an icon"),
        (b"GIF8", "a damaged GIF"),
        (b"%!PS", "PostScript"),
        (b"%PDF", "a PDF"),
        (b"8BPS", "a Photoshop document"),
        (b"<svg", "an SVG drawing"),
        (b"#?RADIANCE", "a Radiance HDR picture"),
        (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    ):
        if data.startswith(head):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a damaged WebP"
    if data[4:8] == b"ftyp":
        return "a video" if data[8:12] not in (*_HEIC_BRANDS, b"avif", b"avis") else "a damaged AVIF or HEIC"
    return "something that is not read here"
