"""Cameras through OpenCV: an index, a device file, or a GStreamer pipeline (Jetson)."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2

from ..errors import SourceError
from ..types import Frame
from .base import Source

DEFAULT_SIZE = (1280, 720)
DEFAULT_RATE = Fraction(30)
FAILED_READS = 5  # drivers drop a frame now and then
APPSINK = "appsink drop=true max-buffers=1 sync=false"


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
        self._open_capture = open_capture or cv2.VideoCapture
        self._now_s = now_s
        self._index = 0
        self._open()

    def _open(self) -> None:
        with _quiet_opencv():
            if self._device.startswith("gst:"):
                capture = self._open_gstreamer(self._device[len("gst:") :].strip())
            else:
                capture = self._open_camera()
            picture = None
            if capture.isOpened():
                for _ in range(FAILED_READS):
                    ok, picture = capture.read()
                    if ok:
                        break
        if picture is None:
            capture.release()
            raise SourceError(f"{self.name}: {self._diagnosis()}")
        self._capture = capture
        self.size = (picture.shape[1], picture.shape[0])
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        # Some drivers answer 0, or nonsense.
        self.rate = Fraction(rate if 1 <= rate <= 1000 else self._wanted[1]).limit_denominator(1001)

    def _open_camera(self) -> Any:
        index = int(self._device) if self._device.isdigit() else self._device
        capture = self._open_capture(index, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if capture.isOpened():
            (width, height), rate = self._wanted
            # Webcams send 720p at full rate only as JPEG pictures.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
            capture.set(cv2.CAP_PROP_FPS, float(rate))
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture

    def _open_gstreamer(self, pipeline: str) -> Any:
        if self._open_capture is cv2.VideoCapture and "GStreamer:                   YES" not in (
            cv2.getBuildInformation()
        ):
            raise SourceError(
                f"{self.name}: expected an OpenCV built with GStreamer, this one is not; use the system's "
                "(JetPack: apt install python3-opencv, and a virtual environment with --system-site-packages)"
            )
        if "appsink" not in pipeline:
            pipeline = f"{pipeline} ! videoconvert ! video/x-raw,format=BGR ! {APPSINK}"
        return self._open_capture(pipeline, cv2.CAP_GSTREAMER)

    def _diagnosis(self) -> str:
        """Why the camera gives no picture, and what to do."""
        if self._device.startswith("gst:"):
            return "the GStreamer pipeline gives no frames; try it with gst-launch-1.0"
        found = ", ".join(f"{c.device} ({c.name})" for c in list_cameras())
        found = f"cameras found: {found}" if found else "no camera found"
        if sys.platform != "linux":
            return "expected a camera that gives frames; is it plugged in, allowed by the system, and free?"
        path = Path(f"/dev/video{self._device}" if self._device.isdigit() else self._device)
        if not path.exists():
            return f"expected a camera at {path}, there is none; {found}; try 'test:' for a test pattern"
        if not os.access(path, os.R_OK | os.W_OK):
            return f"{path} may not be opened; add yourself to the group 'video'; {found}"
        return f"{path} is there but gives no frames; is another program using it? {found}"

    def _read(self) -> Frame:
        for _ in range(FAILED_READS):
            ok, picture = self._capture.read()
            if ok and picture is not None:
                frame = Frame(picture, self._index, self._now_s())
                self._index += 1
                return frame
            if self._closing:
                break
        raise SourceError(f"{self.name}: expected a frame, got none {FAILED_READS} times; is it unplugged?")

    def reopen(self) -> None:
        with self._reading:
            if self._closing:
                raise SourceError(f"{self.name}: the source is closed")
            self._capture.release()
            self._open()

    def _release(self) -> None:
        self._capture.release()


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV writes its own guesses about absent cameras to stderr; ours say more."""
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging is None:
        yield
        return
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
