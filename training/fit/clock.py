"""The wall-clock budget of a run."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator


class Budget:
    """A span of wall-clock time, `start` to `end` (time.time()).

    `fraction` grows from 0 to 1. A resumed run keeps the fraction it had reached and spreads what is left over the time left.
    """

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end
        self._reached = 0.0

    @property
    def fraction(self) -> float:
        here = (time.time() - self.start) / max(1e-6, self.end - self.start)
        return min(1.0, max(0.0, self._reached + (1 - self._reached) * max(0.0, here)))

    @property
    def seconds(self) -> float:
        """The whole span."""
        return self.end - self.start

    @property
    def used(self) -> float:
        return self.fraction

    @property
    def over(self) -> bool:
        return time.time() >= self.end

    def resume(self, reached: float) -> None:
        """Continue from this fraction, from now until the same end."""
        self._reached = min(0.999, max(0.0, reached))
        self.start = time.time()


def elapsing(seconds: float) -> Iterator[float]:
    """What part of so many seconds has passed since it was first asked; ends with them."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        yield passed / seconds


def orphaned() -> bool:
    """Whether the process that started this one is gone: then nobody waits for the result any more."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
