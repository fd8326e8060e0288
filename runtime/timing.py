"""Per-stage clocks: where the time of a frame goes.

``Clock`` keeps the last ``window`` durations of every stage and the last ``window`` moments at which a
frame was finished; everything older is forgotten, so a day of live video costs as much memory as a
minute. Any thread may record into one clock; recording costs about a microsecond.

What a report says about a series of durations d[0], d[1] ... (in the order of recording):

==================  =============================================================================
``median_ms``       half of them were shorter
``p95_ms, p99_ms``  95 % / 99 % of them were shorter (linear interpolation between neighbors)
``jitter_ms``       mean of ``|d[i] - d[i-1]|``: how much one frame differs from the next; a slow
                    drift hardly counts, an alternation of short and long counts in full
==================  =============================================================================

``Report.interval`` is the same statistics of the time between one finished frame and the next;
``frames_per_s`` is taken over those moments.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StageReport:
    """Statistics of one stage over the remembered window; ``count`` is of all time."""

    name: str
    count: int
    mean_ms: float
    median_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    jitter_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a clock has seen. Stages stand in the order in which they were first recorded."""

    stages: tuple[StageReport, ...]
    interval: StageReport | None  # between finished frames; None before the second one
    frames: int  # finished, of all time
    frames_per_s: float | None  # over the remembered window; None before the second frame

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for ``json.dumps``."""
        return {
            "frames": self.frames,
            "frames_per_s": self.frames_per_s,
            "interval": asdict(self.interval) if self.interval else None,
            "stages": {stage.name: asdict(stage) for stage in self.stages},
        }

    def table(self) -> str:
        """The report as a Markdown table, aligned to be read as plain text too."""
        rows: list[Sequence[str]] = [
            ("stage", "count", "median ms", "p95 ms", "p99 ms", "max ms", "jitter ms")
        ]
        for stage in self.stages + ((self.interval,) if self.interval else ()):
            numbers = (stage.median_ms, stage.p95_ms, stage.p99_ms, stage.max_ms, stage.jitter_ms)
            rows.append((stage.name, str(stage.count), *(f"{number:.2f}" for number in numbers)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [_line(row, widths) for row in rows]
        lines.insert(
            1, "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
        )
        if self.frames_per_s is not None:
            lines += ["", f"{self.frames} frames, {self.frames_per_s:.1f} frames/s"]
        return "\n".join(lines)


class Clock:
    """Collects durations per stage: ``with clock.stage("encode"): ...``.

    A stage may be entered by several threads at once, and inside itself.
    """

    def __init__(
        self,
        window: int = 1024,  # durations remembered per stage
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        if window < 2:
            raise ValueError(f"expected a window of at least 2 durations, got {window}")
        self._window = window
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._stages: dict[str, _Ring] = {}
        self._frames = _Ring(window)

    def stage(self, name: str) -> _Span:
        """A context manager that records how long its block took, also when the block raises."""
        ring = self._stages.get(name)
        return _Span(self._ring(name) if ring is None else ring, self._now_ns)

    def record(self, name: str, duration_s: float) -> None:
        """Add a duration that was measured elsewhere."""
        self._ring(name).add(round(duration_s * NS_PER_S))

    def frame(self) -> None:
        """Note that a frame is finished; frame rate and interval come from these moments."""
        self._frames.add(self._now_ns())

    def reset(self) -> None:
        """Forget everything, as after a warm-up."""
        with self._lock:
            self._stages = {}
            self._frames = _Ring(self._window)

    def report(self) -> Report:
        """Statistics of what is remembered now; recording may go on meanwhile."""
        with self._lock:
            rings = list(self._stages.items())
        stages = tuple(_statistics(name, *ring.snapshot()) for name, ring in rings)
        count, moments_ns = self._frames.snapshot()
        interval = frames_per_s = None
        if len(moments_ns) > 1:
            # Two threads may finish frames in one order and note it in the other.
            moments_ns = np.sort(moments_ns)
            interval = _statistics("interval", count - 1, np.diff(moments_ns))
            elapsed_ns = int(moments_ns[-1] - moments_ns[0])
            frames_per_s = (len(moments_ns) - 1) * NS_PER_S / elapsed_ns if elapsed_ns else None
        return Report(stages, interval, count, frames_per_s)

    def _ring(self, name: str) -> _Ring:
        with self._lock:
            return self._stages.setdefault(name, _Ring(self._window))


class _Ring:
    """The last ``size`` integers and how many there ever were."""

    __slots__ = ("count", "lock", "size", "values")

    def __init__(self, size: int) -> None:
        self.values = [0] * size
        self.size = size
        self.count = 0
        self.lock = threading.Lock()

    def add(self, value: int) -> None:
        with self.lock:
            self.values[self.count % self.size] = value
            self.count += 1

    def snapshot(self) -> tuple[int, np.ndarray[Any, np.dtype[np.int64]]]:
        """How many values there ever were, and those remembered, oldest first."""
        with self.lock:
            count, values = self.count, list(self.values)
        if count < self.size:
            values = values[:count]
        else:
            values = values[count % self.size :] + values[: count % self.size]
        return count, np.array(values, np.int64)


class _Span:
    __slots__ = ("_now_ns", "_ring", "_start_ns")

    def __init__(self, ring: _Ring, now_ns: Callable[[], int]) -> None:
        self._ring = ring
        self._now_ns = now_ns

    def __enter__(self) -> None:
        self._start_ns = self._now_ns()

    def __exit__(self, *_: object) -> None:
        self._ring.add(self._now_ns() - self._start_ns)


def _statistics(name: str, count: int, durations_ns: np.ndarray[Any, np.dtype[np.int64]]) -> StageReport:
    if not len(durations_ns):
        return StageReport(name, count, *[0.0] * 6)
    ms = durations_ns / NS_PER_MS
    median, p95, p99 = (float(value) for value in np.percentile(ms, (50, 95, 99)))
    jitter = float(np.abs(np.diff(ms)).mean()) if len(ms) > 1 else 0.0
    return StageReport(name, count, float(ms.mean()), median, p95, p99, float(ms.max()), jitter)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)]
    cells[0] = f"{row[0]:<{widths[0]}}"
    return "| " + " | ".join(cells) + " |"
