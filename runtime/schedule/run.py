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
    sinks = [sinks] if isinstance(sinks, Sink) else list(sinks)
    clock = clock or Clock()
    watchdog = watchdog or Watchdog()
    waits = backoff or Backoff()
    ended = threading.Event()
    captured, results = Queue[tuple[Frame, float]](1, newest=True), Queue[tuple[Frame, float]](1, newest=True)
    newest: list[Frame | None] = [None]
    processed = written = reconnects = 0

    def reconnect(error: SourceError) -> bool:
        nonlocal reconnects
        for delay_s in waits.delays_s():
            watchdog.failure = str(error)
            if ended.wait(delay_s):
                return False
            try:
                source.reopen()
            except SourceError as again:
                error = again
                continue
            reconnects += 1
            watchdog.failure = None
            return True
        raise error

    def capture() -> None:
        while not ended.is_set():
            try:
                with clock.stage("read"):
                    frame = next(source, None)
            except SourceError as error:
                if not source.live:
                    raise
                if not reconnect(error):
                    return
                continue
            if frame is None:
                return
            newest[0] = frame
            captured.put((frame, now_s()))

    def work() -> None:
        nonlocal processed
        for frame, captured_s in captured:
            with clock.stage("process"):
                result = process(frame)
            processed += 1
            results.put((result, captured_s))

    def write(frame: Frame) -> None:
        with clock.stage("write"):
            for sink in sinks:
                sink.write(frame)

    state: State | None = None
    shown: Frame | None = None
    shown_s = now_s()
    index = 0
    watchdog.start(shown_s)
    with Stages(source, sinks, (captured, results), ended) as stages:
        stages.start("capture", capture, captured)
        stages.start("process", work, results)
        while not (stop and stop.is_set()) and not any(sink.stopped for sink in sinks):
            stages.check()
            try:
                item = results.get(tick_s)
            except Ended:
                break
            moment_s = now_s()
            # A frame from before the source failed would flash up between two "no signal" frames.
            if item is not None and watchdog.failure is None:
                watchdog.output(moment_s)
                clock.record("age", moment_s - item[1])
                shown, shown_s = replace(item[0], index=index), moment_s
                write(shown)
                clock.frame()
                written += 1
                index += 1
            else:
                for sink in sinks:
                    sink.poll()
            failure = watchdog.failure
            previous, state = state, watchdog.state(moment_s)
            age_s = watchdog.age_s(moment_s)
            reason = failure or f"last frame {age_s:.1f} s ago"
            if state != previous and on_state is not None:
                on_state(state, reason)
            image = None
            if state == "stale" and shown is not None:
                image = shown.image
            elif state == "lost":
                size = source.size if shown is None else (shown.image.shape[1], shown.image.shape[0])
                image = on_lost(Lost(size, reason, age_s, shown, newest[0]))
            if image is not None:
                # Repeated frames go on in the time of the frames, which need not be this clock's.
                held_s = moment_s if shown is None else shown.time_s + moment_s - shown_s
                write(Frame(image, index, held_s))
                index += 1
    return LiveReport(
        captured=captured.count,
        processed=processed,
        written=written,
        dropped=captured.dropped + results.dropped,
        reconnects=reconnects,
        timing=clock.report(),
    )
