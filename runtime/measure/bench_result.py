"""The figures of one ``doppelgan bench``: their JSON, which ``--against`` reads back, and their page.

A figure more is a field of ``Subject``, ``NetworkRow`` or ``Spread``, a column in ``markdown``, and where
``bench.py`` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..drift import Drift
from ..errors import BundleError
from ..host.files import NOT_JSON, json_file
from ..host.machine import Machine
from .energy import NOT_TOLD

FORMAT = "doppelgan-bench"
VERSION = 1


class Spread(msgspec.Struct, frozen=True):
    """Statistics of one series of durations."""

    count: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    jitter_ms: float
    min_ms: float

    @classmethod
    def of(cls, series_ms: Sequence[float]) -> Spread:
        values = np.asarray(series_ms, np.float64)
        median, p95, p99 = (float(v) for v in np.percentile(values, (50, 95, 99)))
        jitter = float(np.abs(np.diff(values)).mean()) if len(values) > 1 else 0.0
        return cls(len(values), median, p95, p99, jitter, float(values.min()))


class NetworkRow(msgspec.Struct, frozen=True):
    """One network of one subject."""

    computes: str  # "openvino CPU f32"
    precision: str
    time: Spread
    gflop: float | None = None
    drift: Drift | None = None  # against the bundle's float32 file in ONNX Runtime


class FrameEnergy(msgspec.Struct, frozen=True):
    """Energy of frames one after the other; everything that runs on the device is in it."""

    joules: float  # of one frame
    watts: float  # mean over the frames
    idle_watts: float | None  # just before, with the networks loaded
    frames: int
    rails: dict[str, float]  # mean watts of each rail that was added up


class Subject(msgspec.Struct, frozen=True):
    """One measured side."""

    bundle: str
    setup: str  # "as compiled", "onnxruntime" ...
    networks: dict[str, NetworkRow]
    frame: Spread | None = None  # end to end
    stages: dict[str, dict[str, float]] = {}
    frames_per_s: float | None = None
    frames_with_face: int = 0
    memory_mb: float | None = None
    energy: FrameEnergy | None = None  # where the device tells
    frame_ms: tuple[float, ...] = ()  # the series behind ``frame``


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    format: str
    version: int
    created: str
    commit: str
    machine: Machine
    versions: dict[str, str]
    policy: str
    load: float | None  # average of the minute before: above the number of cores, figures are of little use
    subjects: dict[str, Subject]
    ratios: dict[str, float] = {}  # "network:synthesis", "frame": first subject's time over the second's
    paired: bool = True
    energy: str = NOT_TOLD  # where energy comes from


def read_result(path: Path) -> Result:
    """An earlier run. Raises BundleError."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, *NOT_JSON) as error:
        raise BundleError(f"{path}: expected the JSON of an earlier `doppelgan bench`, got {error}") from None
    if result.format != FORMAT or result.version != VERSION:
        raise BundleError(
            f"{path}: expected {FORMAT} {VERSION}, got {result.format} {result.version}; measure again"
        )
    if not result.subjects:
        raise BundleError(f"{path}: expected a measured bundle, got none; measure again")
    return result


def write_result(result: Result) -> bytes:
    """Indented JSON."""
    return json_file(result)


def markdown(result: Result) -> str:
    """The run as a page: machine, tables, ratios."""
    machine = result.machine
    lines = [
        f"# Benchmark, {', '.join(result.subjects)}",
        "",
        f"{result.created} · commit {result.commit or 'unknown'} · "
        f"{machine.processor}, {machine.cores} cores, "
        f"{machine.system} ({', '.join(machine.instructions) or 'no notable instructions'})",
        "",
        " · ".join(f"{name} {number}" for name, number in result.versions.items()),
        "",
        f"Policy: {result.policy}. Load before the run: "
        + (f"{result.load:.1f} on {machine.cores} cores." if result.load is not None else "not told."),
        "",
        "| network | subject | computes | precision | median ms | p95 | p99 | jitter | GFLOP/s | drift |",
        "|---|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for label, subject in result.subjects.items():
        for name, row in subject.networks.items():
            rate = f"{1e3 * row.gflop / row.time.median_ms:.0f}" if row.gflop else "-"
            t = row.time
            lines.append(
                f"| {name} | {label} | {row.computes} | {row.precision} | "
                f"{t.median_ms:.2f} | {t.p95_ms:.2f} | "
                f"{t.p99_ms:.2f} | {t.jitter_ms:.2f} | {rate} | {row.drift or '-'} |"
            )
    if any(subject.frame for subject in result.subjects.values()):
        lines += [
            "",
            "| end to end | median ms | p95 | p99 | jitter | frames/s | faces | memory MB | J / frame | W |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for label, subject in result.subjects.items():
            f = subject.frame
            if f is not None:
                energy = "- | -"
                if subject.energy is not None:
                    energy = f"{subject.energy.joules:.3f} | {subject.energy.watts:.1f}"
                lines.append(
                    f"| {label} | {f.median_ms:.2f} | {f.p95_ms:.2f} | {f.p99_ms:.2f} | {f.jitter_ms:.2f} | "
                    f"{subject.frames_per_s or 0:.1f} | {subject.frames_with_face}/{f.count} | "
                    f"{subject.memory_mb or 0:.0f} | {energy} |"
                )
        lines += ["", f"Energy: {result.energy}."]
        lines += ["", "| stage | subject | median ms | p95 | share |", "|---|---|--:|--:|--:|"]
        for label, subject in result.subjects.items():
            total = sum(stage["median_ms"] for stage in subject.stages.values()) or 1.0
            for name, stage in subject.stages.items():
                lines.append(
                    f"| {name} | {label} | {stage['median_ms']:.2f} | {stage['p95_ms']:.2f} | "
                    f"{stage['median_ms'] / total:.0%} |"
                )
    if result.ratios:
        how = (
            "median of pairs measured in turns"
            if result.paired
            else "medians of two separate runs: not paired"
        )
        first, second = list(result.subjects)[:2]
        lines += ["", f"Time of {second} over time of {first} ({how}; above 1: {first} is faster):", ""]
        lines += [f"- {name}: {ratio:.2f}x" for name, ratio in result.ratios.items()]
    return "\n".join([*lines, ""])
