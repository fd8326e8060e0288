"""The contract between whoever makes frames and where they go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from ..types import Frame


class SinkWarning(UserWarning):
    """Frames are written, but not everything could be kept."""


class Sink(ABC):
    """Takes frames in order; also a context manager.

    frames   how many were written
    stopped  the viewer asked for the end (closed the window, pressed a key): write no more
    on_file  called with the path of every file that is complete
    broken_off  set before closing: the run failed midway; a file then keeps a name that says it is a part
    tags     what a video's container says besides what it took over from the source; before the first frame

    Writing raises SinkError when it cannot go on. ``close`` leaves a complete result of what was
    written or nothing, and is safe to call twice, also after an error. One thread writes and closes.
    """

    name: str
    stopped: bool = False
    broken_off: bool = False
    on_file: Callable[[Path], None] | None = None
    tags: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self.frames = 0
        self._closed = False

    def write(self, frame: Frame) -> None:
        """Take one frame; its pixels are not kept past this call unless copied."""
        if self._closed:
            raise ValueError(f"{self.name}: expected an open sink, this one is closed")
        self._write(frame)
        self.frames += 1

    @abstractmethod
    def _write(self, frame: Frame) -> None: ...

    def poll(self) -> None:  # noqa: B027 - most sinks have nothing to attend to
        """Attend to the user between frames; called a few times a second when none comes."""

    def close(self) -> None:
        """Finish what was begun."""
        if not self._closed:
            self._closed = True
            self._finish()

    def _completed(self, path: Path) -> None:
        """To be called for every file once it has its name."""
        if self.on_file is not None:
            self.on_file(path)

    def _finish(self) -> None:  # noqa: B027 - most sinks have nothing to finish
        """Complete the result; called once."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class NullSink(Sink):
    """Counts frames and drops them: for measuring."""

    name = "null:"

    def _write(self, frame: Frame) -> None:
        pass
