"""With `replace` no unprocessed frame is ever shown, whatever happens.

Every frame of the source carries a secret pattern. A frame that comes out and correlates with it shows
something of the camera's picture.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from doppelgan.runtime import pipeline as pipeline_module
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.cli.live import command as live
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.mark.marker import Marker
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.schedule.run import Backoff, hold, no_signal, passthrough, run_live
from doppelgan.runtime.sink.base import Sink
from doppelgan.runtime.source.base import Source
from doppelgan.runtime.types import Frame, Image

from .test_pipeline import KnowingTracker, knowing

SIZES = ((160, 120), (200, 120))  # width, height
HINT = 0.03  # correlation from which on something shows; by chance it stays within 0.01 or so
FRAMES = 60


def secret(size: tuple[int, int]) -> np.ndarray:
    """+1 and -1 for every pixel of a frame."""
    return np.random.default_rng(size[0]).integers(0, 2, (size[1], size[0], 1)) * 2 - 1


def patterned(size: tuple[int, int], shade: int) -> Image:
    return np.clip(np.array([60, 90, 150]) + shade % 20 + 30 * secret(size), 1, 255).astype(np.uint8)


def shown_of(image: Image) -> float:
    """Correlation with the camera's pattern, 0..1."""
    pattern = secret((image.shape[1], image.shape[0]))
    apart = image.astype(float) - image.mean(axis=(0, 1))
    spread = apart.std()
    return float(abs((apart * pattern).mean()) / spread) if spread > 1e-6 else 0.0


class PatternedSource(Source):
    """Patterned frames; ``fault`` says what happens at each index: an error, a size, a face that is away."""

    name, rate, live = "patterned", Fraction(30), True
    size = SIZES[0]

    def __init__(self, fault: Callable[[int], Any] = lambda index: None, frames: int = FRAMES) -> None:
        super().__init__()
        self._fault, self._left, self._index = fault, frames, 0

    def _read(self) -> Frame | None:
        if not self._left:
            return None
        self._left -= 1
        self._index += 1
        time.sleep(0.002)
        what = self._fault(self._index)
        if isinstance(what, Exception):
            raise what
        size = what if isinstance(what, tuple) else self.size
        image = patterned(size, self._index)
        if what == "away":
            image[0, 0] = 0  # what the tracker below takes for "no face"
        return Frame(image, self._index, time.monotonic())

    def reopen(self) -> None:
        if random.random() < 0.3:
            raise SourceError("patterned: still gone")


class SlowToReturn(PatternedSource):
    """Away long enough, each time, for what is shown of a lost camera to be shown."""

    def reopen(self) -> None:
        time.sleep(0.1)


class Watcher(Sink):
    name = "watcher"

    def __init__(self, slow_s: float = 0.0) -> None:
        super().__init__()
        self.worst, self._slow_s = 0.0, slow_s

    def _write(self, frame: Frame) -> None:
        self.worst = max(self.worst, shown_of(frame.image))
        time.sleep(self._slow_s)


class ForgetfulTracker(KnowingTracker):
    """Sees a face unless the first pixel is black."""

    def update(self, image: Image, time_s: float) -> list[Any]:
        return super().update(image, time_s) if image[0, 0].any() else []


@pytest.fixture
def bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    opened = knowing(open_bundle(tiny_bundle), monkeypatch)
    monkeypatch.setattr(pipeline_module, "Tracker", ForgetfulTracker)
    return opened


def watch(bundle: Bundle, source: Source, sink: Watcher | None = None, **options: Any) -> Watcher:
    settings = {"composite": "replace", "marker": Marker("avatar"), **options.pop("pipeline", {})}
    pipeline, sink = Pipeline(bundle, **settings), sink or Watcher()
    change = options.pop("change", lambda pipeline, index: None)

    def process(frame: Frame) -> Frame:
        change(pipeline, frame.index)
        return Frame(pipeline.process(frame.image, frame.time_s), frame.index, frame.time_s)

    options.setdefault("on_lost", no_signal)
    run_live(source, process, sink, backoff=Backoff(0.001, 1.5, 0.005), tick_s=0.005, **options)
    return sink


