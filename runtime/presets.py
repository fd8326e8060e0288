"""Presets: a look by name, saved as JSON beside a small picture, for the page and ``--preset NAME``.

``<data>/presets/NAME.json`` and ``NAME.jpg``; ``<data>`` is $DOPPELGAN_DATA or the user's data folder.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from .errors import EditError
from .host.files import NOT_JSON, json_file, write_whole
from .host.user_folders import data_folder

MOST_PRESETS: Final = 500
_NAME = re.compile(r"[\w][\w .+-]{0,39}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names of devices on Windows


class Preset(Struct, frozen=True, kw_only=True):
    """A look. Fields are those of the pipeline."""

    format: Literal["doppelgan-preset"] = "doppelgan-preset"
    version: Literal[1] = 1
    bundle: str = ""  # that it was made with; another one may lack some of the edits
    style: str = "photo"
    composite: str | None = None  # None: as fits style and bundle
    edits: dict[str, float] = {}
    truncation: Annotated[float, Meta(ge=0, le=1.5)] = 1.0
    blend: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Presets:
    """The presets in a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = data_folder() / "presets" if folder is None else folder

    def names(self) -> list[str]:
        """Sorted; whatever else lies in the folder is left out."""
        if not self.folder.is_dir():
            return []
        return sorted(path.stem for path in self.folder.glob("*.json") if _NAME.fullmatch(path.stem))

    def read(self, name: str) -> Preset:
        """Raises EditError for a name that is not there and a file that is damaged."""
        path = self._path(name, ".json")
        try:
            data = path.read_bytes()
        except OSError:
            names = self.names()
            close = difflib.get_close_matches(name, names, n=1)
            have = f"did you mean {close[0]!r}? " if close else ""
            have += (
                f"there are {', '.join(names)}"
                if names
                else "none is saved yet; `doppelgan serve` saves them"
            )
            raise EditError(f"preset {name!r}: not found; {have}") from None
        try:
            return msgspec.json.decode(data, type=Preset)
        except NOT_JSON as error:
            raise EditError(
                f"{path}: expected a preset, got {error}; remove the file or save it again"
            ) from None

    def write(
        self,
        name: str,
        preset: Preset,
        picture: bytes | None = None,  # JPEG
    ) -> None:
        """Save, over the one of that name. Raises EditError."""
        path = self._path(name, ".json")
        if not path.exists() and len(self.names()) >= MOST_PRESETS:
            raise EditError(f"preset {name!r}: expected at most {MOST_PRESETS} presets; delete some first")
        data = json_file(preset)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if picture is not None:
                write_whole(self._path(name, ".jpg"), picture)
            write_whole(path, data + b"\n")
        except OSError as error:
            raise EditError(
                f"{path}: cannot be written: {error.strerror}; check space and permissions"
            ) from None

    def picture(self, name: str) -> bytes | None:
        """JPEG, or None."""
        try:
            return self._path(name, ".jpg").read_bytes()
        except OSError:
            return None

    def delete(self, name: str) -> bool:
        """Whether there was one."""
        path = self._path(name, ".json")
        there = path.exists()
        for one in (path, self._path(name, ".jpg")):
            one.unlink(missing_ok=True)
        return there

    def _path(self, name: str, suffix: str) -> Path:
        if (
            not _NAME.fullmatch(name)
            or name.endswith((" ", "."))
            or ".." in name
            or _RESERVED.fullmatch(name)
        ):
            raise EditError(
                f"preset {name!r}: expected a name of up to 40 letters, digits, spaces and . _ + -; rename it"
            )
        return self.folder / f"{name}{suffix}"
