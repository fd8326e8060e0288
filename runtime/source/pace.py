"""A file as a camera would give it: each frame at its moment, from the beginning again if asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..errors import SourceError
from ..types import Frame
from .base import Source

BEHIND_S = 1.0  # a reader that falls behind by more goes on from there instead of catching up
NAP_S = 0.1  # closing does not wait for the next frame


class PacedSource(Source):
    """Frames of a source that is not live, not before their time.

    loop: after the last frame comes the first one again; times go on. What a sink could copy beside the
    pictures (sound) is then left out: it does not begin again.
    """

    def __init__(
        self,
        source: Source,
        *,
        open_again: Callable[[], Source] | None = None,  # for the next round; None: only once
        now_s: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self.name, self.size, self.rate = source.name, source.size, source.rate
        self.files = source.files
        self.frame_count = None if open_again else source.frame_count
        self.duration_s = None if open_again else source.duration_s
        self.media = (
            source.media if open_again is None or source.media is None else replace(source.media, silent=True)
        )
        self._source = source
        self._open_again = open_again
        self._now_s, self._wait = now_s, wait
        self._began_s: float | None = None  # clock at which the time 0 is due
        self._shift_s = 0.0  # of this round
        self._next_s = 0.0  # where the next round begins
        self._index = 0

    def _read(self) -> Frame | None:
        frame = next(self._source, None)
        if frame is None and self._open_again is not None:
            if not self._index:
                return None
            self._source.close()
            self._source = self._open_again()
            self._shift_s = self._next_s
            frame = next(self._source, None)
        if frame is None:
            return None
        moment_s = frame.time_s + self._shift_s
        self._next_s = moment_s + float(1 / self.rate)
        now_s = self._now_s()
        if self._began_s is None or now_s - self._began_s - moment_s > BEHIND_S:
            self._began_s = now_s - moment_s
        while not self._closing and (early_s := self._began_s + moment_s - self._now_s()) > 0:
            self._wait(min(early_s, NAP_S))
        frame = replace(frame, index=self._index, time_s=moment_s)
        self._index += 1
        return frame

    def _release(self) -> None:
        self._source.close()


def paced(source: Source, open_again: Callable[[], Source] | None = None) -> Source:
    """``source`` at its own pace if it is a file; cameras and streams have one. Raises SourceError."""
    endless = source.live or (source.frame_count is None and source.duration_s is None)
    if not endless:
        return PacedSource(source, open_again=open_again)
    if open_again is not None:
        source.close()
        raise SourceError(
            f"{source.name}: expected a file to loop over, got what has no end; leave --loop out"
        )
    return source
