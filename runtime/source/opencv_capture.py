"""Cameras and GStreamer pipelines through OpenCV."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from ..errors import SourceError
from ..host.opencv import build_says, has_opencv, load_opencv
from ..types import Image

APPSINK = "appsink drop=true max-buffers=1 sync=false"


class OpenCvCapture:
    """A device that gives pictures, or a pipeline that ends in an appsink (appended if missing)."""

    def __init__(
        self,
        device: str,  # "0", "/dev/video0" or "gst:PIPELINE"
        size: tuple[int, int],  # (width, height), a wish
        rate: Fraction | float,  # frames/s, a wish
        open_capture: Callable[..., Any] | None = None,  # cv2.VideoCapture, or a stand-in for tests
    ) -> None:
        if device.startswith("gst:") and open_capture is None:
            check_gstreamer(device)
        self._cv2 = load_opencv(f"camera {device}", SourceError)
        self._open_capture = open_capture or self._cv2.VideoCapture
        with _quiet(self._cv2):
            if device.startswith("gst:"):
                self._capture = self._open_pipeline(device[len("gst:") :].strip())
            else:
                self._capture = self._open_device(device, size, rate)

    @property
    def rate(self) -> float:
        """Frames/s as the driver states it, which may be nonsense."""
        return float(self._capture.get(self._cv2.CAP_PROP_FPS))

    def read(self) -> Image | None:
        """BGR uint8 [H,W,3], or None if this time none came."""
        ok, picture = self._capture.read() if self._capture.isOpened() else (False, None)
        return picture if ok else None

    def release(self) -> None:
        self._capture.release()

    def _open_device(self, device: str, size: tuple[int, int], rate: Fraction | float) -> Any:
        cv2 = self._cv2
        index = int(device) if device.isdigit() else device
        capture = self._open_capture(index, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if capture.isOpened():
            # Webcams send 720p at full rate only as JPEG pictures.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
            capture.set(cv2.CAP_PROP_FPS, float(rate))
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture

    def _open_pipeline(self, pipeline: str) -> Any:
        if "appsink" not in pipeline:
            pipeline = f"{pipeline} ! videoconvert ! video/x-raw,format=BGR ! {APPSINK}"
        return self._open_capture(pipeline, self._cv2.CAP_GSTREAMER)


def check_gstreamer(device: str) -> None:
    """Raise SourceError unless there is an OpenCV that opens pipelines; the one of the extra does not."""
    got = "found none"
    if has_opencv():
        if build_says(load_opencv(f"camera {device}", SourceError), "GStreamer").startswith("YES"):
            return
        got = "this one is not"
    raise SourceError(
        f"camera {device}: expected an OpenCV built with GStreamer, {got}; use the system's "
        "(JetPack: apt install python3-opencv, and a virtual environment with --system-site-packages)"
    )


@contextlib.contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
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
