"""Runs over files and live runs: order, back-pressure, errors, Ctrl-C, states, reconnecting."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError, SourceError
from doppelgan.runtime.schedule import run_files, run_live
from doppelgan.runtime.schedule.run import Backoff, Lost, Progress, Watchdog, hold, no_signal, passthrough
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.sink.base import Sink, SinkWarning
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.base import Source
from doppelgan.runtime.types import Frame

from .clips import packets, read_counter, write_clip

HANG_S = 30  # a test that waits so long has failed; on a healthy machine every wait ends at once


def picture(shade: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((32, 32, 3), shade, np.uint8)


class FakeSource(Source):
    """Gives what it is told: frames by shade, errors, or whatever a callable returns."""

    name = "fake"
    size = (32, 32)
    rate = Fraction(30)

    def __init__(self, script: Sequence[int | Exception | Callable[[], int]], *, live: bool = False) -> None:
        super().__init__()
        self.live = live
        self.frame_count = None if live else len(script)
        self.reopenings: list[Exception | None] = []  # what each reopen does; then they succeed
        self.reopened = 0
        self.released = threading.Event()
        self._script: Iterator[int | Exception | Callable[[], int]] = iter(script)
        self._index = 0

    def _read(self) -> Frame | None:
        step = next(self._script, None)
        if step is None:
            return None
        if isinstance(step, Exception):
            raise step
        frame = Frame(picture(step() if callable(step) else step), self._index, self._index / 30)
        self._index += 1
        return frame

    def reopen(self) -> None:
        outcome = self.reopenings.pop(0) if self.reopenings else None
        if outcome is not None:
            raise outcome
        self.reopened += 1

    def _release(self) -> None:
        self.released.set()


class FakeSink(Sink):
    """Remembers shades and times; runs a hook at every frame."""

    name = "fake"

    def __init__(self, on_write: Callable[[Frame], None] = lambda frame: None) -> None:
        super().__init__()
        self.shades: list[int] = []
        self.written: list[Frame] = []
        self.polls = 0
        self.closed = 0
        self._on_write = on_write

    def _write(self, frame: Frame) -> None:
        self.shades.append(int(frame.image[0, 0, 0]))
        self.written.append(frame)
        self._on_write(frame)

    def poll(self) -> None:
        self.polls += 1

    def _finish(self) -> None:
        self.closed += 1


def same(frame: Frame) -> Frame:
    return frame


def brighter(frame: Frame) -> Frame:
    return Frame(frame.image + np.uint8(100), frame.index, frame.time_s)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT as a shell's foreground process has it; a background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# Files


def test_every_frame_arrives_in_order_in_every_sink() -> None:
    source, first, second = FakeSource(range(100)), FakeSink(), FakeSink()

    report = run_files(source, brighter, [first, second])

    assert first.shades == second.shades == list(range(100, 200))
    assert [frame.index for frame in first.written] == list(range(100))
    assert report.frames == 100
    assert {stage.name: stage.count for stage in report.timing.stages} == {
        "read": 101,
        "process": 100,
        "write": 100,
    }
    assert (first.closed, second.closed, source.released.is_set()) == (1, 1, True)


def test_progress_is_told_after_every_frame_in_the_callers_thread() -> None:
    seen: list[Progress] = []
    threads = set()

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        threads.add(threading.current_thread())

    run_files(FakeSource(range(5)), same, FakeSink(), on_progress)

    assert [(p.frames, p.total) for p in seen] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert threads == {threading.current_thread()}


def test_a_slow_sink_holds_the_source_back() -> None:
    read: list[int] = []
    full = threading.Event()
    # Room for 2 + 2 in the queues, one in each hand: the 7th read happens only once the sink moves on.

    def read_next() -> int:
        read.append(len(read))
        if len(read) == 6:
            full.set()
        return read[-1]

    def on_write(frame: Frame) -> None:
        if frame.index == 0:
            assert full.wait(HANG_S)
            assert len(read) <= 7

    run_files(FakeSource([read_next] * 50), same, FakeSink(on_write), depth=2)

    assert read == list(range(50))


def test_stages_overlap() -> None:
    # The frame after the one in the sink is in process, and the one after that is read: all three meet.
    together = threading.Barrier(3)

    def meet() -> None:
        together.wait(HANG_S)

    def read_third() -> int:
        meet()
        return 2

    def process(frame: Frame) -> Frame:
        if frame.index == 1:
            meet()
        return frame

    def on_write(frame: Frame) -> None:
        if frame.index == 0:
            meet()

    run_files(FakeSource([0, 1, read_third]), process, FakeSink(on_write))


def fail_in_source() -> tuple[Source, Callable[[Frame], Frame], Sink]:
    return FakeSource([1, 2, SourceError("broken")]), same, FakeSink()


def fail_in_process() -> tuple[Source, Callable[[Frame], Frame], Sink]:
    def process(frame: Frame) -> Frame:
        raise SourceError("broken")

    return FakeSource([1, 2]), process, FakeSink()


def fail_in_sink() -> tuple[Source, Callable[[Frame], Frame], Sink]:
    def on_write(frame: Frame) -> None:
        raise SourceError("broken")

    return FakeSource(range(100)), same, FakeSink(on_write)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("make", [fail_in_source, fail_in_process, fail_in_sink])
def test_an_error_in_any_stage_stops_all_and_reaches_the_caller(
    make: Callable[[], tuple[Source, Callable[[Frame], Frame], FakeSink]], live: bool
) -> None:
    source, process, sink = make()
    before = threading.active_count()

    with pytest.raises(SourceError, match="broken"):
        (run_live if live else run_files)(source, process, sink)

    assert sink.closed == 1
    assert source._closed
    assert threading.active_count() == before


def test_a_sink_that_cannot_be_completed_is_reported() -> None:
    class Unfinishable(FakeSink):
        def _finish(self) -> None:
            raise SinkError("disk full")

    other = FakeSink()
    with pytest.raises(SinkError, match="disk full"):
        run_files(FakeSource([1]), same, [Unfinishable(), other])

    assert other.closed == 1


@pytest.mark.parametrize("live", [False, True])
def test_a_sink_ends_the_run_when_its_viewer_has_seen_enough(live: bool) -> None:
    sink = FakeSink()

    def on_write(frame: Frame) -> None:
        sink.stopped = True

    def shade() -> int:
        time.sleep(0.005)  # a live source must not run dry before the run has seen that its sink has stopped
        return 0

    sink._on_write = on_write
    source = FakeSource([shade] * 1000, live=live)
    (run_live if live else run_files)(source, same, sink)

    assert (sink.frames, sink.closed, source.finished) == (1, 1, False)


def test_a_run_can_be_stopped_from_outside() -> None:
    stop = threading.Event()
    sink = FakeSink(lambda frame: stop.set() if frame.index == 3 else None)

    report = run_files(FakeSource(range(100)), same, sink, stop=stop)

    assert (report.frames, sink.closed) == (4, 1)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_frame_and_leaves_a_playable_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=60, audio="aac")
    source = open_source(clip)
    done: list[int] = []

    def on_progress(progress: Progress) -> None:
        done.append(progress.frames)
        if progress.frames == 20:
            signal.raise_signal(signal.SIGINT)
            done.append(-1)  # still here: the interrupt waits for a safe moment

    with pytest.raises(KeyboardInterrupt):
        run_files(source, same, open_sink(tmp_path / "out.mp4", like=source), on_progress)

    assert done == [*range(1, 21), -1]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    with open_source(tmp_path / "out.mp4") as result:
        assert [read_counter(frame.image) for frame in result] == list(range(20))
    sound_s = sum(duration or 0 for _, duration, _ in packets(tmp_path / "out.mp4", "audio")) / 48000
    assert sound_s == pytest.approx(20 / 25, abs=0.05)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_does_not_wait() -> None:
    def on_progress(progress: Progress) -> None:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_files(FakeSource(range(5)), same, FakeSink(), on_progress)


def test_an_error_of_the_network_leaves_what_is_playable_under_the_name_of_a_part(tmp_path: Path) -> None:
    source = open_source(write_clip(tmp_path / "in.mp4", frames=30))
    written = threading.Event()

    def process(frame: Frame) -> Frame:
        if frame.index == 10:
            assert written.wait(HANG_S)
            raise RuntimeError("network")
        return frame

    with (
        pytest.warns(SinkWarning, match=r"its first 10 frames are kept as .*out\.mp4\.part"),
        pytest.raises(RuntimeError, match="network"),
    ):
        run_files(
            source,
            process,
            open_sink(tmp_path / "out.mp4", like=source),
            lambda progress: written.set() if progress.frames == 10 else None,
        )

    assert not (tmp_path / "out.mp4").exists()
    with open_source(tmp_path / "out.mp4.part") as result:
        assert [read_counter(frame.image) for frame in result] == list(range(10))


# Live


class FakeTime:
    """Seconds that move only when told."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.mark.parametrize(
    ("age_s", "state"), [(0, "live"), (0.5, "live"), (0.51, "stale"), (2.0, "stale"), (2.01, "lost")]
)
def test_the_state_follows_from_the_age_of_the_newest_frame(age_s: float, state: str) -> None:
    watchdog = Watchdog()
    watchdog.start(0)
    watchdog.output(10)

    assert watchdog.state(10 + age_s) == state


