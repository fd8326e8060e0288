"""Where frames go: ``open_sink(text)`` opens whatever the text names.

============================  ===================================================================
text                          sink
============================  ===================================================================
``window``, ``window:Title``  a window; q or Esc close it
``out.mp4`` (.mov .mkv ...)   video file: H.264, exact times, audio and metadata of the source
``shots/``, ``s/%04d.jpg``    numbered images
``shot.png``                  one image
``-``                         raw BGR frames to standard output
``camera:``                   virtual camera (extra ``live``)
``null:``                     nowhere
============================  ===================================================================

Each kind has its file here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import SinkError
from ..host.files import refuse_to_replace
from ..pictures.files import WRITABLE
from ..source.base import Source
from .base import NullSink, Sink, SinkWarning
from .camera import VirtualCameraSink
from .images import NUMBER, ImagesSink, images_pattern
from .raw import RawSink
from .video import FORMATS, VideoSink
from .window import WindowSink

__all__ = ["Sink", "SinkWarning", "check_outputs", "close_sinks", "open_sink", "open_sinks"]


def open_sink(
    text: str | Path,
    *,
    like: Source | None = None,  # what the frames are made from: rate, exact times, audio, metadata
    rate: Fraction | float | None = None,  # frames/s of a video or virtual camera without ``like``
    on_key: Callable[[str], None] | None = None,  # keys pressed in a window, but for q and Esc
    **video: Any,  # preset, crf, threads, audio, even of a video file
) -> Sink:
    """Open what ``text`` names; SinkError says what was expected, what was found and what to do."""
    # A trailing slash says "folder"; Path would drop it.
    text, path = str(text), Path(text)
    suffix = path.suffix.lower()
    if text.startswith("window"):
        match = re.fullmatch(r"window(?::(.*))?", text)
        if match:
            return WindowSink(match[1] or "doppelgan", on_key=on_key)
    if text == "null:":
        return NullSink()
    if text == "-":
        return RawSink()
    if text.startswith("camera:"):
        return VirtualCameraSink(text[len("camera:") :], rate=float(rate or (like.rate if like else 30)))
    if not text.strip():
        raise SinkError("expected a file, folder or 'window', got an empty text; name an output")
    if path.is_dir() or text.endswith("/") or not suffix or suffix in WRITABLE:
        return ImagesSink(text, like=like)
    if suffix in FORMATS:
        return VideoSink(path, like=like, rate=rate, **video)
    known = " ".join([*FORMATS, *sorted(WRITABLE)])
    raise SinkError(f"{text}: expected a file that ends in one of {known}, got {suffix!r}; rename the output")


def check_outputs(texts: Iterable[str | Path], overwrite: bool) -> None:
    """Raise SinkError if an output names files that are there, unless ``overwrite``; or one named twice.

    To be called before the work begins.
    """
    seen: set[Path] = set()
    for text in texts:
        try:
            path, there = files_of(text)
            refuse_to_replace(there, overwrite)
            place = None if path is None else path.resolve()
        except OSError as error:  # a name longer than names can be
            raise SinkError(
                f"{str(text)[:80]}: cannot be written: {error.strerror}; rename the output"
            ) from None
        if place in seen:
            raise SinkError(f"{text}: expected different outputs, got this one twice; name another")
        if place is not None:
            seen.add(place)


def files_of(text: str | Path) -> tuple[Path | None, list[Path]]:
    """The file or folder that ``text`` names, None for a window and the like, and what it would replace."""
    text, path = str(text), Path(text)
    if re.fullmatch(r"window(:.*)?", text) or text in ("null:", "-") or text.startswith("camera:"):
        return None, []
    if path.suffix.lower() in FORMATS and not path.is_dir():
        return path, [path] if path.exists() or path.is_symlink() else []
    pattern = images_pattern(text)
    numbered = [re.escape(piece) for piece in NUMBER.split(pattern.name)]
    if not pattern.parent.is_dir():
        return path, []
    wanted = re.compile("[0-9]+".join(numbered))
    return path, sorted(file for file in pattern.parent.iterdir() if wanted.fullmatch(file.name))


def open_sinks(texts: Iterable[str | Path], **options: Any) -> list[Sink]:
    """Several at once, or none: when one cannot be opened, the others are closed again."""
    with contextlib.ExitStack() as opened:
        sinks = [opened.enter_context(open_sink(text, **options)) for text in texts]
        opened.pop_all()
    return sinks


def close_sinks(sinks: Sequence[Sink]) -> None:
    """Close every sink, also when closing one fails; the first failure is raised at the end."""
    with contextlib.ExitStack() as closing:
        for sink in reversed(sinks):
            closing.callback(sink.close)
