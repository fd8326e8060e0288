"""Files of ``torch.save``, read as data: whatever else they name is refused, and nothing of it is run."""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any, Final

import torch
from doppelgan.runtime.errors import CheckpointError
from doppelgan.runtime.host.files import under_plain_name

# The pickled magic number of torch.save before 1.6.
LEGACY_TORCH: Final = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_LONGEST_NAME: Final = 300  # letters of a module and a class
_LONGEST_PICKLE: Final = 256 << 20  # bytes; tensors lie beside it


def read_torch(
    path: Path,
    *,
    archive: bool,  # a zip, as torch.save writes it since 1.6
) -> Any:
    """What torch.save wrote, data only. Raises CheckpointError, which names what is not data."""
    if archive and not _is_whole_zip(path):
        raise CheckpointError(
            f"{path.name}: expected a complete torch file, got a truncated one "
            f"({path.stat().st_size} bytes, no end record); download it again"
        )
    try:
        # Training states carry their command line; a Namespace holds values and runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]), under_plain_name(path) as name:
            if archive:
                _refuse_long_names(name)
                return torch.load(name, map_location="cpu", weights_only=True, mmap=True)
            with _File(io.FileIO(name)) as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name}: expected a torch file of tensors and settings, got one with other objects "
            f"({_refused(str(error))}); nothing in it was run: save only its state_dict and try again"
        ) from None
    except Exception as error:  # what torch raises on damaged data has no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path.name}: expected a complete torch file, got a damaged one ({reason}); download it again"
        ) from None


def _is_whole_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # an end record that says it is one of several files
        return False


class _LongName(pickle.UnpicklingError):
    pass


class _ShortLines:
    """A file whose lines, in a pickle the names of objects, are short.

    Torch searches what it says about a refused name in quadratic time: one of 25 kB would take ten seconds.
    """

    def readline(self, size: int | None = -1) -> bytes:
        line: bytes = super().readline(_LONGEST_NAME)  # type: ignore[misc]
        if len(line) == _LONGEST_NAME:
            # As torch says it of others, so that the name is told: `_refused`.
            raise _LongName(f"unsupported GLOBAL {line[:40].decode('ascii', 'replace').split()[0]}...")
        return line


class _File(_ShortLines, io.BufferedReader):
    pass


class _Memory(_ShortLines, io.BytesIO):
    pass


def _refuse_long_names(path: Path) -> None:
    """Of an archive's pickle, which torch reads past our lines."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    with archive.open(name) as member:
                        for _ in pickletools.genops(_Memory(member.read(_LONGEST_PICKLE))):
                            pass
    except _LongName:
        raise
    except Exception:
        return


def _refused(message: str) -> str:
    """The name that weights_only refused, out of torch's paragraph."""
    for marker in ("unsupported GLOBAL ", "Unsupported global: GLOBAL ", "Unsupported class "):
        if marker in message:
            return message.split(marker, 1)[1].split()[0][:_LONGEST_NAME]
    return "an object that is not data"
