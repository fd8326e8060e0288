"""Everything a user can cause, as one exception tree.

::

    DoppelganError
    ├── BundleError        a bundle is missing, damaged, of another version, or already there
    ├── CheckpointError    a checkpoint, encoder or generator file cannot be read as what it should be
    ├── ParityError        an exported network disagrees with its source past the tolerance
    ├── SourceError        a camera, file or stream cannot be opened or read
    ├── SinkError          a window, file or device cannot be written
    ├── BackendError       an inference backend is missing or refuses a network
    └── EditError          an unknown direction, a file that is no direction, a strength out of range

A message is one line: what was expected, what came, what to do. The command line prints it and
exits with 2; anything else that escapes is a bug of ours and keeps its traceback.

What does not end the work is a warning, at the line of whoever called: ``warn``.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType

LONGEST = 1000  # letters of a message: a damaged file may hold a name of a megabyte


def one_line(text: str) -> str:
    """``text`` in one line; of one that is too long, the beginning and the remedy at the end."""
    line = " ".join(text.splitlines())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 303]} … {line[-300:]}"


class DoppelganError(Exception):
    """Base of all errors that tell a user what to do."""

    def __str__(self) -> str:
        """One line."""
        return one_line(super().__str__())


class BundleError(DoppelganError):
    """A bundle folder or its manifest is not usable."""


class CheckpointError(DoppelganError):
    """A file that a user brought is not a checkpoint that can be exported."""


class ParityError(DoppelganError):
    """Two computations of the same network differ by more than the stated tolerance."""


class SourceError(DoppelganError):
    """Frames cannot be read."""


class SinkError(DoppelganError):
    """Frames cannot be written."""


class BackendError(DoppelganError):
    """An inference backend cannot run a network on this machine."""


class EditError(DoppelganError):
    """An edit, or the file that a direction comes from, is not valid for this bundle."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called into this package, from however deep inside: its writer knows that one.

    Python has ``skip_file_prefixes`` for this from 3.12 on. Here names of modules tell: where the package is
    installed in place, files of others lie beside its own.
    """
    package = __name__.partition(".")[0]
    frame = sys._getframe()
    while frame.f_back is not None and _module(frame).partition(".")[0] == package:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=_module(frame),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),  # what it has said already
    )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "<unknown>"))
