"""Whether a tuning has room, in memory and on the disk: asked before the work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from doppelgan.runtime.errors import BackendError, SinkError

_FRAMEWORK = 800 << 20  # bytes of PyTorch itself
_ADVICE = "close other programs, or pass a smaller --size"
CGROUP = Path("/sys/fs/cgroup")


def bytes_needed(channels: tuple[int, ...], w_dim: int, size: int, batch: int = 1) -> int:
    """Memory of tuning at ``size`` px: weights, gradients, Adam's means; maps kept for the backward pass."""
    maps = sum(7 * here * (4 << level) ** 2 for level, here in enumerate(channels) if 4 << level <= size)
    return 4 * (6 * _weights(channels, w_dim) + batch * maps) + _FRAMEWORK


def available_bytes() -> int | None:
    """Memory that can be had without swapping, here or in this container; None where nobody tells."""
    known = [value for value in (_of_machine(), _of_container()) if value is not None]
    return min(known, default=None)


def check_memory(command: str, channels: tuple[int, ...], w_dim: int, size: int) -> None:
    """Raise BackendError if tuning at ``size`` pixels needs more memory than is free."""
    needed, available = bytes_needed(channels, w_dim, size), available_bytes()
    if available is not None and needed > available:
        raise BackendError(
            f"{command}: expected {needed / 2**30:.1f} GiB of free memory to tune at {size} px, "
            f"got {available / 2**30:.1f}; {_ADVICE}"
        )


@contextmanager
def short_memory_said(command: str, size: int) -> Iterator[None]:
    """Raise BackendError where memory runs out all the same: limits on a process do not show before."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # PyTorch's has no class of its own on a CPU
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise BackendError(
            f"{command}: expected enough memory to tune at {size} px, got none at last; {_ADVICE}"
        ) from None


def check_disk(output: Path, bundle: Path, channels: tuple[int, ...], w_dim: int) -> None:
    """Raise SinkError where ``output`` cannot be made, or a copy of ``bundle`` and a state find no space."""
    parent = next(folder for folder in output.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SinkError(
            f"{output}: expected a folder that can be written to, {parent} is none; choose another output"
        )
    files = sum(file.stat().st_size for file in bundle.iterdir() if file.is_file())
    needed = files + 4 * 5 * _weights(
        channels, w_dim
    )  # stored: weights, the best of them, two means; one aside
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise SinkError(
            f"{output}: expected {needed / 1e6:.0f} MB of free space, for the bundle and for what --resume "
            f"needs, got {free / 1e6:.0f}; free some, or choose another output"
        )


def _weights(channels: tuple[int, ...], w_dim: int) -> int:
    befores = (channels[0], *channels)
    return sum(
        9 * here * (before + here) + 3 * w_dim * max(before, here)
        for before, here in zip(befores, channels, strict=False)
    )


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return None


def _of_container() -> int | None:
    """By the control group's limit (version 2, then 1); file caches can be had."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            most, now = (int((CGROUP / name).read_text()) for name in (limit, used))  # "max": no limit
            rows = (line.split() for line in (CGROUP / cached).read_text().splitlines())
            return max(0, most - now + {name: int(value) for name, value in rows}.get("inactive_file", 0))
        except (OSError, ValueError):
            continue
    return None
