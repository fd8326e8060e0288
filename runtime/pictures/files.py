"""Picture files: BGR uint8 [H,W,3] in and out, through Pillow, which is imported when it is needed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SinkError, SourceError
from ..host.files import write_whole
from ..types import Image, check_image

READABLE = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"}
# Other decoders of Pillow are not wanted: some start programs, none reads what people photograph.
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000")
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


def read_image(path: str | Path) -> Image:
    """BGR uint8 [H,W,3], turned upright by its EXIF tag; grey is repeated, transparency dropped.

    Raises SourceError.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(
            f"{path}: expected an image, got: {error.strerror or error}; check the path"
        ) from error
    image = _decoded(data)
    if image is None or min(image.shape[:2]) < 2:
        got = "something that Pillow cannot decode" if data else "an empty file"
        raise SourceError(f"{path}: expected an image, got {got}; convert it to PNG or remove it")
    return image


def write_image(
    path: str | Path,
    image: Image,  # BGR uint8 [H,W,3]
    *,
    quality: int = 95,  # of JPEG and WebP, 1..100
) -> None:
    """Encode by the suffix; the file appears complete or not at all, its folder is made. Raises SinkError."""
    from PIL import Image as pillow

    path = Path(path)
    check_image(image, path.name)
    if path.suffix.lower() not in _WRITERS:
        raise SinkError(
            f"{path}: expected a file that ends in one of {' '.join(sorted(WRITABLE))}, "
            f"got {path.suffix!r}; rename the output"
        )
    name, options = _WRITERS[path.suffix.lower()]
    if name in ("JPEG", "WEBP"):
        options = {"quality": quality}
    height, width = image.shape[:2]
    picture = pillow.frombuffer("RGB", (width, height), np.ascontiguousarray(image), "raw", "BGR", 0, 1)
    data = io.BytesIO()
    try:
        picture.save(data, name, **options)
    except (OSError, ValueError) as error:
        got = f"{width}x{height} pixels do not go into {name}"
        raise SinkError(f"{path}: {got}: {error}; try .png") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data.getvalue())
    except OSError as error:
        raise SinkError(f"{path}: cannot write: {error.strerror}; check space and permissions") from error


def _decoded(data: bytes) -> Image | None:
    from PIL import Image as pillow
    from PIL import ImageOps

    try:
        with pillow.open(io.BytesIO(data), formats=_FORMATS) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # 16 bits of grey: Pillow would clip them
                picture = pillow.fromarray(np.clip(np.asarray(picture) // 256, 0, 255).astype(np.uint8))
            picture.info.pop("transparency", None)
            rows = bytearray(picture.convert("RGB").tobytes("raw", "BGR"))
    except Exception:  # what decoders raise on damaged data has no common base
        return None
    return np.frombuffer(rows, np.uint8).reshape(picture.height, picture.width, 3)
