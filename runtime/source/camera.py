"""Cameras: an index, a device file, or a GStreamer pipeline (Jetson).

They are opened by OpenCV where it is installed; on Linux also by FFmpeg, pipelines excepted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from av.error import FFmpegError

from ..errors import SourceError
from ..host.opencv import has_opencv
from ..types import Frame, Image
from .base import Source
from .opencv_capture import OpenCvCapture
from .v4l2_capture import V4l2Capture

DEFAULT_SIZE = (1280, 720)
DEFAULT_RATE = Fraction(30)
FAILED_READS = 5  # drivers drop a frame now and then


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that the system knows: ``device`` opens it."""

    device: str
    name: str


def list_cameras(sys_folder: Path = Path("/sys/class/video4linux")) -> list[Camera]:
    """The cameras that Linux lists; empty elsewhere, where only trying tells."""
    cameras = []
    for folder in sorted(sys_folder.glob("video*"), key=lambda f: (len(f.name), f.name)):
        # A webcam also registers nodes that carry metadata, no pictures: index > 0.
        index, name = (_text(folder / file) for file in ("index", "name"))
        if index in ("", "0"):
            cameras.append(Camera(f"/dev/{folder.name}", name or "unnamed"))
    return cameras


class Capture(Protocol):
    """An open device."""

    @property
    def rate(self) -> float:
        """Frames/s as the driver states it; 0 or nonsense where it does not know."""

    def read(self) -> Image | None:
        """The next picture, BGR uint8 [H,W,3], or None if this time none came."""

    def release(self) -> None:
        """Give the device back."""


class CameraSource(Source):
    """Frames as they come, the newest first in line.

    device: "0", "/dev/video0" or "gst:PIPELINE", where frames reach OpenCV through an appsink
    (appended if missing). size, rate: what to ask the driver for; it may give something else.
    """

    live = True

    def __init__(
        self,
        device: str,
        *,
        size: tuple[int, int] = DEFAULT_SIZE,
        rate: Fraction | float = DEFAULT_RATE,
        open_capture: Callable[..., Any] | None = None,  # cv2.VideoCapture, or a stand-in for tests
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = f"camera {device}"
        self._device = device
        self._wanted = (size, rate)
        self._open_capture = open_capture
        self._now_s = now_s
        self._index = 0
        self._open()

    def _open(self) -> None:
        capture = self._connect()
        picture = self._picture(capture) if capture is not None else None
        if capture is None or picture is None:
            if capture is not None:
                capture.release()
            raise SourceError(f"{self.name}: {self._diagnosis()}")
        self._capture = capture
        self.size = (picture.shape[1], picture.shape[0])
        rate = capture.rate
        # Some drivers answer 0, or nonsense.
        self.rate = Fraction(rate if 1 <= rate <= 1000 else self._wanted[1]).limit_denominator(1001)

    def _connect(self) -> Capture | None:
        if sys.platform == "linux" and not self._device.startswith("gst:") and not has_opencv():
            path = f"/dev/video{self._device}" if self._device.isdigit() else self._device
            try:
                return V4l2Capture(path, *self._wanted)
            except (FFmpegError, OSError):
                return None
        return OpenCvCapture(self._device, *self._wanted, self._open_capture)

    def _picture(self, capture: Capture) -> Image | None:
        for _ in range(FAILED_READS):
            picture = capture.read()
            if picture is not None:
                return picture
            if self._closing:
                break
        return None

    def _diagnosis(self) -> str:
        """Why the camera gives no picture, and what to do."""
        if self._device.startswith("gst:"):
            return "the GStreamer pipeline gives no frames; try it with gst-launch-1.0"
        others = ", ".join(f"{c.device} ({c.name})" for c in list_cameras())
        others = f"cameras found: {others}" if others else "no camera found"
        if sys.platform != "linux":
            return "expected a camera that gives frames; is it plugged in, allowed by the system, and free?"
        path = Path(f"/dev/video{self._device}" if self._device.isdigit() else self._device)
        if not path.exists():
            return f"expected a camera at {path}, there is none; {others}; try 'test:' for a test pattern"
        if not os.access(path, os.R_OK | os.W_OK):
            return f"{path} may not be opened; add yourself to the group 'video'; {others}"
        return f"{path} is there but gives no frames; is another program using it? {others}"

    def _read(self) -> Frame:
        picture = self._picture(self._capture)
        if picture is None:
            raise SourceError(
                f"{self.name}: expected a frame, got none {FAILED_READS} times; is it unplugged?"
            )
        frame = Frame(picture, self._index, self._now_s())
        self._index += 1
        return frame

    def reopen(self) -> None:
        with self._reading:
            if self._closing:
                raise SourceError(f"{self.name}: the source is closed")
            self._capture.release()
            self._open()

    def _release(self) -> None:
        self._capture.release()


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
