"""One image, or many in the order in which people number them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ..errors import SourceError
from ..pictures.files import READABLE, read_image
from ..types import Frame, Image
from .base import Source

DEFAULT_RATE = Fraction(30)


class ImageSource(Source):
    """Frames from image files, ``1 / rate`` seconds apart; decoded when their turn comes."""

    def __init__(self, name: str, files: Sequence[Path], *, rate: Fraction | float = DEFAULT_RATE) -> None:
        super().__init__()
        self.name = name
        self.rate = Fraction(rate).limit_denominator(1001)
        self.frame_count = len(files)
        self.duration_s = float(len(files) / self.rate)
        self._files = files
        self._index = 0
        self._first: Image | None = read_image(files[0])
        self.size = (self._first.shape[1], self._first.shape[0])

    def _read(self) -> Frame | None:
        if self._index == len(self._files):
            return None
        image, self._first = self._first, None
        if image is None:
            image = read_image(self._files[self._index])
        frame = Frame(image, self._index, float(self._index / self.rate))
        self._index += 1
        return frame


def find_images(text: str) -> list[Path]:
    """Image files of a folder, a glob or a printf pattern (``shots/%04d.png``), in natural order."""
    path = Path(text)
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() in READABLE and f.is_file()]
        what = "a folder of images"
    else:
        pieces = re.split(r"%0?\d*d", path.name)
        files = [f for f in path.parent.glob("*".join(pieces)) if f.is_file()]
        if len(pieces) > 1:
            numbered = re.compile(r"\d+".join(re.escape(piece) for piece in pieces))
            files = [f for f in files if numbered.fullmatch(f.name)]
        what = "images that match"
    if not files:
        suffixes = " ".join(sorted(READABLE))
        raise SourceError(f"{text}: expected {what}, found none; readable are {suffixes}")
    return sorted(files, key=natural_key)


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key: shot2 before shot10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in parts]
