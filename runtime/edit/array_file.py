"""Read numbers from ``.npy``, ``.npz``, safetensors and torch files, telling the layout by content.

Data only: object arrays are refused, nothing in a file is executed.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EditError
from .torch_file import read_torch_file

MAX_BYTES = 1 << 30  # after decompression

_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
}


def read_array_file(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name; a lone array is named ``""``, nested ones ``outer/inner``.

    Raises EditError if there is no such file, it is damaged, of no known layout, or holds no numbers.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
        arrays = _read(path, head)
    except (OSError, EOFError, MemoryError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
            raise EditError(f"{path}: expected a file, got {error.strerror}; check the path") from None
        raise EditError(
            f"{path.name}: expected numbers in a complete .npy, .npz, .safetensors or .pt file, "
            f"got one that cannot be read ({str(error).splitlines()[0] if str(error) else 'damaged'}); "
            "download it again, or save plain number arrays"
        ) from None
    arrays = {name: array for name, array in arrays.items() if array.dtype.kind in "fiu" and array.size}
    if not arrays:
        raise EditError(f"{path.name}: expected arrays of numbers, got none; is it a direction or a code?")
    return arrays


def _read(path: Path, head: bytes) -> dict[str, NDArray[Any]]:
    if head.startswith(b"\x93NUMPY"):
        return {"": np.load(path, allow_pickle=False)}
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        if any(info.filename.endswith(".npy") for info in infos):
            if sum(info.file_size for info in infos) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES >> 20} MiB when unpacked")
            with np.load(path, allow_pickle=False) as npz:
                return {name: npz[name] for name in npz.files}
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return _read_safetensors(path.read_bytes())
    found: dict[str, NDArray[Any]] = {}
    _flatten(read_torch_file(path), "", found)
    return found


def _flatten(value: Any, name: str, found: dict[str, NDArray[Any]]) -> None:
    if isinstance(value, np.ndarray):
        found[name] = value
        return
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    for key, child in items:
        _flatten(child, f"{name}/{key}" if name else str(key), found)


def _read_safetensors(data: bytes) -> dict[str, NDArray[Any]]:
    """The layout: int64 length of a JSON header, the header, then the numbers."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    found: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape = np.dtype(_SAFETENSORS[entry["dtype"]]), [int(size) for size in entry["shape"]]
            start, end = (int(offset) for offset in entry["data_offsets"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"tensor {name!r} has an unknown entry ({error})") from None
        if not 0 <= start <= end <= len(body) or min(shape, default=0) < 0:
            raise ValueError(f"tensor {name!r} reaches beyond the end")
        array = np.frombuffer(body[start:end], dtype).reshape(shape)
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        found[name] = array
    return found
