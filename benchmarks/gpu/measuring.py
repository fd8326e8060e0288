"""Time, energy and distance of one way to compute something."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .card import Card

WARM_UP = 5


def timed(
    run: Callable[[], object],  # returns when the result is there
    card: Card,
    seconds: float = 0.4,
    least: int = 100,
    most_s: float = 3.0,
) -> dict[str, Any]:
    """Run for ``seconds`` and at least ``least`` times, unless that takes ``most_s``; nothing is dropped."""
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    joules = card.joules()
    start = now = time.perf_counter()
    while now - start < seconds or (len(times) < least and now - start < most_s):
        run()
        after = time.perf_counter()
        times.append(1e3 * (after - now))
        now = after
    end_joules = card.joules()
    median, p99 = np.percentile(times, (50, 99))
    row: dict[str, Any] = {
        "median_ms": round(float(median), 4),
        "p99_ms": round(float(p99), 4),
        "runs": len(times),
    }
    if joules is not None and end_joules is not None:
        row["joules"] = round((end_joules - joules) / len(times), 4)
        row["watts"] = round((end_joules - joules) / (now - start), 1)
    return row


class Distance:
    """How far results are from their references, one pair at a time."""

    def __init__(self) -> None:
        self._squares = self._norm = self._largest = 0.0
        self._count = self._samples = 0
        self._worst = 0.0  # mean square of the worst sample
        self._finite = True

    def add(self, reference: np.ndarray, got: np.ndarray) -> None:
        difference = np.subtract(got, reference, dtype=np.float32).ravel()
        self._samples += 1
        squares = float(np.dot(difference, difference))
        if not np.isfinite(squares):
            self._finite = False
            return
        self._squares += squares
        self._norm += float(np.dot(reference.ravel(), reference.ravel()))
        self._count += reference.size
        self._worst = max(self._worst, squares / reference.size)
        self._largest = max(self._largest, float(difference.max()), -float(difference.min()))

    def figures(self, image: bool) -> dict[str, Any]:
        """Figures as in ``doppelgan.runtime.drift``: pictures have a peak of 2."""
        figures: dict[str, Any] = {"samples": self._samples, "finite": self._finite}
        if self._count:
            figures["relative_l2"] = float(f"{np.sqrt(self._squares / max(self._norm, 1e-30)):.3g}")
            figures["max_abs"] = float(f"{self._largest:.3g}")
        if image and self._count:
            figures["psnr_db"] = _psnr_db(self._squares / self._count)
            figures["worst_psnr_db"] = _psnr_db(self._worst)
        return figures


def distance(references: Iterable[np.ndarray], results: Iterable[np.ndarray], image: bool) -> dict[str, Any]:
    """Of whole series."""
    sum_ = Distance()
    for reference, got in zip(references, results, strict=True):
        sum_.add(reference, got)
    return sum_.figures(image)


def _psnr_db(mean_square: float) -> float:
    return round(min(200.0, float(10 * np.log10(4 / max(mean_square, 1e-30)))), 1)
