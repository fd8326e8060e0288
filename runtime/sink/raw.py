"""Raw pixels into a pipe: ``doppelgan video ... - | ffplay -f rawvideo -pixel_format bgr24 ...``."""

from __future__ import annotations

import sys
from typing import BinaryIO

import numpy as np

from ..errors import SinkError
from ..types import Frame
from .base import Sink


class RawSink(Sink):
    """BGR24 frames, all of one size, one after the other without any header."""

    name = "standard output"

    def __init__(self, *, stream: BinaryIO | None = None) -> None:
        super().__init__()
        if stream is None and sys.stdout is None:
            raise SinkError(f"{self.name}: expected a pipe or file, got a closed stream; append '> FILE'")
        self._stream = stream or sys.stdout.buffer
        self._shape: tuple[int, ...] | None = None
        if self._stream.isatty():
            raise SinkError(
                f"{self.name}: expected a pipe or file, got a terminal; append '| PROGRAM' or '> FILE'"
            )

    def _write(self, frame: Frame) -> None:
        if self._shape is None:
            self._shape = frame.image.shape
        if frame.image.shape != self._shape:
            (height, width), (new_height, new_width) = self._shape[:2], frame.image.shape[:2]
            raise SinkError(
                f"{self.name}: expected {width}x{height} as before, got {new_width}x{new_height}; "
                "raw frames have one size"
            )
        try:
            self._stream.write(np.ascontiguousarray(frame.image).data)
            self._stream.flush()
        except BrokenPipeError as error:
            raise SinkError(f"{self.name}: the reader closed the pipe after {self.frames} frames") from error
        except OSError as error:
            raise SinkError(f"{self.name}: cannot write: {error.strerror}") from error