def test_before_the_first_frame_a_run_is_stale_then_lost() -> None:
    watchdog = Watchdog()
    watchdog.start(10)

    assert (watchdog.state(10), watchdog.state(12), watchdog.state(12.1)) == ("stale", "stale", "lost")


def test_a_failed_source_is_lost_at_once() -> None:
    watchdog = Watchdog()
    watchdog.start(0)
    watchdog.output(10)
    watchdog.failure = "unplugged"

    assert watchdog.state(10) == "lost"


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0 < stale_after_s < lost_after_s, got 2, 1"):
        Watchdog(2, 1)


def test_live_drops_stale_frames_and_counts_them() -> None:
    busy, go = threading.Event(), threading.Event()

    def after_busy() -> int:
        assert busy.wait(HANG_S)
        return 1

    def last() -> int:
        go.set()
        return 9

    def process(frame: Frame) -> Frame:
        if frame.index == 0:
            busy.set()  # frames 1 .. 9 arrive while this one is processed
            assert go.wait(HANG_S)
            assert source_done.wait(HANG_S)
        return frame

    class Source(FakeSource):
        def _read(self) -> Frame | None:
            frame = super()._read()
            if frame is None:
                source_done.set()
            return frame

    source_done = threading.Event()
    sink = FakeSink()
    report = run_live(Source([0, after_busy, 2, 3, 4, 5, 6, 7, 8, last], live=True), process, sink)

    assert sink.shades[-1] == 9
    assert report.captured == 10
    assert report.dropped >= 8
    assert report.processed == 2
    assert report.written + report.dropped == 10


