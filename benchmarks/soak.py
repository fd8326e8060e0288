"""A long run in which everything changes all the time: memory, threads, descriptors and age stay flat.

    python -m benchmarks.soak [--minutes 15] [--camera-fps 25] [-o PAGE.md]

One process; a live run over the embedded clip at camera pace with a marked output, in turns with file work:
faces come and go, frame sizes change, looks, bundles and edits are switched every few seconds, cameras are
pulled. What is measured begins when every kind of round has been there once.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from doppelgan.runtime import Pipeline, open_bundle
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.mark.marker import Marker
from doppelgan.runtime.pictures.drawing import resized
from doppelgan.runtime.schedule.run import Backoff, run_files, run_live
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.base import Source
from doppelgan.runtime.types import Frame, Image

from .common import header, publish

SIZES = ((640, 480), (320, 240), (480, 640))
ROUND_S = 8.0
KINDS = 12  # rounds until looks, sizes and bundles come in the same combination again
LOOKS = (("photo", "head"), ("toon", "replace"), ("photo", "difference"), ("photo", "face"))


@dataclass(frozen=True, slots=True)
class Sample:
    """State of this process."""

    minute: float
    resident_mb: float
    threads: int
    descriptors: int
    age_p99_ms: float


class Camera(Source):
    """Frames of a clip at camera pace: of changing size, now and then without a face, now and then pulled."""

    name, live = "camera", True

    def __init__(self, frames: list[Image], seconds: float, size: tuple[int, int], fps: float) -> None:
        super().__init__()
        self._frames, self.size, self._index = frames, size, 0
        self.rate = Fraction(fps).limit_denominator(1000)
        self._end = time.monotonic() + seconds

    def _read(self) -> Frame | None:
        time.sleep(float(1 / self.rate))
        if time.monotonic() > self._end:
            return None
        self._index += 1
        if self._index % 41 == 0:
            raise SourceError("camera: pulled")
        image = resized(self._frames[self._index % len(self._frames)], self.size)
        if self._index % 60 > 50:
            image = np.full_like(image, 40)
        return Frame(image, self._index, time.monotonic())

    def reopen(self) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--camera-fps", type=float, default=25, help="fewer leave room for other work")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    bundle = open_bundle("demo")
    clip = bundle.path / bundle.manifest.files["clip"].file
    with open_source(str(clip)) as source:
        frames = [frame.image for frame in source][:150]
    start, samples, rounds = time.monotonic(), list[Sample](), 0
    directions = list(bundle.directions)
    with tempfile.TemporaryDirectory() as scratch:
        while time.monotonic() - start < 60 * options.minutes:
            style, composite = LOOKS[rounds % len(LOOKS)]
            if rounds % 4 == 3:  # another bundle, as far as memory knows
                bundle.close()
                bundle = open_bundle("demo")
            edits = {directions[rounds % len(directions)]: 0.8}
            pipeline = Pipeline(bundle, edits, style=style, composite=composite, marker=Marker())
            camera = Camera(frames, ROUND_S, SIZES[rounds % len(SIZES)], options.camera_fps)
            age_ms = live(pipeline, camera, Path(scratch) / "live.mp4")
            if rounds % 2:
                convert(pipeline, frames[:20], Path(scratch) / "file.mp4")
            del pipeline
            gc.collect()
            rounds += 1
            samples.append(
                Sample(
                    (time.monotonic() - start) / 60,
                    _resident_mb(),
                    sum(1 for _ in Path("/proc/self/task").iterdir()),  # native ones, too
                    sum(1 for _ in Path("/proc/self/fd").iterdir()),
                    age_ms,
                )
            )
            print(samples[-1], flush=True)
    command = f"python -m benchmarks.soak --minutes {options.minutes:g} --camera-fps {options.camera_fps:g}"
    publish(header("Soak", command) + "\n" + table(samples), options.output)
    return 0


def live(pipeline: Pipeline, camera: Camera, target: Path) -> float:
    """One round of live work; the 99th percentile of the age of what was shown, in ms."""

    def process(frame: Frame) -> Frame:
        return Frame(pipeline.process(frame.image, frame.time_s), frame.index, frame.time_s)

    report = run_live(camera, process, open_sink(target, like=camera), backoff=Backoff(0.01, 1, 0.01))
    target.unlink(missing_ok=True)
    return next((stage.p99_ms for stage in report.timing.stages if stage.name == "age"), float("nan"))


def convert(pipeline: Pipeline, frames: list[Image], target: Path) -> None:
    """One round of file work, in and out."""
    with open_sink(target, rate=25) as sink:
        for index, image in enumerate(frames):
            sink.write(Frame(image, index, index / 25))
    edited = target.with_name("edited.mp4")
    source = open_source(str(target))
    pipeline.reset()

    def process(frame: Frame) -> Frame:
        return Frame(pipeline.process(frame.image, frame.time_s), frame.index, frame.time_s)

    run_files(source, process, open_sink(edited, like=source))
    target.unlink()
    edited.unlink()


def table(samples: list[Sample]) -> str:
    lines = ["| minute | resident MB | threads | descriptors | age p99 ms |", "|--:|--:|--:|--:|--:|"]
    step = max(1, len(samples) // 12)
    lines += [
        f"| {s.minute:.1f} | {s.resident_mb:.0f} | {s.threads} | {s.descriptors} | {s.age_p99_ms:.0f} |"
        for s in samples[::step]
    ]
    warm = samples[KINDS:]
    if len(warm) < 2 * KINDS:
        return "\n".join([*lines, f"\nToo short to tell: {len(samples)} rounds, of {3 * KINDS} at least"])
    # A round's memory is that of its picture and network: by some 30 MB more or less. Thirds even that out.
    third = len(warm) // (3 * KINDS) * KINDS or KINDS
    end = len(warm) - len(warm) % KINDS
    first, last = warm[:third], warm[end - third : end]  # the same kinds of rounds
    memory = [float(np.mean([s.resident_mb for s in part])) for part in (first, last)]
    ages = [float(np.median([s.age_p99_ms for s in part])) for part in (first, last)]
    growth = 100 * (memory[1] / memory[0] - 1)
    lines.append(
        f"\nThe first {KINDS} rounds warm up. From the next {third} to the last {third} of the same kinds, "
        f"{last[-1].minute - first[-1].minute:.0f} min later: memory {memory[0]:.1f} to {memory[1]:.1f} MB "
        f"({growth:+.2f} %), threads {first[-1].threads} to {last[-1].threads}, descriptors "
        f"{first[-1].descriptors} to {last[-1].descriptors}, age p99 {ages[0]:.0f} to {ages[1]:.0f} ms"
    )
    return "\n".join(lines)


def _resident_mb() -> float:
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
