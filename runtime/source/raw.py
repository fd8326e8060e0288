"""Raw pixels from a pipe: ``ffmpeg ... -f rawvideo -pix_fmt bgr24 - | doppelgan video - ...``."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from ..errors import SourceError, warn
from ..types import MAX_PIXELS, Frame, Image
from .base import Source, SourceWarning

PIXEL_FORMATS = ("bgr24", "rgb24")
DEFAULT_RATE = Fraction(30)


class RawSource(Source):
    """Frames of ``size`` (width, height), one after the other without any header."""

    name = "standard input"

    def __init__(
        self,
        *,
        size: tuple[int, int] | None = None,
        rate: Fraction | float = DEFAULT_RATE,
        pixel_format: str = "bgr24",
        stream: BinaryIO | None = None,  # standard input if None
    ) -> None:
        super().__init__()
        if size is None or min(size) < 2:
            got = "none" if size is None else f"{size[0]}x{size[1]}"
            raise SourceError(f"{self.name}: raw frames need their size, got {got}; give it as WIDTHxHEIGHT")
        if size[0] * size[1] > MAX_PIXELS:
            raise SourceError(
                f"{self.name}: expected frames of at most {MAX_PIXELS // 1_000_000} megapixels, "
                f"got {size[0]}x{size[1]}; give the size of one frame"
            )
        if pixel_format not in PIXEL_FORMATS:
            formats = " or ".join(PIXEL_FORMATS)
            raise SourceError(
                f"{self.name}: expected pixel format {formats}, got {pixel_format!r}; convert it"
            )
        self.size = size
        self.rate = Fraction(rate).limit_denominator(1001)
        self._swap = pixel_format == "rgb24"
        if stream is None and sys.stdin is None:
            raise SourceError(f"{self.name}: expected frames, got a closed stream; give it a pipe or file")
        self._stream: Any = stream or sys.stdin.buffer
        self._index = 0

    def _read(self) -> Frame | None:
        width, height = self.size
        image: Image = np.empty((height, width, 3), np.uint8)
        missing = image.data.cast("B")
        while missing:
            got = self._stream.readinto(missing)
            if not got:
                break
            missing = missing[got:]
        if missing:
            got = image.nbytes - len(missing)
            if got:
                warn(
                    f"{self.name}: ended inside frame {self._index}: {got} of {image.nbytes} bytes; "
                    f"is the size {width}x{height} right?",
                    SourceWarning,
                )
            return None
        if self._swap:
            red = image[..., 0].copy()
            image[..., 0], image[..., 2] = image[..., 2], red
        frame = Frame(image, self._index, float(self._index / self.rate))
        self._index += 1
        return frame
