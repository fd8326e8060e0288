"""Sinks that are fed while the page is served: a virtual camera for the video call, a file, a window."""

from __future__ import annotations

import threading
import time
from typing import Any

from ..errors import SinkError
from ..sink import open_sink
from ..types import Frame
from .studio import Result, Studio

REPEAT_S = 0.5  # a still picture is written again, so that a call keeps its picture


class Output:
    """The newest result into one sink, in a thread of its own."""

    def __init__(self, name: str, studio: Studio) -> None:
        self.name = name
        self.failure: str | None = None
        self._sink = open_sink(name, rate=30)
        self._changed = threading.Condition()
        self._newest: Result | None = None
        self._ended = False
        self._size: tuple[int, ...] | None = None
        self._leave = studio.listen(self._take)
        self._thread = threading.Thread(target=self._work, name=f"doppelgan-{name}", daemon=True)
        self._thread.start()

    def status(self) -> dict[str, Any]:
        return {"name": self.name, "frames": self._sink.frames, "failure": self.failure}

    def close(self) -> None:
        self._leave()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(10)

    def _take(self, result: Result) -> None:
        with self._changed:
            self._newest = result
            self._changed.notify_all()

    def _work(self) -> None:
        shown: Result | None = None
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._newest is not None or self._ended, REPEAT_S)
                    if self._ended:
                        return
                    shown, self._newest = self._newest or shown, None
                if shown is not None and self._sink.stopped is False:
                    # A call's camera has one size; a page that changes its camera's must not end it.
                    self._size = self._size or shown.image.shape
                    image = (
                        shown.image if shown.image.shape == self._size else _fitted(shown.image, self._size)
                    )
                    self._sink.write(Frame(image, self._sink.frames, time.monotonic()))
                else:
                    self._sink.poll()
        except SinkError as error:
            self.failure = str(error)
        finally:
            self._sink.close()


def _fitted(image: Any, shape: tuple[int, ...]) -> Any:
    """The whole picture in another size, on black where the proportions differ."""
    import numpy as np
    from PIL import Image as pillow

    height, width = shape[:2]
    scale = min(height / image.shape[0], width / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    out = np.zeros(shape, np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    small = pillow.fromarray(np.ascontiguousarray(image)).resize(size, pillow.Resampling.BILINEAR)
    out[top : top + size[1], left : left + size[0]] = np.asarray(small)
    return out
