"""Anamorphic pictures: stored with pixels that are not square, edited as they are displayed."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..types import Image

BICUBIC = 0x4 | 0x40000  # libswscale's flags: bicubic, rounded
MOST_STRETCH = 8  # what a damaged header asks for beyond is not believed
SLIGHT = Fraction(102, 100)  # less is not worth a resampling: 1.02 is 2 % too wide


class SquarePixels:
    """Stretches pictures to square pixels, and brings edits back without touching what was not edited."""

    def __init__(self, pixel_aspect: Fraction = Fraction(1)) -> None:  # width / height of a pixel
        aspect = Fraction(pixel_aspect)
        believed = aspect > 0 and Fraction(1, MOST_STRETCH) <= aspect <= MOST_STRETCH
        self.aspect = aspect if believed and max(aspect, 1 / aspect) > SLIGHT else Fraction(1)
        self._stretch, self._edited_back, self._plain_back = (VideoReformatter() for _ in range(3))

    def display(self, image: Image) -> Image:
        """BGR [H,W,3] -> the same, wider or higher, with square pixels."""
        if self.aspect == 1:
            return image
        return _resized(image, *self.size((image.shape[1], image.shape[0])), self._stretch)

    def size(self, stored: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of what :meth:`display` makes of a picture of the size ``stored``."""
        width, height = stored
        if self.aspect > 1:
            return round(width * self.aspect), height
        return width, round(height / self.aspect)

    def stored(
        self,
        image: Image,  # as stored
        displayed: Image,  # what `display` made of it
        edited: Image,  # what became of that
        *,
        replaced: bool = False,  # nothing of ``image`` may show
    ) -> Image:
        """The edit in stored pixels: ``image`` moved by what was changed, so the rest stays exact."""
        if self.aspect == 1:
            return edited
        height, width = image.shape[:2]
        after = _resized(edited, width, height, self._edited_back)
        if replaced:
            return after
        before = _resized(displayed, width, height, self._plain_back)
        moved = image + after.astype(np.int16) - before
        result: Image = np.clip(moved, 0, 255).astype(np.uint8)
        return result


def _resized(image: Image, width: int, height: int, reformatter: VideoReformatter) -> Image:
    picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="bgr24")
    result: Any = reformatter.reformat(picture, width=width, height=height, interpolation=BICUBIC)
    pixels: Image = np.ascontiguousarray(result.to_ndarray())
    return pixels
