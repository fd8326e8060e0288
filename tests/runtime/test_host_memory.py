"""What was freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
from doppelgan.runtime.host import memory


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps it")
def test_what_lies_between_what_stays_is_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    blocks = [libc.malloc(100_000) for _ in range(800)]  # too small for pages of their own
    for block in blocks:
        libc.memset(block, 1, 100_000)
    for block in blocks[:-1]:  # the last one, at the top, holds all the others
        libc.free(block)
    kept = resident_mb()
    memory.give_back()
    assert resident_mb() < kept - 40
    libc.free(blocks[-1])


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._trim.cache_clear()
    monkeypatch.setattr(sys, "platform", "win32")
    assert memory.give_back() is False
    memory._trim.cache_clear()
