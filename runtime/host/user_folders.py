"""This user's folders for doppelgan on each system; none is created here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple


class _Kind(NamedTuple):
    """How the systems name one kind of folder: variable, and the default below the home folder."""

    windows: tuple[str, str]
    mac: str
    xdg: tuple[str, str]


_CACHE = _Kind(("LOCALAPPDATA", "AppData/Local"), "Library/Caches", ("XDG_CACHE_HOME", ".cache"))
_CONFIG = _Kind(("APPDATA", "AppData/Roaming"), "Library/Application Support", ("XDG_CONFIG_HOME", ".config"))
_DATA = _Kind(
    ("LOCALAPPDATA", "AppData/Local"), "Library/Application Support", ("XDG_DATA_HOME", ".local/share")
)


def user_cache() -> Path:
    """What can be computed again: $DOPPELGAN_CACHE, or the system's."""
    return _folder("DOPPELGAN_CACHE", _CACHE)


def user_config() -> Path:
    """Settings, and the key that signs: $DOPPELGAN_CONFIG, or the system's."""
    return _folder("DOPPELGAN_CONFIG", _CONFIG)


def data_folder() -> Path:
    """What the user saved, looks, recordings, enrolled bundles: $DOPPELGAN_DATA, or the system's."""
    return _folder("DOPPELGAN_DATA", _DATA)


def _folder(override: str, kind: _Kind) -> Path:
    if configured := os.environ.get(override):
        return Path(configured)
    if sys.platform == "darwin":
        return Path.home() / kind.mac / "doppelgan"
    variable, default = kind.windows if sys.platform == "win32" else kind.xdg
    return Path(os.environ.get(variable) or Path.home() / default) / "doppelgan"