def live_until(
    script: Sequence[int | Exception | Callable[[], int]],
    wanted: Callable[[FakeSink], bool],
    **options: object,
) -> tuple[FakeSink, FakeSource, list[str], FakeTime]:
    """Run until ``wanted``; the script's last step is a source that hangs until then. Time stands still
    until the first frame is written, then moves by half a second per look at the watchdog."""
    now, stop, states = FakeTime(), threading.Event(), list[str]()
    source = FakeSource(script, live=True)
    source.reopenings = list(options.pop("reopenings", []))  # type: ignore[call-overload]
    sink = FakeSink()

    def tick() -> None:
        if sink.frames:
            now.s += 0.5
        if wanted(sink):
            stop.set()

    sink.poll = tick  # type: ignore[method-assign]
    source.stop = stop  # type: ignore[attr-defined]

    def hang() -> int:
        assert stop.wait(HANG_S)
        return 255

    source._script = iter([*script, hang])
    run_live(
        source,
        brighter,
        sink,
        on_state=lambda state, reason: states.append(state),
        stop=stop,
        tick_s=0.001,
        now_s=now,
        **options,  # type: ignore[arg-type]
    )
    return sink, source, states, now


def test_the_last_frame_stays_while_stale_then_no_signal_is_shown() -> None:
    sink, _, states, _ = live_until([7], lambda sink: 24 in sink.shades)

    assert states[-3:] == ["live", "stale", "lost"]
    lost_from = sink.shades.index(24)
    assert set(sink.shades[:lost_from]) == {107}
    assert set(sink.shades[lost_from:]) == {24}
    assert lost_from > 1
    times = [frame.time_s for frame in sink.written]
    assert times == sorted(times)
    assert [frame.index for frame in sink.written] == list(range(len(times)))


