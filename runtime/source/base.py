"""The contract between a source of frames and whoever reads it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from ..errors import SourceError
from ..pictures.square_pixels import SquarePixels
from ..types import Frame
from .color import Color

CLOSE_WAIT_S = 1.0


class SourceWarning(UserWarning):
    """Frames were read, but not everything that was announced."""


@dataclass(frozen=True, slots=True)
class Media:
    """What a video file carries besides its pictures; a video sink copies it."""

    path: str  # to be opened a second time for its sound, subtitles ...
    start_s: Fraction  # time in the file at which ``Frame.time_s`` is 0
    time_base: Fraction  # every frame time of the file is a whole multiple, in seconds
    pixel_aspect: Fraction  # width / height of a pixel, as displayed
    color: Color = field(default_factory=Color)  # of the pictures as read: HDR is BT.709 by now
    stream: int = 0  # index of the stream of pictures
    silent: bool = (
        False  # nothing beside the pictures can be copied: they are not those of the file, in order
    )
    metadata: dict[str, str] = field(default_factory=dict)
    stream_metadata: dict[str, str] = field(default_factory=dict)


class Source(ABC):
    """An iterator of frames in the order of their time; also a context manager.

    Attributes, valid once the source is open:

    size         (width, height) in pixels of the frames, upright
    rate         frames/s: exact where a file states it, nominal for cameras, average where it varies
    frame_count  how many frames there will be; None where nobody knows
    duration_s   seconds; None where nobody knows
    live         frames arrive at their own pace and are worthless when late; ``time_s`` is then
                 ``time.monotonic()`` at capture, else the presentation time
    media        what a video sink can copy; None if there is nothing
    finished     the last frame was read (not: closed early, not: failed)
    files        pictures that are read, so that none of them is written over; empty for all else
    skipped      files that could not be read, so that their frames are missing
    last_index   index of the newest frame that was read, -1 before the first

    Reading raises SourceError when frames cannot be read any more: a camera was unplugged, a stream
    broke, a file cannot be decoded. One thread reads; any thread may close.
    """

    name: str
    size: tuple[int, int]
    rate: Fraction
    frame_count: int | None = None
    duration_s: float | None = None
    live: bool = False
    media: Media | None = None
    files: Sequence[Path] = ()

    def __init__(self) -> None:
        self.finished = False
        self.last_index = -1
        self.skipped: list[str] = []
        self._closing = False
        self._closed = False
        self._reading = threading.Lock()

    @abstractmethod
    def _read(self) -> Frame | None:
        """The next frame, or None after the last."""

    def _release(self) -> None:  # noqa: B027 - most sources hold nothing
        """Give back files and devices."""

    def reopen(self) -> None:
        """Connect again after a SourceError; raises SourceError if that is impossible (now or ever)."""
        raise SourceError(f"{self.name}: expected a camera or stream to reconnect to; this source opens once")

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        with self._reading:
            if self._closing or self.finished:
                raise StopIteration
            try:
                frame = self._read()
            finally:
                self._close_if_asked()
            if frame is None:
                self.finished = True
                raise StopIteration
            self.last_index = frame.index
            return frame

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) of what :meth:`displayed` gives."""
        return self._geometry().size(self.size)

    def displayed(self) -> Iterator[Frame]:
        """The frames with square pixels, for whoever looks for faces in them and writes none of them back."""
        geometry = self._geometry()
        for frame in self:
            square = geometry.display(frame.image)
            yield frame if square is frame.image else replace(frame, image=square, deep=None)

    def _geometry(self) -> SquarePixels:
        return SquarePixels(self.media.pixel_aspect if self.media is not None else Fraction(1))

    def close(self) -> None:
        """Stop reading and give everything back. Closing twice does nothing.

        A read that hangs in a driver is left to finish by itself; the device is given back then.
        """
        self._closing = True
        if self._reading.acquire(timeout=CLOSE_WAIT_S):
            try:
                self._close_now()
            finally:
                self._reading.release()

    def _close_if_asked(self) -> None:
        if self._closing:
            self._close_now()

    def _close_now(self) -> None:
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
