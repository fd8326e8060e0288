"""Colors of picture files -> sRGB, which the networks know and every viewer assumes.

A file says what its numbers mean by an ICC profile, or (PNG) by a gamma, or (cameras set to Adobe RGB) by
its Exif. Colors that sRGB does not have become the nearest that it has.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

SRGB_GAMMA = 0.45455  # as PNG notes it for sRGB
_ADOBE_RGB_GAMMA = 563 / 256
# Linear Adobe RGB (1998) -> linear sRGB, both D65; from the primaries of the two specifications.
_ADOBE_RGB_TO_SRGB = np.array(
    [[1.39836, -0.39836, 0.0], [0.0, 1.0, 0.0], [0.0, -0.04293, 1.04293]], np.float32
)
_MODES = {"RGB ": ("RGB",), "GRAY": ("L",), "CMYK": ("CMYK",), "Lab ": ("LAB",)}  # by a profile's color space


def to_srgb(picture: Any, profile: bytes) -> tuple[Any, str]:
    """A Pillow image of mode L, RGB, CMYK or LAB through its ICC profile -> RGB, or unchanged if the profile
    is sRGB's; and a remark if the profile could not be used."""
    from PIL import Image as pillow
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space
        if space == "RGB " and picture.mode == "L":
            picture = picture.convert("RGB")
        if picture.mode not in _MODES.get(space, ()):
            return picture, f"its color profile is for {space.strip() or 'other'} pictures and is left out"
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            picture.mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if picture.mode in ("RGB", "L"):
            steps = np.linspace(0, 255, 9).astype(np.uint8)
            grid = steps if picture.mode == "L" else np.stack(np.meshgrid(steps, steps, steps), axis=-1)
            sample = pillow.fromarray(grid.reshape(1, -1) if picture.mode == "L" else grid.reshape(1, -1, 3))
            there = np.asarray(transform.apply(sample)).astype(int)
            if np.abs(there - np.asarray(sample.convert("RGB"))).max() <= 1:  # sRGB by whatever name
                return picture, ""
        return transform.apply(picture), ""
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture, "its color profile is damaged and is left out"


def srgb_profile() -> bytes:
    """sRGB as an ICC profile, to be embedded."""
    from PIL import ImageCms

    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def without_gamma(rgb: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    """Numbers uint8 of a file with another ``gamma`` (PNG's, of the encoder) -> sRGB."""
    linear = (np.arange(256, dtype=np.float64) / 255) ** (1 / gamma)
    return np.asarray(_encoded(linear)[rgb], np.uint8)


def from_adobe_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Adobe RGB (1998) uint8 [H,W,3] -> sRGB uint8 [H,W,3]."""
    linear = ((np.arange(256) / 255) ** _ADOBE_RGB_GAMMA).astype(np.float32)
    table = _encoded(np.arange(4096) / 4095)
    converted = np.empty_like(rgb)
    for first in range(0, len(rgb), 256):  # in bands: floats of a large picture would fill the memory
        light = linear[rgb[first : first + 256]] @ _ADOBE_RGB_TO_SRGB.T
        converted[first : first + 256] = table[(np.clip(light, 0, 1) * 4095 + 0.5).astype(np.uint16)]
    return converted


def _encoded(linear: NDArray[Any]) -> NDArray[np.uint8]:
    """Linear light 0..1 -> sRGB's uint8."""
    curve = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
    return np.asarray(np.clip(curve * 255 + 0.5, 0, 255), np.uint8)
