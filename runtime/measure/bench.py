"""Measure a bundle: every network alone, and whole frames from picture to edited picture.

Policy, the same for every figure: ``warm_up`` runs are not counted, everything after them is, no outlier is
dropped; medians stand beside p95, p99 and jitter (mean of ``|d[i] - d[i-1]|``) so that spread shows. Two
subjects are run in turns, A B B A, and compared pair by pair: ``ratio`` is the median of B's duration over
A's in the same round, so a machine that slows down for a while slows both.

What is measured is kept and shown by ``bench_result.py``; a comparison with an earlier run is not paired and
says so.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.reader import Bundle, open_bundle
from ..drift import measure
from ..errors import SourceError
from ..host.machine import load_average, memory_mb, this_machine, versions
from ..pictures.drawing import resized
from ..pipeline import Pipeline
from ..source import open_source
from ..timing import StageReport
from ..types import Announce, Image
from .bench_result import (
    FORMAT,
    VERSION,
    FrameEnergy,
    NetworkRow,
    Result,
    Spread,
    Subject,
    markdown,
    read_result,
    write_result,
)
from .energy import NOT_TOLD, EnergyReader
from .network_inputs import sample_inputs
from .turns import time_in_turns, time_sessions

__all__ = [
    "FRAME_SIZE",
    "Result",
    "Spread",
    "commit",
    "first_edit",
    "markdown",
    "own_clip",
    "read_frames",
    "read_result",
    "run_bench",
    "write_result",
]

FRAME_SIZE = (1280, 720)
DRIFT_SAMPLES = 8  # a reminder; `doppelgan compile` checks 64
ENERGY_S = 3.0  # of frames, and IDLE_S of none before them
IDLE_S = 1.0
_PAUSE_S = 0.002


@dataclass
class _Side:
    label: str
    setup: str
    bundle: Bundle
    pipeline: Pipeline | None = None
    frame_ms: list[float] = field(default_factory=list)
    rows: dict[str, NetworkRow] = field(default_factory=dict)
    energy: FrameEnergy | None = None
    faces: int = 0
    stages: tuple[StageReport, ...] = ()


def run_bench(
    bundle: str | Path,
    *,
    against: str | None = None,  # another bundle, a backend, "float32", or an earlier run's JSON
    backend: str | None = None,
    threads: int | None = None,
    frames: Sequence[Image] | None = None,  # None: only the networks
    runs: int = 60,
    warm_up: int = 5,
    drift: bool = True,
    report: Announce = lambda step: None,
    energy: EnergyReader | None = None,  # None: of this device
    **settings: Any,  # of Pipeline
) -> Result:
    """Measure, alone or in turns with ``against``. Raises DoppelganError for what cannot be opened."""
    earlier = read_result(Path(against)) if against is not None and Path(against).suffix == ".json" else None
    load = load_average()
    energy = energy or EnergyReader()
    with ExitStack() as stack:
        sides = [_open_side(bundle, backend, threads, stack)]
        if against is not None and earlier is None:
            sides.append(_open_against(bundle, against, threads, stack))
        if frames is not None:  # before the networks are timed: a wrong style or edit is refused at once
            for side in sides:
                edits = first_edit(side.bundle) if settings.get("edits") is None else settings["edits"]
                side.pipeline = Pipeline(side.bundle, **{**settings, "edits": edits})
        ratios: dict[str, float] = {}
        for name in sides[0].bundle.manifest.networks:
            both = [side for side in sides if name in side.bundle.manifest.networks]
            report(f"{name}: {runs} runs")
            series = _time_network(both, name, runs, warm_up)
            for side, values in zip(both, series, strict=True):
                side.rows[name] = _row(side, name, values, drift)
            if len(series) == 2:
                ratios[f"network:{name}"] = _ratio(*series)
        if frames is not None:
            report(f"end to end: {runs} frames of {frames[0].shape[1]}x{frames[0].shape[0]}")
            _time_frames(sides, frames, runs, warm_up)
            for side in sides:
                side.energy = _frame_energy(side, frames, energy)
            if len(sides) == 2:
                ratios["frame"] = _ratio(sides[0].frame_ms, sides[1].frame_ms)
        subjects = {side.label: _subject(side) for side in sides}
    if earlier is not None:
        label = next(iter(earlier.subjects))
        subjects[f"{label}, {earlier.created}"] = earlier.subjects[label]
        ratios = _unpaired(*subjects.values())
    return Result(
        format=FORMAT,
        version=VERSION,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit(),
        machine=this_machine(),
        versions=versions(),
        load=load,
        policy=f"{warm_up} warm-up runs not counted, then {runs} runs, none dropped"
        + ("; two subjects in turns" if len(sides) == 2 else ""),
        subjects=subjects,
        ratios=ratios,
        paired=earlier is None,
        energy=_energy_source(sides, energy),
    )


def read_frames(text: str, count: int = 60, size: tuple[int, int] = FRAME_SIZE) -> list[Image]:
    """Up to ``count`` frames of a picture, clip or pattern, fitted into ``size`` with black bars."""
    with open_source(text) as source:
        frames = [_fitted(np.asarray(frame.image), size) for frame in islice(source.displayed(), count)]
    if not frames:
        raise SourceError(f"{text}: expected at least one frame, got none; choose another input")
    return frames


def own_clip(bundle: str | Path) -> str | None:
    """The clip that the bundle carries, if it carries one."""
    with open_bundle(bundle, verify=False) as opened:
        entry = opened.manifest.files.get("clip")
        return None if entry is None else str(opened.path / entry.file)


def first_edit(bundle: Bundle) -> dict[str, float]:
    """What is measured where nothing else was asked for: the bundle's first direction, at its upper end."""
    return {name: direction.range[1] for name, direction in list(bundle.directions.items())[:1]}


