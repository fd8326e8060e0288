"""Memory that was freed and is kept all the same."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache


def give_back() -> bool:
    """Hand what glibc keeps for later to the system again; False where there is no glibc.

    Frames of hundreds of kilobytes leave gaps between what lives longer, so that a process that runs for
    days would grow by some percent without anything being lost. Takes a few ms.
    """
    trim = _trim()
    return trim is not None and bool(trim(0))


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
