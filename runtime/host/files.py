"""Files that are whole or not there: digests, and writing aside before renaming."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from ..errors import SinkError

# What decoding JSON raises on damage: also on bytes that are no UTF-8, and on thousands of open brackets.
NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LONGEST_NAME: Final = 255  # bytes, of file systems


def is_plain_name(text: str) -> bool:
    """Whether a file of this name would lie in the folder itself, and may be there at all."""
    plain = text not in ("", ".", "..") and not any(letter in text for letter in "/\\\0")
    return plain and len(text.encode("utf-8", "surrogateescape")) <= _LONGEST_NAME


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def aside(path: Path) -> Path:
    """Where a file is built before it takes the name ``path``: beside it, hidden, and short enough where
    ``path`` is as long as names may be."""
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return path.with_name(f".doppelgan-{digest}-{os.getpid()}.part")


@contextmanager
def under_plain_name(path: Path) -> Iterator[Path]:
    """The file at ``path`` under a name that every library opens: some hold bytes that are no letters."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        with TemporaryDirectory(prefix="doppelgan-") as folder:
            link = Path(folder) / "file"
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def printable(text: str) -> str:
    """``text`` with backslashes for the bytes of names that are no letters."""
    return text.encode(errors="backslashreplace").decode()


def json_file(content: Any) -> bytes:
    """Indented JSON of a msgspec structure; text is :func:`printable`."""
    try:
        data = msgspec.json.encode(content)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_printable(msgspec.to_builtins(content)))
    return msgspec.json.format(data, indent=2) + b"\n"


def _printable(content: Any) -> Any:
    if isinstance(content, str):
        return printable(content)
    if isinstance(content, dict):
        return {_printable(key): _printable(value) for key, value in content.items()}
    return [_printable(value) for value in content] if isinstance(content, (list, tuple)) else content


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write under another name and rename, so that nobody ever reads half a file. Raises OSError."""
    part = aside(path)
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def refuse_to_replace(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise SinkError if a file of ``paths`` is there, unless ``overwrite``; to be called before the work."""
    there = [] if overwrite else [path for path in paths if path.exists() or path.is_symlink()]
    if there:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise SinkError(f"{there[0]}: already there{more}; choose another output or pass --overwrite")


def check_folder(path: Path) -> None:
    """Whether :func:`make_folder` will work, before the work. Raises SinkError."""
    try:
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        trouble = 0 if there.is_dir() else errno.ENOTDIR
        if not trouble and not os.access(there, os.W_OK | os.X_OK):
            trouble = errno.EACCES
    except OSError as error:
        trouble = error.errno or errno.EINVAL
    if trouble:
        raise SinkError(f"{path}: cannot be a folder: {os.strerror(trouble)}; choose another output")


def make_folder(path: Path) -> None:
    """The folder ``path`` and its parents. Raises SinkError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{path}: cannot be a folder: {error.strerror}; choose another output") from None
