"""Image files: one, or a numbered series."""

from __future__ import annotations

import re
from pathlib import Path

import cv2

from ..errors import SinkError
from ..types import Frame
from .base import Sink

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
DEFAULT_PATTERN = "%06d.png"
PNG_LEVEL = 1  # a third of the time of the default for a few percent more bytes
_NUMBER = re.compile(r"%0?\d*d")


class ImagesSink(Sink):
    """``shots/`` (numbered PNG files), ``shots/%04d.jpg`` or a single ``shot.png``.

    The number is the frame's index. Every file appears complete or not at all.
    """

    def __init__(self, text: str, *, quality: int = 95) -> None:
        super().__init__()
        self.name = text
        path = Path(text)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            path = path / DEFAULT_PATTERN
        self._path = path
        self._numbered = bool(_NUMBER.search(path.name))
        suffix = path.suffix.lower()
        self._parameters = {
            ".png": [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL],
            ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
            ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
            ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
        }.get(suffix, [])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{text}: cannot make the folder {path.parent}: {error.strerror}") from error

    def _write(self, frame: Frame) -> None:
        if not self._numbered and self.frames:
            numbered = self._path.with_stem(self._path.stem + "_%04d")
            raise SinkError(f"{self.name}: expected a single frame, got another; give a folder or {numbered}")
        path = self._path
        if self._numbered:
            path = path.with_name(_NUMBER.sub(lambda number: number[0] % frame.index, path.name, count=1))
        ok, data = cv2.imencode(path.suffix, frame.image, self._parameters)
        if not ok:
            raise SinkError(f"{path}: OpenCV cannot encode this image; try .png")
        part = path.with_name(path.name + ".part")
        try:
            part.write_bytes(data.data)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise SinkError(f"{path}: cannot write: {error.strerror}; check space and permissions") from error
