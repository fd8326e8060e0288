"""Where frames come from: ``open_source(text)`` opens whatever the text names.

==============================  ======================================================================
text                            source
==============================  ======================================================================
``0``, ``/dev/video0``          camera
``gst:PIPELINE``                camera through GStreamer, as on a Jetson; frames as BGR to an appsink
``clip.mp4``                    video file: exact times, any rate, turned upright
``portrait.jpg``                one image
``shots/``, ``shots/*.png``     images in natural order; also ``shots/%04d.png``
``rtsp://...``, ``http://...``  stream; a file behind http(s) is read like a file unless ``live=True``
``-``                           raw BGR (or RGB) frames from standard input; needs ``size``
``test:640x480@30``             moving test pattern
==============================  ======================================================================

Each kind has its file here.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import SourceError
from ..pictures.files import READABLE
from .base import Media, Source, SourceWarning
from .camera import Camera, CameraSource, list_cameras
from .images import ImageSource, find_images
from .pattern import PatternSource
from .raw import RawSource
from .video import VideoSource

__all__ = ["Camera", "Media", "Source", "SourceWarning", "list_cameras", "open_source"]

LIVE_SCHEMES = {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp", "sdp"}
OPTIONS = {
    "camera": {"size", "rate"},
    "images": {"rate"},
    "raw input": {"size", "rate", "pixel_format"},
    "stream": {"live"},
    "test pattern": {"live"},
    "video file": set[str](),
}


def open_source(
    text: str | int | Path,
    *,
    size: tuple[int, int] | None = None,  # (width, height): cameras (a wish), raw input (needed)
    rate: Fraction | float | None = None,  # frames/s: cameras (a wish), images, raw input
    pixel_format: str | None = None,  # raw input: "bgr24" or "rgb24"
    live: bool | None = None,  # streams and test pattern: pace and drop like a camera
    files_first: bool = False,  # a file called "0" or "test:" is that file, not a camera or the pattern
) -> Source:
    """Open what ``text`` names; SourceError says what was expected, what was found and what to do."""
    text = str(text)
    options = {"size": size, "rate": rate, "pixel_format": pixel_format, "live": live}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if rate is not None and not 0 < rate <= 1000:
        raise SourceError(f"{text}: expected a rate above 0 and up to 1000 frames/s, got {float(rate):g}")
    try:
        kind = _kind(text, files_first)
    except OSError as error:  # a name longer than names can be
        raise SourceError(f"{_short(text)}: cannot be opened: {error.strerror}; check the path") from None
    refused = set(given) - OPTIONS[kind]
    if refused:
        raise SourceError(f"{text}: a {kind} does not take {', '.join(sorted(refused))}; leave it out")

    if kind == "test pattern":
        return PatternSource(text, **given)
    if kind == "raw input":
        return RawSource(**given)
    if kind == "camera":
        return CameraSource(text, **given)
    if kind == "stream":
        given.setdefault("live", urlsplit(text).scheme.lower() in LIVE_SCHEMES)
        return VideoSource(text, **given)
    if kind == "images":
        is_one = Path(text).is_file()
        return ImageSource(text, [Path(text)] if is_one else find_images(text), **given)
    return VideoSource(text)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _kind(text: str, files_first: bool) -> str:
    path = Path(text)
    if files_first and text != "-" and path.is_file():
        return "images" if path.suffix.lower() in READABLE else "video file"
    if not text.strip():
        raise SourceError("expected a camera, file, folder or URL, got an empty text; try 'test:'")
    if text.startswith("test:"):
        return "test pattern"
    if text == "-":
        return "raw input"
    if re.fullmatch(r"[0-9]{1,9}", text) or text.startswith(("/dev/video", "gst:")):
        return "camera"
    if re.match(r"[A-Za-z][A-Za-z0-9+.]+://", text):
        return "stream"
    if path.is_dir() or (path.is_file() and path.suffix.lower() in READABLE):
        return "images"
    if not path.exists():
        if re.search(r"[*?\[]|%0?\d*d", path.name):
            return "images"
        raise SourceError(
            f"{text}: expected a camera, file, folder or URL, found no such file; check the path"
        )
    return "video file"
