"""Growth curves: points that were timed in turns, as a table, JSON and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from doppelgan.runtime.host.machine import Machine
from doppelgan.runtime.measure.bench import Spread

from .common import Row

COLORS = ("#30638e", "#d1495b", "#edae49", "#00798c", "#7a5195", "#8d99ae")
SAME = 0.05  # a smaller share is no difference


class Ratio(msgspec.Struct, frozen=True):
    """Time of one thing over time of another in the same round: median and quartiles over rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, new_ms: Sequence[float], old_ms: Sequence[float]) -> Ratio:
        pairs = np.asarray(new_ms, np.float64) / np.asarray(old_ms, np.float64)
        low, median, high = (float(v) for v in np.percentile(pairs, (25, 50, 75)))
        return cls(median, low, high)

    def verdict(self) -> str:
        """In words; a difference counts if it is past SAME and shows in three rounds of four."""
        factor = f"{1 / self.median:.2f}x"
        if self.median < 1 - SAME and self.high < 1:
            return f"pays ({factor})"
        if self.median > 1 + SAME and self.low > 1:
            return f"costs ({factor})"
        return f"makes no clear difference ({factor})"

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class Point(msgspec.Struct, frozen=True):
    """One size, one number ..."""

    x: int
    time: Spread  # of one picture or frame
    ratio: Ratio  # to the first point
    multiply_adds: float | None = None  # of one picture or frame


class Curve(msgspec.Struct, frozen=True):
    label: str
    points: tuple[Point, ...]


class Panel(msgspec.Struct, frozen=True):
    """What grows, and what it makes of the time."""

    name: str
    x: str  # "resolution, px"
    per: str  # "picture" or "frame"
    curves: tuple[Curve, ...]
    checked: str  # what was compared before anything was timed
    tables: tuple[str, ...] = ()  # Markdown, further measurements
    findings: tuple[str, ...] = ()


class Growth(msgspec.Struct, frozen=True):
    """A whole run."""

    created: str
    commit: str
    command: str
    machine: Machine
    versions: dict[str, str]
    load: float | None
    panels: tuple[Panel, ...]


def curve(
    label: str,
    rows: Sequence[tuple[int, Row]],  # x and what was timed there, in rounds with the others
    per_run: Sequence[int] | None = None,  # pictures in one run of each row; None: 1
    multiply_adds: Sequence[float] | None = None,  # of one picture
) -> Curve:
    """Times of one picture, and ratios to the first row."""
    counts = per_run or [1] * len(rows)
    series = [(np.asarray(row.times_ms) / n).tolist() for (_, row), n in zip(rows, counts, strict=True)]
    work: Sequence[float | None] = multiply_adds or [None] * len(rows)
    points = [
        Point(x, Spread.of(own), Ratio.of(own, series[0]), macs)
        for (x, _), own, macs in zip(rows, series, work, strict=True)
    ]
    return Curve(label, tuple(points))


def page(panel: Panel) -> str:
    """One panel as Markdown."""
    lines = [f"## {panel.name}", "", f"Checked first: {panel.checked}", ""]
    counted = any(point.multiply_adds for c in panel.curves for point in c.points)
    lines.append(
        f"| what | {panel.x} | median ms / {panel.per} | min | p95 | jitter | x first (quartiles) |"
        + (" M multiply-adds | work x first |" if counted else "")
    )
    lines.append("|---|--:|--:|--:|--:|--:|--:|" + ("--:|--:|" if counted else ""))
    for c in panel.curves:
        first = c.points[0].multiply_adds
        for point in c.points:
            t = point.time
            cells = f"| {c.label} | {point.x} | {t.median_ms:.2f} | {t.min_ms:.2f} | {t.p95_ms:.2f} | "
            cells += f"{t.jitter_ms:.2f} | {point.ratio} |"
            if counted and point.multiply_adds and first:
                cells += f" {point.multiply_adds / 1e6:.0f} | {point.multiply_adds / first:.2f} |"
            elif counted:
                cells += " - | - |"
            lines.append(cells)
    for table in panel.tables:
        lines += ["", table]
    if panel.findings:
        lines += ["", *(f"- {finding}" for finding in panel.findings)]
    return "\n".join(lines)


def draw(panels: Sequence[Panel], path: Path) -> None:
    """All panels side by side: medians, lines from the shortest to p95, dashed: as multiply-adds grow."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure = Figure(figsize=(10.0, 7.2), dpi=130, layout="constrained")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for index, panel in enumerate(panels):
        axis = figure.add_subplot(2, 2, index + 1)
        spans = [point.x for c in panel.curves for point in c.points]
        for number, c in enumerate(panel.curves):
            color = COLORS[number % len(COLORS)]
            xs = [point.x for point in c.points]
            medians = [p.time.median_ms for p in c.points]
            below = [p.time.median_ms - p.time.min_ms for p in c.points]
            above = [p.time.p95_ms - p.time.median_ms for p in c.points]
            axis.errorbar(
                xs, medians, (below, above), color=color, label=c.label,
                marker="o", markersize=4, elinewidth=0.8, capsize=2,
            )  # fmt: skip
            work = [p.multiply_adds for p in c.points]
            grows = [w for w in work if w]
            if len(grows) == len(work) and grows[-1] > grows[0]:
                start = c.points[0].time.median_ms
                axis.plot(xs, [start * w / grows[0] for w in grows], "--", color=color, linewidth=0.8)
        if _doubles(spans):
            axis.set_xscale("log", base=2)
        if any(p.time.median_ms > 8 * c.points[0].time.median_ms for c in panel.curves for p in c.points):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(plain)
        else:
            axis.set_ylim(0, 1.2 * axis.get_ylim()[1])  # room for the legend
        axis.set_xticks(sorted(set(spans)))
        axis.xaxis.set_major_formatter(plain)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(panel.name, fontsize=10, loc="left")
        axis.set_xlabel(panel.x, fontsize=8)
        axis.set_ylabel(f"ms per {panel.per}", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.legend(fontsize=7, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _doubles(values: Sequence[int]) -> bool:
    """Each value is at least twice the one before, over more than two of them."""
    rising = sorted(set(values))
    return len(rising) > 2 and all(b >= 2 * a for a, b in pairwise(rising))
