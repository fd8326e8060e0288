"""Pictures made of pictures: fitting one into a size, writing words on it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .types import Image

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
    anchor: Literal["middle", "left"] = "left",  # the text's middle, or the left end of its base line
) -> None:
    """Write ``text`` in one line; what does not fit is cut off."""
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    height, width = image.shape[:2]
    cover = pillow.new("L", (width, height))
    draw = ImageDraw.Draw(cover)
    where = {"middle": "mm", "left": "ls"}[anchor]
    draw.text(position, text, fill=255, font=ImageFont.load_default(height_px), anchor=where)
    box = cover.getbbox()
    if box is None:
        return
    left, top, right, bottom = box
    share = np.asarray(cover.crop(box), np.float32)[..., None] / 255
    area = image[top:bottom, left:right]
    area[:] = np.rint(area + share * (np.array(color, np.float32) - area)).astype(np.uint8)
