"""Capture, inference and output at the same time.

::

    source -> [capture thread] -> queue -> [process thread] -> queue -> sinks, in the caller's thread

Files (``run_files``): queues of a few frames; a full queue makes the stage before it wait, so every frame
arrives, in order. Live (``run_live``): each queue holds one frame and a newer one replaces it, so
that what is shown is as fresh as the machine allows; replaced frames are counted.

Both own the source and the sinks from the call on and close them, whatever happens. An exception in any
stage stops all and is raised in the caller. Ctrl-C, SIGTERM and SIGHUP take effect between two
frames, and files are completed before KeyboardInterrupt goes on; a second Ctrl-C does not wait.

A live run is always in one of three states, by the age of the newest finished frame:

=====  ==================================  ===============================================
live   younger than 0.5 s                  frames are shown as they come
stale  0.5 s to 2 s, or none yet           the last frame stays
lost   older, or the source has failed     what ``on_lost`` makes: "no signal" by default
=====  ==================================  ===============================================

Nothing here shows an unprocessed frame unless ``on_lost`` is ``passthrough``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import SourceError
from ..sink.base import Sink
from ..source.base import Source
from ..timing import Clock, Report
from ..types import Frame, Image
from .threads import TICK_S, Ended, Queue, Stages
from .watchdog import Backoff, Lost, State, Watchdog, hold, no_signal, passthrough

__all__ = [
    "Backoff",
    "FilesReport",
    "LiveReport",
    "Lost",
    "Process",
    "Progress",
    "State",
    "Watchdog",
    "hold",
    "no_signal",
    "passthrough",
    "run_files",
    "run_live",
]

Process = Callable[[Frame], Frame]
QUEUE_FRAMES = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run over a file is."""

    frames: int  # written
    total: int | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class FilesReport:
    """What a finished run did. Stages: read, process, write."""

    frames: int
    elapsed_s: float
    timing: Report


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What a finished live run did. Stages: read, process, write; age: capture to output."""

    captured: int
    processed: int
    written: int  # finished frames; repeated and "no signal" frames are not counted
    dropped: int  # captured or processed, but overtaken by a newer one
    reconnects: int
    timing: Report


def run_files(
    source: Source,
    process: Process,
    sinks: Sink | Sequence[Sink],
    on_progress: Callable[[Progress], None] | None = None,  # in the caller's thread, after every frame
    *,
    clock: Clock | None = None,
    stop: threading.Event | None = None,  # set from outside: end early, complete the files
    depth: int = QUEUE_FRAMES,
) -> FilesReport:
    """Every frame of ``source`` through ``process`` into every sink, in order."""
    sinks = [sinks] if isinstance(sinks, Sink) else list(sinks)
    clock = clock or Clock()
    read, processed = Queue[Frame](depth), Queue[Frame](depth)
    started_s = time.monotonic()
    frames = 0

    def capture() -> None:
        while True:
            with clock.stage("read"):
                frame = next(source, None)
            if frame is None or not read.put(frame):
                return

    def work() -> None:
        for frame in read:
            with clock.stage("process"):
                result = process(frame)
            if not processed.put(result):
                return

    with Stages(source, sinks, (read, processed)) as stages:
        stages.start("capture", capture, read)
        stages.start("process", work, processed)
        try:
            while not (stop and stop.is_set()) and not any(sink.stopped for sink in sinks):
                stages.check()
                try:
                    frame = processed.get(TICK_S)
                except Ended:
                    break
                if frame is None:
                    for sink in sinks:
                        sink.poll()
                    continue
                with clock.stage("write"):
                    for sink in sinks:
                        sink.write(frame)
                frames += 1
                clock.frame()
                if on_progress is not None:
                    on_progress(Progress(frames, source.frame_count, time.monotonic() - started_s))
            stages.check()
        except Exception:
            # What was written is no whole result and must not look like one. Ctrl-C is somebody's wish.
            for sink in sinks:
                sink.broken_off = True
            raise
    return FilesReport(frames, time.monotonic() - started_s, clock.report())


def run_live(
    source: Source,
    process: Process,
    sinks: Sink | Sequence[Sink],
    *,
    watchdog: Watchdog | None = None,
    on_lost: Callable[[Lost], Image | None] = no_signal,  # None: write nothing
    on_state: Callable[[State, str], None] | None = None,  # new state and why, in the caller's thread
    backoff: Backoff | None = None,
    clock: Clock | None = None,
    stop: threading.Event | None = None,  # set from outside: end
    tick_s: float = TICK_S,  # how often the last or lost frame is repeated
    now_s: Callable[[], float] = time.monotonic,
) -> LiveReport:
    """The newest frame of ``source`` through ``process`` into every sink, until source, sink or ``stop`` end.

    A live source that fails is reopened after the waits of ``backoff``; SourceError is raised when those
    are used up, or at once if the source is not live.
    """
    run = _LiveRun(
        source,
        process,
        [sinks] if isinstance(sinks, Sink) else list(sinks),
        watchdog or Watchdog(),
        backoff or Backoff(),
        on_lost,
        on_state,
        clock or Clock(),
        now_s,
    )
    return run.until(stop, tick_s)


@dataclass(eq=False)
class _LiveRun:
    """One :func:`run_live`: ``capture`` and ``work`` in threads of their own, ``show`` in the caller's."""

    source: Source
    process: Process
    sinks: Sequence[Sink]
    watchdog: Watchdog
    backoff: Backoff
    on_lost: Callable[[Lost], Image | None]
    on_state: Callable[[State, str], None] | None
    clock: Clock
    now_s: Callable[[], float]

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        self.captured = Queue[tuple[Frame, float]](1, newest=True)
        self.results = Queue[tuple[Frame, float]](1, newest=True)
        self.processed = self.written = self.reconnects = 0
        self.newest: Frame | None = None  # captured
        self.shown: Frame | None = None  # the last finished one
        self.shown_s = self.now_s()
        self.state: State | None = None
        self.index = 0  # of what is written next

    def until(self, stop: threading.Event | None, tick_s: float) -> LiveReport:
        self.watchdog.start(self.shown_s)
        with Stages(self.source, self.sinks, (self.captured, self.results), self.ended) as stages:
            stages.start("capture", self.capture, self.captured)
            stages.start("process", self.work, self.results)
            while not (stop and stop.is_set()) and not any(sink.stopped for sink in self.sinks):
                stages.check()
                try:
                    result = self.results.get(tick_s)
                except Ended:
                    break
                self.show(result)
        return LiveReport(
            captured=self.captured.count,
            processed=self.processed,
            written=self.written,
            dropped=self.captured.dropped + self.results.dropped,
            reconnects=self.reconnects,
            timing=self.clock.report(),
        )

    def capture(self) -> None:
        while not self.ended.is_set():
            try:
                with self.clock.stage("read"):
                    frame = next(self.source, None)
            except SourceError as error:
                if not self.source.live:
                    raise
                if not self.reconnect(error):
                    return
                continue
            if frame is None:
                return
            self.newest = frame
            self.captured.put((frame, self.now_s()))

    def reconnect(self, error: SourceError) -> bool:
        """Whether the source gives frames again; False where the run ends meanwhile."""
        for delay_s in self.backoff.delays_s():
            self.watchdog.failure = str(error)
            if self.ended.wait(delay_s):
                return False
            try:
                self.source.reopen()
            except SourceError as again:
                error = again
                continue
            self.reconnects += 1
            self.watchdog.failure = None
            return True
        raise error

    def work(self) -> None:
        for frame, captured_s in self.captured:
            with self.clock.stage("process"):
                result = self.process(frame)
            self.processed += 1
            self.results.put((result, captured_s))

    def show(self, result: tuple[Frame, float] | None) -> None:
        """A finished frame, and when it was captured; None: none within a tick."""
        moment_s = self.now_s()
        # A frame from before the source failed would flash up between two "no signal" frames.
        if result is not None and self.watchdog.failure is None:
            frame, captured_s = result
            self.watchdog.output(moment_s)
            self.clock.record("age", moment_s - captured_s)
            self.shown, self.shown_s = replace(frame, index=self.index), moment_s
            self.write(self.shown)
            self.clock.frame()
            self.written += 1
        else:
            for sink in self.sinks:
                sink.poll()
        image = self.repeated(moment_s)
        if image is not None:
            # Repeated frames go on in the time of the frames, which need not be this clock's.
            held_s = moment_s if self.shown is None else self.shown.time_s + moment_s - self.shown_s
            self.write(Frame(image, self.index, held_s))

    def repeated(self, moment_s: float) -> Image | None:
        """What stands in where nothing new is there, by the state of the moment."""
        failure = self.watchdog.failure
        previous, self.state = self.state, self.watchdog.state(moment_s)
        age_s = self.watchdog.age_s(moment_s)
        reason = failure or f"last frame {age_s:.1f} s ago"
        if self.state != previous and self.on_state is not None:
            self.on_state(self.state, reason)
        if self.state == "stale" and self.shown is not None:
            return self.shown.image
        if self.state != "lost":
            return None
        shown = self.shown
        size = self.source.size if shown is None else (shown.image.shape[1], shown.image.shape[0])
        return self.on_lost(Lost(size, reason, age_s, shown, self.newest))

    def write(self, frame: Frame) -> None:
        with self.clock.stage("write"):
            for sink in self.sinks:
                sink.write(frame)
        self.index += 1
