"""One image, or many in the order in which people number them."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ..errors import SourceError, warn
from ..pictures.files import READABLE, read_image
from ..types import Frame, Image
from .base import Source, SourceWarning

DEFAULT_RATE = Fraction(30)


class ImageSource(Source):
    """Frames from image files, ``1 / rate`` seconds apart; decoded when their turn comes.

    One that cannot be read is left out with a warning; the frame before it lasts longer.
    """

    def __init__(self, name: str, files: Sequence[Path], *, rate: Fraction | float = DEFAULT_RATE) -> None:
        super().__init__()
        self.name = name
        self.rate = Fraction(rate).limit_denominator(1001)
        self.frame_count = len(files)
        self.duration_s = float(len(files) / self.rate)
        self.files = files
        self._index = 0
        self._first: Image | None = self._next_readable()
        if self._first is None:
            read_image(files[0])  # says why
            raise SourceError(f"{name}: expected readable pictures, got none")
        self.size = (self._first.shape[1], self._first.shape[0])

    def _read(self) -> Frame | None:
        image, self._first = self._first, None
        if image is None:
            image = self._next_readable()
        if image is None:
            return None
        frame = Frame(image, self._index, float(self._index / self.rate))
        self._index += 1
        return frame

    def _next_readable(self) -> Image | None:
        """The picture at ``_index`` or, where that cannot be read, the next one that can; None at the end."""
        while self._index < len(self.files):
            path = self.files[self._index]
            try:
                return read_image(path)
            except SourceError as error:
                if len(self.files) == 1:
                    raise
                warn(f"{error}; left out", SourceWarning)
                self.skipped.append(str(path))
                self._index += 1
        return None


def find_images(text: str) -> list[Path]:
    """Image files of a folder, a glob or a printf pattern (``shots/%04d.png``), in natural order."""
    path = Path(text)
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() in READABLE and f.is_file()]
        what = "a folder of images"
    else:
        pieces = re.split(r"%0?\d*d", path.name)
        wanted = path.name if len(pieces) == 1 else "*".join(map(glob.escape, pieces))
        files = [f for f in path.parent.glob(wanted) if f.is_file()]
        if len(pieces) > 1:
            numbered = re.compile(r"\d+".join(re.escape(piece) for piece in pieces))
            files = [f for f in files if numbered.fullmatch(f.name)]
        what = "images that match"
    if not files:
        suffixes = " ".join(sorted(READABLE))
        raise SourceError(f"{text}: expected {what}, found none; readable are {suffixes}")
    return sorted(files, key=natural_key)


def natural_key(path: Path) -> list[int | str]:
    """Sort key: shot2 before shot10."""
    # Every second part is a number; what else Python calls a digit (as in "m²") need not be one.
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if index % 2 else part.lower() for index, part in enumerate(parts)]
