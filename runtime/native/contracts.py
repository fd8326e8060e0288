"""What every kernel is to be given: arrays of just the stated dtype, shape and layout."""

from __future__ import annotations

import numpy as np


def check(*arguments: tuple[str, object, str, tuple[int | None, ...]]) -> None:
    """Raise a TypeError that names the first (name, value, dtype, shape) that breaks its contract."""
    for name, value, code, shape in arguments:
        wanted = f"{np.dtype(code)} [{','.join('?' if n is None else str(n) for n in shape)}]"
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name}: expected an array {wanted}, got {type(value).__name__}")
        fits = len(value.shape) == len(shape) and all(
            n in (None, m) for n, m in zip(shape, value.shape, strict=True)
        )
        if value.dtype != np.dtype(code) or not fits:
            got = f"{value.dtype} {list(value.shape)}"
            raise TypeError(f"{name}: expected {wanted}, got {got}; convert it first")
        if not value.flags.c_contiguous:
            got = f"strides {value.strides}"
            raise TypeError(f"{name}: expected a C-contiguous array, got {got}; use np.ascontiguousarray")


def check_writable(name: str, value: object) -> None:
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        raise TypeError(f"{name}: expected a writable array, got a read-only one; copy it first")
