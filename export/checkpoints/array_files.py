"""Numbers from every file that directions come in: torch files and safetensors beside ``.npy`` and ``.npz``.

Data only: torch files are read with ``weights_only=True``, nothing in a file is executed.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from doppelgan.runtime.edit.array_file import MAX_BYTES, flattened, read_array_file, require_numbers
from doppelgan.runtime.errors import CheckpointError, EditError
from doppelgan.runtime.host.files import under_plain_name
from numpy.typing import NDArray

from .torch_file import LEGACY_TORCH, read_torch


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name; a lone array is named ``""``, nested ones ``outer/inner``.

    Raises EditError if there is no such file, it is damaged, of no known layout, or holds no numbers.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(LEGACY_TORCH))
    except OSError as error:
        raise EditError(f"{path}: expected a file, got {error.strerror}; check the path") from None
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return require_numbers(_read_safetensors(path), path)
    if head.startswith(LEGACY_TORCH) or (head.startswith(b"PK") and _is_torch(path)):
        try:
            content = read_torch(path, archive=head.startswith(b"PK"))
        except CheckpointError as error:
            raise EditError(str(error)) from None
        return require_numbers(flattened(content, path, _array), path)
    return read_array_file(path)


def _is_torch(path: Path) -> bool:
    """Whether a zip archive holds a pickle as torch.save writes it (and no arrays of NumPy)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return True  # cut off: torch's reader says so


def _array(value: Any) -> NDArray[Any] | None:
    """A tensor as an array, None for anything else. Raises ValueError for one that is too large."""
    if not isinstance(value, torch.Tensor):
        return None
    if value.numel() * value.element_size() > MAX_BYTES:
        raise ValueError(f"a tensor {list(value.shape)} is larger than any code")
    value = value.detach().to_dense() if value.layout != torch.strided else value.detach()
    array: NDArray[Any] = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return array


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with under_plain_name(path) as name, safe_open(name, framework="pt", device="cpu") as file:
            names = list(file.keys())
            arrays = {name: _array(file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise EditError(
            f"{path.name}: expected a complete safetensors file, got a damaged one ({error}); "
            "download it again"
        ) from None
    return {name: np.asarray(array) for name, array in arrays.items() if array is not None}
