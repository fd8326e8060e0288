"""Read numbers from ``.npy`` and ``.npz`` files, telling the layout by content.

Data only: object arrays are refused, nothing in a file is executed. Torch files and safetensors are read by
``doppelgan export``, which has their libraries.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EditError

MAX_BYTES = 1 << 30  # after decompression
_MOST_ENTRIES = 10_000  # of nested dicts and lists


def read_array_file(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name; a lone array is named ``""``.

    Raises EditError if there is no such file, it is damaged, of no known layout, or holds no numbers.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
        arrays = _read(path, head)
    except EditError:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise EditError(f"{path}: expected a file, got {error.strerror}; check the path") from None
    except Exception as error:  # what NumPy raises on damaged data has no common base
        raise EditError(_damaged(path, error)) from None
    return require_numbers(arrays, path)


def require_numbers(arrays: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    """Those that hold numbers; EditError if none does."""
    arrays = {name: array for name, array in arrays.items() if array.dtype.kind in "fiu" and array.size}
    if not arrays:
        raise EditError(f"{path.name}: expected arrays of numbers, got none; is it a direction or a code?")
    return arrays


def flattened(
    content: Any,  # arrays (of whatever library) in dicts and lists
    path: Path,
    to_array: Callable[[Any], NDArray[Any] | None],  # None for what is no array; may raise ValueError
) -> dict[str, NDArray[Any]]:
    """All arrays by name, nested ones ``outer/inner``. Raises EditError for one too large or too deep."""
    arrays: dict[str, NDArray[Any]] = {}
    stack: list[tuple[str, Any]] = [("", content)]
    for _ in range(_MOST_ENTRIES):
        if not stack:
            return arrays
        name, value = stack.pop()
        try:
            array = to_array(value)
        except (ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise EditError(_damaged(path, error)) from None
        if array is not None:
            arrays[name] = array
            continue
        items: list[tuple[Any, Any]] = []
        if isinstance(value, dict):
            items = list(value.items())
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))
        stack += [(f"{name}/{key}" if name else str(key), child) for key, child in reversed(items)]
    raise EditError(
        f"{path.name}: expected a few arrays, got more than {_MOST_ENTRIES} entries; save them alone"
    )


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
    if head.startswith((b"PK", b"\x80")) or head[8:9] == b"{":
        raise EditError(
            f"{path.name}: expected a .npy or .npz file, got a torch or safetensors file; "
            "`doppelgan export --direction` reads those into a bundle"
        )
    raise ValueError("no file of NumPy")


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else "damaged"
    return (
        f"{path.name}: expected numbers in a complete file, got one that cannot be read ({reason}); "
        "download it again, or save plain number arrays"
    )
