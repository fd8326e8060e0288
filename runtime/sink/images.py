"""Image files: one, or a numbered series."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import SinkError
from ..pictures.files import WRITABLE, write_image
from ..source.base import Source
from ..types import Frame
from .base import Sink

DEFAULT_PATTERN = "%06d.png"
NUMBER = re.compile(r"%0?\d*d")


class ImagesSink(Sink):
    """``shots/`` (numbered PNG files), ``shots/%04d.jpg`` or a single ``shot.png``.

    The number is the frame's index. Every file appears complete or not at all.
    """

    def __init__(self, text: str, *, like: Source | None = None, quality: int = 95) -> None:
        super().__init__()
        self.name = text
        path = self._path = images_pattern(text)
        self._numbered = bool(NUMBER.search(path.name))
        self._quality = quality
        self._refuse_sources(like.files if like is not None else ())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{text}: cannot make the folder {path.parent}: {error.strerror}") from error

    def _write(self, frame: Frame) -> None:
        if not self._numbered and self.frames:
            numbered = self._path.with_stem(self._path.stem + "_%04d")
            raise SinkError(f"{self.name}: expected a single frame, got another; give a folder or {numbered}")
        path = self._of(frame.index)
        write_image(path, frame.image, quality=self._quality)
        self._completed(path)

    def _of(self, index: int) -> Path:
        """The file of a frame."""
        if not self._numbered:
            return self._path
        return self._path.with_name(NUMBER.sub(lambda number: number[0] % index, self._path.name, count=1))

    def _refuse_sources(self, files: Sequence[Path]) -> None:
        """Nothing is written over a picture that is read, maybe later."""
        read = {(status.st_dev, status.st_ino) for status in map(_status, files) if status is not None}
        for index in range(len(files)):
            status = _status(self._of(index))
            if status is not None and (status.st_dev, status.st_ino) in read:
                raise SinkError(f"{self._of(index)}: is one of the pictures given; choose another output")


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def images_pattern(text: str) -> Path:
    """The name of one image, or the numbered names of many, that an output's text means."""
    path = Path(text)
    return path if path.suffix.lower() in WRITABLE and not path.is_dir() else path / DEFAULT_PATTERN
