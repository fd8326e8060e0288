"""Bytes that take seconds to make and that several tests ask for: made once in a run, by whoever is first.

An export of an encoder takes three seconds of tracing, and files of tests are divided among processes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

FOLDER = "DOPPELGAN_TESTS_ONCE"  # names what all processes of a run share; see conftest.py
PATIENCE_S = 300  # after that, another process has died over it

Key = str | int | float | None | tuple[int, ...]


def once(make: Callable[..., bytes]) -> Callable[..., bytes]:
    """``make``, for arguments that are the same whenever they are written the same."""

    @functools.cache
    def made(*given: Key) -> bytes:
        folder = os.environ.get(FOLDER)
        if folder is None:  # not within a run of tests
            return make(*given)
        name = f"{make.__module__}.{make.__qualname__}{given!r}"
        return _shared(Path(folder) / hashlib.sha256(name.encode()).hexdigest(), lambda: make(*given))

    return functools.wraps(make)(made)


def _shared(path: Path, make: Callable[[], bytes]) -> bytes:
    claim, part = path.with_suffix(".claim"), path.with_suffix(".part")
    end_s = time.monotonic() + PATIENCE_S
    while not path.exists() and time.monotonic() < end_s:
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            time.sleep(0.05)  # another process is at it
            continue
        try:
            part.write_bytes(make())
            part.replace(path)
        finally:
            claim.unlink()  # where it failed, the next one fails by itself
    return path.read_bytes()
