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
"""

from __future__ import annotations

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
