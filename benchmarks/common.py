"""What the comparisons share: rows that are checked first and timed in turns, and a page that says where."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from doppelgan.runtime.drift import Drift, measure
from doppelgan.runtime.host.machine import load_average, this_machine, versions
from doppelgan.runtime.measure.bench import commit
from doppelgan.runtime.measure.turns import time_in_turns
from numpy.typing import NDArray

PAUSE_S = 0.25  # idle workers of one engine must not slow the next; OpenMP's may spin for 200 ms

Run = Callable[[int], NDArray[Any]]  # number of the sample -> result


@dataclass
class Row:
    """One way to compute the same thing."""

    label: str
    run: Run
    drift: Drift | None = None
    times_ms: tuple[float, ...] = ()

    @property
    def median_ms(self) -> float:
        return float(np.median(self.times_ms))


def check(rows: Sequence[Row], samples: int, image: bool) -> None:
    """Drift of every row against the first."""
    reference = [rows[0].run(i) for i in range(samples)]
    for row in rows:
        row.drift = measure(reference, [row.run(i) for i in range(samples)], image=image)
        print(f"checked {row.label}: {row.drift}", flush=True)


def time_rows(rows: Sequence[Row], rounds: int, warm_up: int = 1) -> None:
    """Fill ``times_ms``: every row once per round."""

    def always_the_first(row: Row) -> Run:
        return lambda _: row.run(0)

    series = time_in_turns([always_the_first(row) for row in rows], rounds, warm_up=warm_up, pause_s=PAUSE_S)
    for row, values in zip(rows, series, strict=True):
        row.times_ms = tuple(values)


def speedup(slow: Row, fast: Row) -> float:
    """Median over rounds of slow / fast in the same round."""
    return float(np.median(np.asarray(slow.times_ms) / np.asarray(fast.times_ms)))


def table(rows: Sequence[Row], against: Sequence[Row], gflop: float | None = None) -> str:
    """A Markdown table; one column of speed-ups per row of ``against``."""
    heads = [
        "how",
        "median ms",
        "min ms",
        "max ms",
        *(f"x {row.label}" for row in against),
        "GFLOP/s",
        "drift",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 2) + "|---|"]
    for row in rows:
        rate = f"{1e3 * gflop / row.median_ms:.0f}" if gflop else "-"
        cells = [
            row.label,
            f"{row.median_ms:.1f}",
            f"{min(row.times_ms):.1f}",
            f"{max(row.times_ms):.1f}",
            *(f"{speedup(other, row):.2f}" for other in against),
            rate,
            str(row.drift or "-"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def header(title: str, command: str) -> str:
    """Machine, versions, commit, date, command."""
    machine = this_machine()
    packages = {**versions(), "torch": metadata.version("torch")}
    numbers = " · ".join(f"{name} {number}" for name, number in packages.items())
    return (
        f"# {title}\n\n{time.strftime('%Y-%m-%d %H:%M')} · commit {commit() or 'unknown'} · "
        f"{machine.processor}, "
        f"{machine.cores} cores ({', '.join(machine.instructions) or 'no notable instructions'}), "
        f"load before the run {load_average() or 0:.1f}\n\n"
        f"{numbers}\n\n`{command}`\n"
    )


def publish(text: str, output: Path | None) -> None:
    print("\n" + text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n", encoding="utf-8")
