"""The one timer of comparisons: everything in turns, so that what slows the machine slows all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from ..backends import Session
from .network_inputs import Feeds


def time_in_turns(
    work: Sequence[Callable[[int], object]],  # each is given the number of the round
    rounds: int,
    *,
    warm_up: int,  # rounds before those that count
    pause_s: float,  # before each run: idle workers of one engine must not slow the next
) -> list[list[float]]:
    """Milliseconds per counted round, one series for each of ``work``. Every other round goes backward."""
    series: list[list[float]] = [[] for _ in work]
    for number in range(warm_up + rounds):
        turns = list(zip(work, series, strict=True))
        for run, times_ms in turns if number % 2 else reversed(turns):
            time.sleep(pause_s)
            start = time.perf_counter()
            run(number)
            elapsed = time.perf_counter() - start
            if number >= warm_up:
                times_ms.append(1e3 * elapsed)
    return series


def time_sessions(
    work: Sequence[tuple[Session, Sequence[Feeds]]],  # a session and what it is fed, one after the other
    rounds: int,
    *,
    warm_up: int,
    pause_s: float,
) -> list[list[float]]:
    """:func:`time_in_turns` of networks that write into buffers of their own."""

    def into_buffers(session: Session, feeds: Sequence[Feeds]) -> Callable[[int], object]:
        out = {spec.name: np.empty(spec.shape, spec.dtype) for spec in session.outputs}
        return lambda number: session.run(feeds[number % len(feeds)], out)

    runs = [into_buffers(session, feeds) for session, feeds in work]
    return time_in_turns(runs, rounds, warm_up=warm_up, pause_s=pause_s)
