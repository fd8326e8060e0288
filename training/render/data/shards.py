"""Writes portraits as shards; a shard appears under its name only when it is complete."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.render.data.dataset import PEOPLE_PER_SHARD
from training.render.person.features import FEATURES, GROUPS, VERSION
from training.render.person.landmarks import landmark_names
from training.render.scene.portrait import Portrait


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:06d}.zip"


def describe(folder: Path, size: int, looks: tuple[str, ...], pairs: tuple[str, ...] = ()) -> None:
    """Writes `dataset.json`, or checks that the one there agrees. pairs: what changes within pairs, if people come so."""
    description: dict[str, Any] = {
        "version": VERSION,
        "size": size,
        "looks": list(looks),
        "people_per_shard": PEOPLE_PER_SHARD,
        "features": list(FEATURES),
        "groups": GROUPS,
        "landmarks": list(landmark_names()),
        **({"pairs": list(pairs)} if pairs else {}),
    }
    path = folder / "dataset.json"
    if path.exists():
        found = json.loads(path.read_text())
        differing = [key for key, value in description.items() if found.get(key) != value]
        if differing:
            raise ValueError(f"{path} differs in {', '.join(differing)}: choose another folder or delete the old data")
        return
    aside = path.with_suffix(f".{os.getpid()}.part")
    aside.write_text(json.dumps(description, indent=1))
    aside.rename(path)


def write_shard(folder: Path, shard: int, portraits: list[Portrait]) -> None:
    """Stores portraits as shard number `shard`."""
    path = shard_path(folder, shard)
    aside = path.with_suffix(f".{os.getpid()}.part")
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
        for name, array in {
            "index": np.array([p.number for p in portraits], np.int32),
            "features": np.stack([p.features for p in portraits]),
            "landmarks": np.stack([p.landmarks for p in portraits]),
        }.items():
            archive.writestr(f"{name}.npy", _npy(array))
        for portrait in portraits:
            stem = f"{portrait.number:06d}"
            for look, picture in (("natural", portrait.natural), ("toon", portrait.toon)):
                if picture is not None:
                    archive.writestr(f"{stem}.{look}.jpg", _encoded(picture.rgb, "JPEG", quality=95, subsampling=0))
                    archive.writestr(f"{stem}.{look}-alpha.png", _encoded(picture.alpha, "PNG"))
            if portrait.label is not None:
                archive.writestr(f"{stem}.natural-label.png", _encoded(portrait.label, "PNG"))
            record = {"number": portrait.number, "parameters": portrait.person, "rejected": portrait.rejected}
            archive.writestr(f"{stem}.json", json.dumps(record))
    aside.rename(path)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _encoded(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()
