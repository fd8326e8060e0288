"""Reads the uncompressed multi-layer OpenEXR files that Blender writes: just enough to get render passes into NumPy."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

_DTYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


def read_exr(path: Path) -> dict[str, np.ndarray]:
    """Channel name -> array [height, width] in the file's own type. Scan lines without compression only."""
    data = path.read_bytes()
    if data[:4] != b"\x76\x2f\x31\x01":
        raise ValueError(f"{path} is not an OpenEXR file")
    attributes, at = _attributes(data, 8)
    if attributes["compression"][0] != 0:
        raise ValueError(f"{path} is compressed: set the EXR codec to NONE")
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    channels = _channels(attributes["channels"])
    out = {name: np.empty((height, width), dtype) for name, dtype in channels}
    offsets = np.frombuffer(data, "<u8", height, at)
    for offset in offsets.tolist():
        row = struct.unpack_from("<i", data, offset)[0] - top
        position = offset + 8
        for name, dtype in channels:
            out[name][row] = np.frombuffer(data, dtype, width, position)
            position += dtype.itemsize * width
    return out


def _attributes(data: bytes, at: int) -> tuple[dict[str, bytes], int]:
    found: dict[str, bytes] = {}
    while data[at]:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        found[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return found, at + 1


def _channels(data: bytes) -> list[tuple[str, np.dtype[Any]]]:
    channels: list[tuple[str, np.dtype[Any]]] = []
    at = 0
    while data[at]:
        name, at = _text(data, at)
        (kind,) = struct.unpack_from("<i", data, at)
        channels.append((name, _DTYPES[kind]))
        at += 16
    return channels


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1
