"""Frame to edited frame at 1280x720: as compiled, against float32 ONNX Runtime with NumPy pixel kernels.

    doppelgan compile demo
    python -m benchmarks.live_pipeline [--bundle demo] [--input clip.mp4] [--frames 200] [--edit beard=1]
                                       [--composite difference] [--output page.md]
    python -m benchmarks.live_pipeline --each smile=1 hair_color=1 grey=1 glasses=1 beard=1

Both pipelines see the same frames, in turns; the speed-up is the median over frames of the ratio. What
everything outside the networks takes, what the stages take, and how the rate grows with the threads per
network, follow.

--each: several edits by themselves instead, as differences and as compiled, in turns with a pasted face and
with no edit at all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from doppelgan.runtime import native
from doppelgan.runtime.backends import Session
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.edit import parse_edits
from doppelgan.runtime.host.machine import this_machine
from doppelgan.runtime.measure.bench import FRAME_SIZE, Spread, own_clip, read_frames
from doppelgan.runtime.pipeline import Pipeline

from .common import header, publish

WARM_UP = 10


@contextmanager
def numpy_kernels(wanted: bool) -> Iterator[None]:
    """Inside, the pixel kernels are their NumPy/OpenCV twins."""
    kept = native.loading.kernels
    if wanted:
        native.loading.kernels = None
    try:
        yield
    finally:
        native.loading.kernels = kept


class Watched:
    """A session that adds up the seconds of its runs in `spent`."""

    def __init__(self, session: Session, spent: list[float]) -> None:
        self._session, self._spent = session, spent

    def run(self, *arguments: Any, **options: Any) -> Any:
        return self._timed(self._session.run, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._session, name)
        return partial(self._together, value) if name == "run_together" else value

    def _together(self, run: Callable[..., Any], codes: Any, pictures: Any, rows: Any = None) -> None:
        """Choosing rows on the way is none of the network's work."""

        def choose(coarse: Any) -> Any:
            start = time.perf_counter()
            chosen = rows(coarse)
            self._spent.append(start - time.perf_counter())
            return chosen

        self._timed(run, codes, pictures, rows and choose)

    def _timed(self, run: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return run(*arguments, **options)
        finally:
            self._spent.append(time.perf_counter() - start)


def watched(bundle: Bundle, spent: list[float]) -> Bundle:
    """The bundle, its sessions telling when they run."""
    for name in bundle.manifest.networks:
        bundle._sessions[name] = Watched(bundle.session(name), spent)
    return bundle


def timed(pipeline: Pipeline, frame: np.ndarray, spent: list[float]) -> tuple[float, float]:
    """Milliseconds of one frame, and of it outside the networks; ``spent``: that of its watched bundle."""
    spent.clear()
    start = time.perf_counter()
    pipeline.process(frame)
    elapsed = time.perf_counter() - start
    return 1e3 * elapsed, 1e3 * (elapsed - sum(spent))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--input", default="")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--composite", default="difference")
    parser.add_argument("--edit", action="append", default=[], metavar="NAME=STRENGTH")
    parser.add_argument("--each", nargs="+", default=[], metavar="NAME=STRENGTH")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    edits = parse_edits(options.edit or ["beard=1"])
    source = options.input or own_clip(options.bundle)
    if source is None:
        parser.error("the bundle has no clip: pass --input")
    frames = read_frames(source, 120)
    if options.each:
        command = (
            f"python -m benchmarks.live_pipeline --each {' '.join(options.each)} --frames {options.frames}"
        )
        lines = each(options.bundle, options.each, frames, options.frames)
        title = "{}x{} frame to edited frame, edit by edit".format(*FRAME_SIZE)
        publish("\n".join([header(title, command), *lines]), options.output)
        return
    spent: list[float] = []
    chosen: dict[str, Any] = {"composite": options.composite, "edits": edits}
    ours = Pipeline(watched(open_bundle(options.bundle), spent), **chosen)
    other = open_bundle(options.bundle, backend="onnxruntime")
    plain = Pipeline(watched(other, spent), **chosen)
    sides = {
        "as compiled, native kernels": (ours, False),
        "float32 ONNX Runtime, NumPy kernels": (plain, True),
    }
    times: dict[str, list[float]] = {label: [] for label in sides}
    outside: dict[str, list[float]] = {label: [] for label in sides}
    for turn in range(WARM_UP + options.frames):
        turns = list(sides.items())
        for label, (pipeline, slow) in turns if turn % 2 else reversed(turns):
            with numpy_kernels(slow):
                if turn == WARM_UP:
                    pipeline.clock.reset()
                whole_ms, outside_ms = timed(pipeline, frames[turn % len(frames)], spent)
            if turn >= WARM_UP:
                times[label].append(whole_ms)
                outside[label].append(outside_ms)
    lines = [
        "| how | median ms | p95 | p99 | jitter | frames/s | p99 / median |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for label, series in times.items():
        s = Spread.of(series)
        rate = 1e3 * len(series) / sum(series)
        lines.append(
            f"| {label} | {s.median_ms:.1f} | {s.p95_ms:.1f} | {s.p99_ms:.1f} | {s.jitter_ms:.1f} | "
            f"{rate:.1f} | "
            f"{s.p99_ms / s.median_ms:.2f} |"
        )
    measured, reference = (np.asarray(series) for series in times.values())
    lines += ["", f"Speed-up: {np.median(reference / measured):.2f}x (median of {len(measured)} pairs).", ""]
    for label, series in outside.items():
        s = Spread.of(series)
        spread = f"median {s.median_ms:.1f} ms, least {min(series):.1f}, p95 {s.p95_ms:.1f}"
        lines.append(f"Outside the networks, {label}: {spread}.")
    lines.append("")
    for label, (pipeline, _) in sides.items():
        stages = replace(pipeline.clock.report(), interval=None, frames_per_s=None)
        lines += [f"Stages, {label}:", "", stages.table(), ""]
    lines += growth(options.bundle, chosen, frames)
    width, height = FRAME_SIZE
    command = f"python -m benchmarks.live_pipeline --bundle {options.bundle} --frames {options.frames}"
    command += f" --composite {options.composite}"
    command += "".join(f" --edit {name}={strength:g}" for name, strength in edits.items())
    publish("\n".join([header(f"{width}x{height} frame to edited frame", command), *lines]), options.output)


def each(bundle: str, edits: list[str], frames: list[np.ndarray], count: int) -> list[str]:
    """A row for a pasted face, for no edit and for each edit: one frame of each in turns."""
    spent: list[float] = []
    with open_bundle(bundle) as opened:
        watched(opened, spent)
        rows = {"a pasted face, no edit": Pipeline(opened, composite="face"), "no edit": Pipeline(opened)}
        rows |= {edit: Pipeline(opened, parse_edits([edit]), composite="difference") for edit in edits}
        times: dict[str, list[float]] = {label: [] for label in rows}
        outside: dict[str, list[float]] = {label: [] for label in rows}
        for turn in range(WARM_UP + count):
            for label, pipeline in rows.items():
                whole_ms, outside_ms = timed(pipeline, frames[turn % len(frames)], spent)
                if turn >= WARM_UP:
                    times[label].append(whole_ms)
                    outside[label].append(outside_ms)
    lines = [
        "| edit | median ms | p95 | frames/s | times a pasted face | outside the networks, ms |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    face = np.asarray(next(iter(times.values())))
    for label, series in times.items():
        s, ratio = Spread.of(series), np.median(np.asarray(series) / face)
        lines.append(
            f"| {label} | {s.median_ms:.1f} | {s.p95_ms:.1f} | {1e3 / s.median_ms:.1f} | {ratio:.2f} | "
            f"{np.median(outside[label]):.1f} |"
        )
    return lines


def growth(bundle: str, chosen: Mapping[str, Any], frames: list[np.ndarray]) -> list[str]:
    """Frames/s for every number of threads per network, as compiled otherwise."""
    lines = ["| threads per network | median ms | frames/s |", "|--:|--:|--:|"]
    for threads in range(1, this_machine().cores + 1):
        with open_bundle(bundle, threads=threads) as opened:
            pipeline = Pipeline(opened, **chosen)
            series = []
            for turn in range(WARM_UP + 60):
                start = time.perf_counter()
                pipeline.process(frames[turn % len(frames)])
                if turn >= WARM_UP:
                    series.append(1e3 * (time.perf_counter() - start))
        lines.append(f"| {threads} | {np.median(series):.1f} | {1e3 * len(series) / sum(series):.1f} |")
    return lines


if __name__ == "__main__":
    main()
