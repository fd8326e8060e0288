"""Reads a rendered data set. Needs NumPy and Pillow only, never Blender.

A data set is a folder:

    dataset.json          what the numbers mean (see `training/render/README.md`)
    shard-000000.zip      32 people, stored without compression
    shard-000001.zip      ...

A shard holds `index.npy` int32 [n], `features.npy` float32 [n, F], `landmarks.npy` float32 [n, L, 2] (crop coordinates,
0..1, x right, y down) and for each person `NNNNNN.natural.jpg`, `NNNNNN.natural-alpha.png`, `NNNNNN.toon.jpg`,
`NNNNNN.toon-alpha.png`, `NNNNNN.natural-label.png` and `NNNNNN.json`. A renderer that ran with `--only` leaves the other look
out.

Unfinished shards carry another name and are never seen; a damaged one is skipped with a warning.
"""

from __future__ import annotations

import io
import json
import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PEOPLE_PER_SHARD = 32
HELD_OUT = 20
"""Every 20th person, by number, is kept from all training."""

_LOCAL_HEADER_BYTES = 30


def is_held_out(number: Any) -> Any:
    """Whether the person with this number, or each of an array of them, is for testing only."""
    return number % HELD_OUT == HELD_OUT - 1


def numbers_in(shard: int, first: int, end: int, held_out: bool) -> list[int]:
    """People of this shard among `first` ... `end` - 1; with `held_out`, only those that training never sees."""
    numbers = range(max(first, shard * PEOPLE_PER_SHARD), min(end, (shard + 1) * PEOPLE_PER_SHARD))
    return [number for number in numbers if is_held_out(number) or not held_out]


class Dataset:
    """Rendered people, addressed 0..len-1. Safe to share between threads and forked workers.

    features    float32 [n, F], roughly -1..1 or 0..1
    landmarks   float32 [n, L, 2], crop coordinates 0..1, x right, y down
    indices     int32 [n], the person's number (the seed of its parameters)
    """

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        self.folder = Path(folder)
        description = self.folder / "dataset.json"
        if not description.exists():
            raise FileNotFoundError(f"{description} is missing: render one with `python -m training.render --out {folder}`")
        self.description: dict[str, Any] = json.loads(description.read_text())
        self.size: int = self.description["size"]
        self.feature_names: tuple[str, ...] = tuple(self.description["features"])
        self.landmark_names: tuple[str, ...] = tuple(self.description["landmarks"])
        self.groups: dict[str, list[int]] = self.description["groups"]

        self._files: list[int] = []
        self._members: list[dict[str, tuple[int, int, int]]] = []
        indices: list[int] = []
        features: list[np.ndarray] = []
        landmarks: list[np.ndarray] = []
        for path in sorted(self.folder.glob("shard-*.zip")):
            try:
                shard = self._open_shard(path)
            except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
                warnings.warn(f"{path} is skipped: {error}", stacklevel=2)
                continue
            for row, members in enumerate(shard["members"]):
                self._members.append(members)
                indices.append(int(shard["index"][row]))
                features.append(shard["features"][row])
                landmarks.append(shard["landmarks"][row])
            if limit is not None and len(indices) >= limit:
                break
        count = len(indices) if limit is None else min(limit, len(indices))
        self.indices = np.array(indices[:count], np.int32)
        self.features = np.array(features[:count], np.float32).reshape(count, len(self.feature_names))
        self.landmarks = np.array(landmarks[:count], np.float32).reshape(count, len(self.landmark_names), 2)

    def __len__(self) -> int:
        return len(self.indices)

    def natural(self, i: int) -> np.ndarray:
        """The photo-like look: RGB uint8 [size, size, 3]."""
        return self._picture(i, "natural.jpg")

    def toon(self, i: int) -> np.ndarray:
        """The cartoon look, pixel-aligned with the natural one: RGB uint8 [size, size, 3]."""
        return self._picture(i, "toon.jpg")

    def natural_alpha(self, i: int) -> np.ndarray:
        """Coverage of person over background in the natural look: uint8 [size, size]."""
        return self._picture(i, "natural-alpha.png")

    def toon_alpha(self, i: int) -> np.ndarray:
        """Coverage of person over background in the toon look: uint8 [size, size]."""
        return self._picture(i, "toon-alpha.png")

    alpha = natural_alpha

    def natural_label(self, i: int) -> np.ndarray:
        """What is where in the natural look: uint8 [size, size], 0 background, 1 skin, 2 eye, 3 hair, 4 other, 5 occluder (a hand
        or a head covering).
        """
        return self._picture(i, "natural-label.png")

    def parameters(self, i: int) -> dict[str, Any]:
        """Everything the person was made from, by name, and how many samples were rejected before it."""
        return json.loads(self.read(i, "json"))

    def has(self, i: int, kind: str) -> bool:
        """Whether person `i` has the member `kind` (such as "toon.jpg")."""
        return kind in self._members[i]

    def read(self, i: int, kind: str) -> bytes:
        """The raw bytes of one member, such as "natural.jpg": for loaders that decode elsewhere."""
        try:
            file, offset, length = self._members[i][kind]
        except KeyError:
            raise KeyError(f"person {self.indices[i]} has no {kind}: it was rendered with --only") from None
        header = os.pread(file, _LOCAL_HEADER_BYTES, offset)
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        return os.pread(file, length, offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes)

    def group(self, *names: str) -> np.ndarray:
        """Column numbers of the features in these groups ("motion" = expression, pose and gaze)."""
        return np.array(sorted(column for name in names for column in self.groups[name]), np.int64)

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers (train, test): every 20th person by number is for testing."""
        test = is_held_out(self.indices)
        return np.flatnonzero(~test), np.flatnonzero(test)

    def _picture(self, i: int, kind: str) -> np.ndarray:
        with Image.open(io.BytesIO(self.read(i, kind))) as picture:
            return np.asarray(picture)

    def _open_shard(self, path: Path) -> dict[str, Any]:
        with zipfile.ZipFile(path) as archive:
            arrays = {
                name: np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
                for name in ("index", "features", "landmarks")
            }
            if arrays["features"].shape[1] != len(self.feature_names):
                raise ValueError(
                    f"{arrays['features'].shape[1]} features, dataset.json lists {len(self.feature_names)}: "
                    "the shard comes from another version of the renderer"
                )
            members: dict[int, dict[str, tuple[int, int, int]]] = {int(i): {} for i in arrays["index"]}
            file = os.open(path, os.O_RDONLY)
            self._files.append(file)
            for entry in archive.infolist():
                stem, _, kind = entry.filename.partition(".")
                if stem.isdigit() and int(stem) in members:
                    members[int(stem)][kind] = (file, entry.header_offset, entry.file_size)
        return {**arrays, "members": [members[int(i)] for i in arrays["index"]]}

    def close(self) -> None:
        """Closes the shards. A data set that is dropped closes itself."""
        while self._files:
            os.close(self._files.pop())

    def __del__(self) -> None:
        if getattr(self, "_files", None):
            self.close()
