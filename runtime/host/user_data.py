"""Where what the user saved is kept: looks, recordings, enrolled bundles."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def data_folder() -> Path:
    """$DOPPELGAN_DATA, or ``doppelgan`` in the user's folder for data of applications."""
    if configured := os.environ.get("DOPPELGAN_DATA"):
        return Path(configured)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "doppelgan"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "doppelgan"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "doppelgan"