def test_the_pattern_is_seen_where_the_camera_is_shown(bundle: Bundle) -> None:
    """A check that cannot fail proves nothing."""
    assert watch(bundle, PatternedSource(), pipeline={"composite": "head"}).worst > 0.3
    pulled = SlowToReturn(lambda index: SourceError("gone") if index % 7 == 0 else None)
    assert watch(bundle, pulled, on_lost=passthrough).worst > 0.3
    assert watch(bundle, PatternedSource(lambda index: "away"), pipeline={"when_lost": "frame"}).worst > 0.3


@pytest.mark.parametrize("on_lost", [no_signal, hold])
def test_a_camera_that_is_pulled_a_hundred_times(bundle: Bundle, on_lost: Any) -> None:
    source = PatternedSource(lambda index: SourceError("gone") if index % 3 == 0 else None, frames=300)
    sink = watch(bundle, source, on_lost=on_lost)
    assert sink.frames > 20
    assert sink.worst < HINT


@pytest.mark.parametrize(
    "fault",
    [
        lambda index: "away" if index % 5 else None,
        lambda index: "away" if index < 30 else None,  # nobody yet
        lambda index: "away",
        lambda index: SIZES[index // 4 % 2],
        lambda index: ("away", None, SIZES[1], SourceError("gone"))[index * 7 % 11 % 4],
    ],
    ids=["away now and then", "nobody at first", "nobody at all", "sizes", "everything"],
)
def test_faces_that_come_and_go_and_sizes_that_change(bundle: Bundle, fault: Any) -> None:
    sink = watch(bundle, PatternedSource(fault))
    assert sink.frames > 5
    assert sink.worst < HINT


def test_a_slow_consumer_and_a_clock_that_jumps(bundle: Bundle) -> None:
    jumps = itertools.cycle([0.0, 5.0, -3.0, 0.0, 1e6, -1e6])
    sink = watch(
        bundle, PatternedSource(), Watcher(slow_s=0.02), now_s=lambda: time.monotonic() + next(jumps)
    )
    assert sink.frames > 5
    assert sink.worst < HINT


def test_looks_that_are_switched_and_resets_while_it_runs(bundle: Bundle) -> None:
    def change(pipeline: Pipeline, index: int) -> None:
        pipeline.style = ("photo", "toon")[index // 3 % 2]
        pipeline.edits = {"red": (index % 5 - 2) / 2}
        if index % 11 == 0:
            pipeline.reset()

    sink = watch(bundle, PatternedSource(lambda index: "away" if index % 11 < 2 else None), change=change)
    assert sink.frames > 5
    assert sink.worst < HINT


def test_a_composite_that_is_switched_from_another_thread(bundle: Bundle) -> None:
    """Whichever of both a frame is made with: never a frame without either."""
    pipeline = Pipeline(bundle, composite="replace", marker=Marker("avatar"))
    ended = threading.Event()

    def switch() -> None:
        while not ended.is_set():
            pipeline.composite = "replace"

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        worst = max(shown_of(pipeline.process(patterned(SIZES[0], n), n / 30)) for n in range(40))
    finally:
        ended.set()
        thread.join()
    assert worst < HINT


def test_an_error_in_the_networks_ends_the_run_and_shows_nothing(bundle: Bundle) -> None:
    def change(pipeline: Pipeline, index: int) -> None:
        if index > 20:
            raise RuntimeError("out of memory")

    sink = Watcher()
    with pytest.raises(RuntimeError, match="out of memory"):
        watch(bundle, PatternedSource(), sink, change=change)
    assert sink.worst < HINT


def test_the_command_refuses_to_show_the_camera_beside_replace() -> None:
    result = CliRunner().invoke(
        live, ["-i", "test:", "--to", "null:", "-c", "replace", "--on-lost", "passthrough"]
    )
    assert result.exit_code == 2
    assert "promises never to" in result.output