def commit() -> str:
    """Short commit of the checkout this runs from, with a + if files differ; empty outside of one."""
    where = Path(__file__).resolve().parent
    try:
        completed = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            cwd=where, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return completed.stdout.strip()


def _open_side(bundle: str | Path, backend: str | None, threads: int | None, stack: ExitStack) -> _Side:
    opened = stack.enter_context(open_bundle(bundle, backend=backend, threads=threads))
    setup = backend or ("as compiled" if opened.compiled is not None else "onnxruntime")
    return _Side(f"{opened.manifest.name} {setup}", setup, opened)


def _open_against(bundle: str | Path, against: str, threads: int | None, stack: ExitStack) -> _Side:
    from ..backends import BACKENDS

    if against == "float32" or against in BACKENDS:
        name = "onnxruntime" if against == "float32" else against
        opened = stack.enter_context(open_bundle(bundle, backend=name, threads=threads))
        return _Side(f"{opened.manifest.name} {name} float32", name, opened)
    opened = stack.enter_context(open_bundle(against, threads=threads))
    return _Side(f"{opened.manifest.name} ({opened.path})", "", opened)


def _time_network(sides: Sequence[_Side], name: str, runs: int, warm_up: int) -> list[list[float]]:
    work = [(side.bundle.session(name), sample_inputs(side.bundle, name, 4)) for side in sides]
    return time_sessions(work, runs, warm_up=warm_up, pause_s=_PAUSE_S)


def _row(side: _Side, name: str, series: Sequence[float], with_drift: bool) -> NetworkRow:
    network = side.bundle.manifest.networks[name]
    compiled = side.bundle.compiled
    choice = None if compiled is None else compiled.choice(name, side.bundle.manifest)
    drift = None
    if with_drift:
        with open_bundle(side.bundle.path, compiled=False, verify=False) as plain:
            feeds = sample_inputs(plain, name, DRIFT_SAMPLES, seed=3)
            output = plain.session(name).outputs[0].name
            reference = [plain.session(name).run(one)[output] for one in feeds]
        got = [side.bundle.session(name).run(one)[output] for one in feeds]
        drift = measure(reference, got, image=name in side.bundle.manifest.generators.values())
    return NetworkRow(
        computes=side.bundle.session(name).backend,
        precision=network.precision if choice is None else choice.precision,
        time=Spread.of(series),
        gflop=network.gflop,
        drift=drift,
    )