@pytest.mark.parametrize("on_lost", [no_signal, hold])
def test_the_real_picture_never_shows_by_itself(on_lost: Callable[[Lost], object]) -> None:
    sink, _, _, _ = live_until([7], lambda sink: len(sink.shades) > 12, on_lost=on_lost)

    assert 7 not in sink.shades


def test_the_real_picture_shows_where_the_user_asked() -> None:
    sink, _, _, _ = live_until([7], lambda sink: 7 in sink.shades, on_lost=passthrough)

    assert 7 in sink.shades


def test_nothing_is_written_while_lost_if_the_hook_makes_nothing() -> None:
    ticks = []

    def on_lost(lost: Lost) -> None:
        ticks.append(lost)

    sink, _, _, _ = live_until([7], lambda sink: len(ticks) >= 3, on_lost=on_lost)

    assert set(sink.shades) == {107}
    assert ticks[0].output is not None
    assert ticks[0].captured is not None
    assert ticks[0].age_s > 2
    assert ticks[0].size == (32, 32)


def test_a_camera_that_fails_is_reconnected() -> None:
    gone = SourceError("unplugged")
    lost: list[str] = []

    def on_lost(event: Lost) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        lost.append(event.reason)
        return no_signal(event)

    _, source, _, _ = live_until(
        [1, gone, 2],
        lambda sink: 102 in sink.shades,
        reopenings=[SourceError("still gone"), SourceError("still gone"), None],
        backoff=Backoff(first_s=0.01, factor=1),
        on_lost=on_lost,
    )

    assert source.reopened == 1
    assert source.reopenings == []


def test_attempts_to_reconnect_can_run_out() -> None:
    source = FakeSource([1, SourceError("unplugged")], live=True)
    source.reopenings = [SourceError("still gone")] * 9
    sink = FakeSink()

    with pytest.raises(SourceError, match="still gone"):
        run_live(source, same, sink, backoff=Backoff(first_s=0.001, attempts=3))

    assert len(source.reopenings) == 6
    assert sink.closed == 1


def test_a_file_that_fails_in_a_live_run_is_not_reconnected() -> None:
    source = FakeSource([1, SourceError("damaged")])
    with pytest.raises(SourceError, match="damaged"):
        run_live(source, same, FakeSink())

    assert source.reopened == 0


def test_waits_grow_up_to_the_longest() -> None:
    assert list(Backoff(1, 2, 5, attempts=5).delays_s()) == [1, 2, 4, 5, 5]


def test_the_no_signal_card_has_the_size_of_the_frames_and_says_so() -> None:
    card = no_signal(Lost((320, 180), "unplugged", 3.0, None, None))

    assert card.shape == (180, 320, 3)
    assert card.max() > 100


def test_a_live_run_reports_stages_and_the_age_of_frames() -> None:
    report = run_live(FakeSource([1, 2, 3]), same, FakeSink())

    names = [stage.name for stage in report.timing.stages]
    assert {"read", "process", "write", "age"} == set(names)
