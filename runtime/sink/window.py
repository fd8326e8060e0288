"""A window on the screen, through OpenCV."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from ..errors import SinkError
from ..host.opencv import build_says, load_opencv
from ..types import Frame
from .base import Sink

QUIT_KEYS = {ord("q"), 27}  # q, Esc
NO_KEY = -1


class WindowSink(Sink):
    """Shows every frame. q, Esc or closing the window stop; ``on_key`` gets every other key.

    Write from the main thread: most window systems insist.
    """

    def __init__(
        self,
        title: str = "doppelgan",
        *,
        on_key: Callable[[str], None] | None = None,  # one character per key
    ) -> None:
        super().__init__()
        self.name = f"window {title!r}"
        self._title = title
        self._on_key = on_key
        self._cv2 = load_gui()

    def _write(self, frame: Frame) -> None:
        if not self.frames:
            # Resizable, and unlike a plain imshow a window that can be asked whether it is open.
            self._cv2.namedWindow(self._title, self._cv2.WINDOW_NORMAL | self._cv2.WINDOW_KEEPRATIO)
            height, width = frame.image.shape[:2]
            self._cv2.resizeWindow(self._title, width, height)
        self._cv2.imshow(self._title, frame.image)
        self.poll()

    def poll(self) -> None:
        if self._closed:
            return
        key = self._cv2.waitKey(1)
        if key != NO_KEY and key & 0xFF in QUIT_KEYS:
            self.stopped = True
        elif key != NO_KEY and self._on_key is not None:
            self._on_key(chr(key & 0xFF))
        if self.frames and self._cv2.getWindowProperty(self._title, self._cv2.WND_PROP_VISIBLE) < 1:
            self.stopped = True

    def _finish(self) -> None:
        if self.frames and self._cv2.getWindowProperty(self._title, self._cv2.WND_PROP_VISIBLE) >= 0:
            self._cv2.destroyWindow(self._title)


def load_gui() -> Any:
    """OpenCV. Raises SinkError unless it can show a window here."""
    # Without a display Qt does not fail, it ends the process.
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SinkError("window: expected a screen, found none (DISPLAY is not set); write a file instead")
    cv2 = load_opencv("window", SinkError)
    if build_says(cv2, "GUI").upper() in ("NONE", "NO"):
        raise SinkError(
            "window: expected an OpenCV that can show windows, this one is headless; "
            "run: pip uninstall -y opencv-python-headless && pip install opencv-python"
        )
    return cv2