def _time_frames(sides: Sequence[_Side], frames: Sequence[Image], runs: int, warm_up: int) -> None:
    def processing(side: _Side) -> Callable[[int], object]:
        assert side.pipeline is not None
        pipeline = side.pipeline

        def process(number: int) -> None:
            if number == warm_up:
                pipeline.clock.reset()
            pipeline.process(frames[number % len(frames)])
            side.faces += bool(pipeline.people) and number >= warm_up

        return process

    work = [processing(side) for side in sides]
    series = time_in_turns(work, runs, warm_up=warm_up, pause_s=0.0)
    for side, times_ms in zip(sides, series, strict=True):
        assert side.pipeline is not None
        side.frame_ms += times_ms
        side.stages = side.pipeline.clock.report().stages


def _frame_energy(side: _Side, frames: Sequence[Image], energy: EnergyReader) -> FrameEnergy | None:
    """Mean over ENERGY_S of frames; at once None where nothing tells."""
    pipeline, count = side.pipeline, 0
    assert pipeline is not None
    idle = energy.measure(lambda: time.sleep(IDLE_S)) if energy.tells else None
    if idle is None:
        return None

    def work() -> None:
        nonlocal count
        end_s = time.perf_counter() + ENERGY_S
        while time.perf_counter() < end_s:
            pipeline.process(frames[count % len(frames)])
            count += 1

    busy = energy.measure(work)
    if busy is None:
        return None
    return FrameEnergy(busy.joules / count, busy.watts, idle.watts, count, busy.rails)


def _energy_source(sides: Sequence[_Side], energy: EnergyReader) -> str:
    missing = f" ({energy.missing})" if energy.missing else ""
    measured = [side.energy for side in sides if side.energy is not None]
    if not measured:
        return NOT_TOLD + missing
    return (
        f"{' + '.join(measured[0].rails)}{missing}; mean over {ENERGY_S:g} s of frames one after the other, "
        f"{measured[0].idle_watts:.1f} W of the idle device included"
    )


def _subject(side: _Side) -> Subject:
    stages: dict[str, dict[str, float]] = {}
    frame = None
    if side.pipeline is not None:
        frame = Spread.of(side.frame_ms)
        for stage in side.stages:
            stages[stage.name] = {
                "median_ms": stage.median_ms, "p95_ms": stage.p95_ms, "p99_ms": stage.p99_ms,
                "jitter_ms": stage.jitter_ms,
            }  # fmt: skip
    count = len(side.frame_ms) or 1
    return Subject(
        bundle=side.bundle.manifest.name,
        setup=side.setup,
        networks=side.rows,
        frame=frame,
        stages=stages,
        frames_per_s=1e3 * count / sum(side.frame_ms) if side.frame_ms else None,
        frames_with_face=side.faces,
        memory_mb=memory_mb(),
        energy=side.energy,
        frame_ms=tuple(side.frame_ms),
    )


def _ratio(first: Sequence[float], second: Sequence[float]) -> float:
    return float(np.median(np.asarray(second) / np.asarray(first)))


def _unpaired(first: Subject, second: Subject) -> dict[str, float]:
    ratios = {
        f"network:{name}": second.networks[name].time.median_ms / row.time.median_ms
        for name, row in first.networks.items()
        if name in second.networks
    }
    if first.frame is not None and second.frame is not None:
        ratios["frame"] = second.frame.median_ms / first.frame.median_ms
    return ratios


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    fitted = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    fitted[top : top + inner[1], left : left + inner[0]] = resized(image, inner)
    return fitted
