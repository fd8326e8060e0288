"""Pictures of measurements. Needs the extra ``bench`` (matplotlib), imported only when something is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..bundle.compiled import Measurement, Record
from ..errors import BackendError
from ..host.files import write_whole

_COLORS = ("#30638e", "#d1495b", "#edae49", "#00798c", "#7a5195", "#8d99ae", "#588157", "#bc6c25")


def plot_choices(record: Record, path: Path) -> None:
    """Times of every candidate per network; the chosen ones are filled."""
    figure_of = _pyplot()
    names = [name for name in record.sources if any(_timed(m, name) for m in record.measurements)]
    figure, axes = figure_of(len(names) or 1, width=8.0, row_height=2.2)
    for axis, name in zip(axes, names, strict=False):
        rows = sorted(
            (m for m in record.measurements if _timed(m, name)), key=lambda m: m.median_ms or 0, reverse=True
        )
        labels = [f"{m.backend} {m.precision}, {m.threads} thr." for m in rows]
        choice = record.choices.get(name)
        for index, row in enumerate(rows):
            won = choice is not None and (row.backend, row.precision, row.threads) == (
                choice.backend, choice.precision, choice.threads,
            )  # fmt: skip
            axis.barh(index, row.median_ms, color=_COLORS[0] if won else "#c9d6df")
            axis.text(row.median_ms, index, f" {row.median_ms:.1f} ms", va="center", fontsize=7)
        axis.set_yticks(range(len(rows)), labels, fontsize=7)
        axis.set_title(name, fontsize=9, loc="left")
        axis.margins(x=0.15)
    axes[-1].set_xlabel(f"median, ms · {record.machine.processor}, {record.machine.cores} cores", fontsize=8)
    _save(figure, path)


def plot_latency(
    stages: Mapping[str, Mapping[str, float]],  # stage -> {"median_ms": ..., "p95_ms": ...}, in order
    series_ms: Mapping[str, Sequence[float]],  # label -> durations of frames
    path: Path,
    title: str = "",
) -> None:
    """A waterfall of the stages' medians above the distribution of whole frames."""
    figure_of = _pyplot()
    figure, (top, bottom) = figure_of(2, width=8.0, row_height=2.6)
    start = 0.0
    for index, stage in enumerate(stages.values()):
        top.barh(index, stage["median_ms"], left=start, color=_COLORS[index % len(_COLORS)])
        top.plot([start + stage["p95_ms"]] * 2, [index - 0.4, index + 0.4], color="#444", linewidth=1)
        top.text(start + stage["median_ms"], index, f" {stage['median_ms']:.1f} ms", va="center", fontsize=7)
        start += stage["median_ms"]
    top.set_yticks(range(len(stages)), list(stages), fontsize=8)
    top.invert_yaxis()
    top.margins(x=0.12)
    top.set_xlabel("ms from the frame's start, medians; thin line: p95", fontsize=8)
    top.set_title(title, fontsize=9, loc="left")
    for index, (label, values) in enumerate(series_ms.items()):
        bottom.hist(values, bins=40, histtype="step", label=label, color=_COLORS[index % len(_COLORS)])
    bottom.set_xlabel("one frame, ms", fontsize=8)
    bottom.set_ylabel("frames", fontsize=8)
    if series_ms:
        bottom.legend(fontsize=7)
    _save(figure, path)


def _timed(row: Measurement, name: str) -> bool:
    return row.network == name and row.median_ms is not None


def why_not() -> str:
    """Why nothing can be drawn here; empty if it can."""
    if find_spec("matplotlib") is not None:
        return ""
    return 'expected matplotlib to be installed, got none; run `pip install "doppelgan[bench]"`'


def _pyplot() -> Any:
    """A function ``(rows, width, row_height) -> (figure, axes)`` that opens no window."""
    if missing := why_not():
        raise BackendError(f"plot: {missing}")
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["text.parse_math"] = False  # names of bundles may hold dollars

    def figure_of(rows: int, width: float, row_height: float) -> tuple[Any, list[Any]]:
        figure = Figure(figsize=(width, row_height * rows + 0.4), dpi=130, layout="constrained")
        axes = [figure.add_subplot(rows, 1, index + 1) for index in range(rows)]
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=7)
        return figure, axes

    return figure_of


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:])
    write_whole(path, data.getbuffer())
