"""Pictures made of pictures: fitting one into a size, writing words on it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np

from ..types import Floats, Image

# Of libswscale: bits of its flags that Python names only in newer versions of PyAV.
_LINEAR, _AREA = 0x2, 0x20
_EXACT = 0x2000 | 0x4000 | 0x40000  # chroma at full width both ways; rounded, not cut


def resized(
    image: Image,  # BGR uint8 [H,W,3]
    size: tuple[int, int],  # (width, height)
) -> Image:
    """BGR uint8 of ``size``: means of areas where it shrinks, else linear between pixel centers.

    The image itself if it has that size.
    """
    from av import VideoFrame

    if image.shape[1::-1] == size:
        return image
    how = _AREA if size[0] * size[1] < image.shape[0] * image.shape[1] else _LINEAR
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
    scaled = frame.reformat(width=size[0], height=size[1], interpolation=how | _EXACT)
    return np.asarray(scaled.to_ndarray(), np.uint8)


def write_text(
    image: Image,  # BGR uint8 [H,W,3], drawn on
    text: str,
    position: tuple[int, int],  # (x, y) in pixels of what ``anchor`` names
    *,
    height_px: float,  # of a line: capitals are about 0.7 of it
    color: tuple[int, int, int],  # B, G, R
    outline_px: int = 0,  # of black around every letter
    anchor: Literal["middle", "left"] = "left",  # the text's middle, or the left end of its base line
) -> None:
    """Write ``text`` in one line; what does not fit is cut off."""
    for ink, stroke_px in (((0, 0, 0), outline_px), (color, 0)) if outline_px else ((color, 0),):
        cover, left, top = _letters(text, height_px, stroke_px, anchor)
        blend(image, cover, (position[0] + left, position[1] + top), ink)


def blend(
    image: Image,  # BGR uint8 [H,W,3], drawn on
    cover: Floats,  # float32 [h,w,1], 0..1: how much of each pixel is painted
    corner: tuple[int, int],  # (x, y) in ``image`` of the cover's upper left pixel
    color: tuple[int, int, int],  # B, G, R
) -> None:
    """Paint ``cover`` in one color; what lies outside is cut off."""
    (x, y), (height, width) = corner, cover.shape[:2]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, image.shape[1]), min(y + height, image.shape[0])
    if left < right and top < bottom:
        area = image[top:bottom, left:right]
        share = cover[top - y : bottom - y, left - x : right - x]
        area[:] = (area + share * (np.array(color, np.float32) - area) + np.float32(0.5)).astype(np.uint8)


@lru_cache(maxsize=64)
def _letters(text: str, height_px: float, stroke_px: int, anchor: str) -> tuple[Floats, int, int]:
    """Cover [h,w,1] of a text, and where its upper left pixel lies from the anchor."""
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(height_px)
    where = {"middle": "mm", "left": "ls"}[anchor]
    box = font.getbbox(text, anchor=where, stroke_width=stroke_px)
    left, top, right, bottom = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    cover = pillow.new("L", (right - left, bottom - top))
    at = (-left, -top)
    ImageDraw.Draw(cover).text(at, text, fill=255, font=font, anchor=where, stroke_width=stroke_px)
    return np.asarray(cover, np.float32)[..., None] / np.float32(255), left, top
