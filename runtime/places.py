"""Where bundles lie, and where what was compiled from them lies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from .errors import BundleError
from .host.user_folders import data_folder, user_cache
from .manifest import MANIFEST, Manifest, write_manifest

FOLDER = "compiled"  # beside a bundle's own files


def engine_folders() -> list[Path]:
    """Where bundles are looked up by name, first hit wins: $DOPPELGAN_ENGINES, ./engines, those
    enrolled from the page, the package's.
    """
    configured = os.environ.get("DOPPELGAN_ENGINES", "")
    folders = [Path(part) for part in configured.split(os.pathsep) if part]
    own = data_folder() / "engines"
    return [*folders, Path("engines"), own, Path(__file__).parent.parent / "engines"]


def find_bundle(name_or_folder: str | Path) -> Path:
    """Folder of a bundle given by name or path. Raises BundleError listing the names there are."""
    folder = Path(name_or_folder)
    if (folder / MANIFEST).is_file():
        return folder
    if folder.is_dir() or len(folder.parts) != 1:
        state = "a folder without one" if folder.is_dir() else "no such folder"
        raise BundleError(f"{folder}: expected a bundle (a folder with {MANIFEST}), got {state}")
    for place in engine_folders():
        if (place / folder / MANIFEST).is_file():
            return place / folder
    names = ", ".join(sorted({path.name for path in list_bundles()})) or "none"
    raise BundleError(f"bundle {str(folder)!r}: not found; bundles here: {names}; or give the folder's path")


def list_bundles() -> list[Path]:
    """Folders of all bundles in :func:`engine_folders`; a name found twice counts once."""
    bundles: dict[str, Path] = {}
    for place in engine_folders():
        if place.is_dir():
            for manifest in sorted(place.glob(f"*/{MANIFEST}")):
                bundles.setdefault(manifest.parent.name, manifest.parent)
    return list(bundles.values())


def folders(bundle: Path, manifest: Manifest) -> tuple[Path, Path]:
    """Where records of a bundle may lie: inside it, and in the user's cache."""
    digest = hashlib.sha256(write_manifest(manifest)).hexdigest()[:12]
    return bundle / FOLDER, user_cache() / f"{manifest.name}-{digest}"
