"""Frames of a camera, file or stream of this machine, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import SourceError
from ..schedule.watchdog import Backoff
from ..source import open_source
from ..types import Frame, Image
from .studio import Job, Studio


class ServerSource:
    """Reads a source at its own pace into a studio; files start over at their end.

    A live source that fails is reopened after growing waits; meanwhile the studio's watchdog says why.
    """

    def __init__(self, text: str, studio: Studio) -> None:
        self.name = text
        self._studio = studio
        self._open()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="doppelgan-source", daemon=True)
        self._number = 0

    def _open(self) -> None:
        self._source = open_source(self.name)
        self._frames = self._source.displayed()

    def start(self) -> None:
        self._studio.take_source(self)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._source.close()
        if self._thread.ident is not None:
            self._thread.join(5)
        if self._studio.source is self:
            self._studio.take_source(None)

    def _work(self) -> None:
        waits = Backoff()
        started_s, offset_s = time.monotonic(), 0.0
        while not self._ended.is_set():
            try:
                frame = next(self._frames, None)
                if frame is None:
                    if self._source.live or self._ended.is_set():
                        raise SourceError(f"{self.name}: expected more frames, it ended")
                    self._source.close()
                    self._open()
                    offset_s = time.monotonic() - started_s
                    if self._source.frame_count == 1:  # a still: shown a few times a second
                        self._ended.wait(0.2)
                    continue
            except SourceError as error:
                if not self._reopened(str(error), waits):
                    return
                started_s, offset_s = time.monotonic(), 0.0
                continue
            if not self._source.live:
                self._ended.wait(max(0.0, started_s + offset_s + frame.time_s - time.monotonic()))
            self._offer(frame)

    def _offer(self, frame: Frame) -> None:
        self._number = (self._number + 1) % 2**32
        decode: Callable[[], Image] = lambda: frame.image  # noqa: E731
        self._studio.offer(self, Job(decode, self._number, time.monotonic() * 1e3))

    def _reopened(self, reason: str, waits: Backoff) -> bool:
        for delay_s in waits.delays_s():
            if self._studio.source is self:
                self._studio.watchdog.failure = reason
            if self._ended.wait(delay_s):
                return False
            try:
                self._source.close()
                self._open()
            except SourceError as error:
                reason = str(error)
                continue
            if self._studio.source is self:
                self._studio.watchdog.failure = None
            return True
        return False
