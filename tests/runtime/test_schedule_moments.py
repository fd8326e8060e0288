"""Runs by the clock: when what is shown, with which time and reason; what is counted; who ends whom."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.host.signals import Stopped
from doppelgan.runtime.schedule import run_files, run_live
from doppelgan.runtime.schedule.run import Backoff, LiveReport, Lost, Progress, hold, no_signal, passthrough
from doppelgan.runtime.schedule.threads import Ended, Queue
from doppelgan.runtime.schedule.watchdog import Watchdog
from doppelgan.runtime.timing import Clock
from doppelgan.runtime.types import Frame

from .test_schedule import HANG_S, FakeSink, FakeSource, FakeTime, picture, same

Step = int | Exception | Callable[[], int]


class Live:
    """A live run whose clock moves by half a second at every look that finds no frame, once it may."""

    def __init__(self) -> None:
        self.now, self.stop, self.sink = FakeTime(), threading.Event(), FakeSink()
        self.states: list[tuple[str, str]] = []
        self.lost: list[Lost] = []
        self.watchdog = Watchdog()

    def run(
        self,
        script: Sequence[Step],
        until: Callable[[], bool],
        *,
        moves_before_frames: bool = False,
        **options,
    ) -> LiveReport:
        def poll() -> None:
            if self.sink.frames or moves_before_frames:
                self.now.s += 0.5
            if until():
                self.stop.set()

        def hang() -> int:
            assert self.stop.wait(HANG_S)
            return 255

        def on_lost(lost: Lost) -> None:
            self.lost.append(lost)

        self.sink.poll = poll  # type: ignore[method-assign]
        source = FakeSource([*script, hang], live=True)
        source.size = (48, 40)
        source.reopenings = options.pop("reopenings", [])
        return run_live(
            source,
            options.pop("process", same),
            self.sink,
            watchdog=self.watchdog,
            on_lost=options.pop("on_lost", on_lost),
            on_state=lambda state, reason: self.states.append((state, reason)),
            stop=self.stop,
            tick_s=0.001,
            now_s=self.now,
            **options,
        )


@pytest.fixture
def live() -> Live:
    return Live()


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signals' handlers as a shell's foreground process has them, before and after."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_age_is_that_from_capture_to_output(live: Live) -> None:
    def process(frame: Frame) -> Frame:
        live.now.s += 0.25
        return frame

    report = live.run([1], lambda: live.sink.frames > 0, process=process)

    (age,) = (stage for stage in report.timing.stages if stage.name == "age")
    assert (age.count, age.median_ms) == (1, pytest.approx(250))


def test_a_held_frame_goes_on_in_the_time_of_the_frames(live: Live) -> None:
    live.run([1], lambda: len(live.sink.written) >= 6, on_lost=hold)

    assert [frame.time_s for frame in live.sink.written[:5]] == [0, 1.0, 1.5, 2.0, 2.5]
    assert [frame.index for frame in live.sink.written[:5]] == [0, 1, 2, 3, 4]


def test_states_come_once_each_and_say_how_old_the_last_frame_is(live: Live) -> None:
    live.run([1], lambda: len(live.lost) >= 3)

    told = live.states[live.states[0][0] == "stale" :]  # the clock may look before the first frame
    assert [state for state, _ in told] == ["live", "stale", "lost"]
    assert told[-2:] == [("stale", "last frame 1.0 s ago"), ("lost", "last frame 2.5 s ago")]
    assert [lost.age_s for lost in live.lost[:3]] == [2.5, 3.0, 3.5]
    assert live.lost[0].reason == "last frame 2.5 s ago"


def test_before_the_first_frame_nothing_is_shown_and_then_the_card_of_the_source(live: Live) -> None:
    live.run([], lambda: len(live.lost) >= 1, moves_before_frames=True)

    assert live.states == [("stale", "last frame 0.0 s ago"), ("lost", "last frame 2.5 s ago")]
    assert live.sink.written == []
    (lost, *_) = live.lost
    assert (lost.size, lost.output, lost.captured) == ((48, 40), None, None)


def test_a_card_before_the_first_frame_has_the_time_of_the_clock(live: Live) -> None:
    live.run([], lambda: len(live.sink.written) >= 2, moves_before_frames=True, on_lost=no_signal)

    assert [frame.time_s for frame in live.sink.written[:2]] == [1002.5, 1003.0]
    assert [frame.index for frame in live.sink.written[:2]] == [0, 1]


def test_what_is_lost_has_the_size_of_what_was_shown(live: Live) -> None:
    def wide(frame: Frame) -> Frame:
        return Frame(np.zeros((20, 64, 3), np.uint8), frame.index, frame.time_s)

    live.run([1], lambda: len(live.lost) >= 1, process=wide)

    assert live.lost[0].size == (64, 20)
    assert live.lost[0].output is not None
    assert live.lost[0].output.image.shape == (20, 64, 3)


def test_repeated_frames_are_not_counted_as_written(live: Live) -> None:
    report = live.run([1], lambda: len(live.sink.written) >= 6, on_lost=hold)

    assert (report.captured, report.processed, report.written, report.dropped) == (1, 1, 1, 0)
    assert report.timing.frames == 1
    assert len(live.sink.written) >= 6


def test_a_reconnection_is_counted_and_its_reason_told(live: Live) -> None:
    def shown() -> int:
        while not live.sink.frames:
            time.sleep(0.001)
        raise SourceError("unplugged")

    report = live.run(
        [1, shown, 2],
        lambda: 2 in live.sink.shades,
        reopenings=[SourceError("still gone")],
        backoff=Backoff(first_s=0.02, factor=1),
    )

    assert report.reconnects == 1
    assert [r for s, r in live.states if s == "lost"][0] in ("unplugged", "still gone")  # noqa: RUF015
    assert live.watchdog.failure is None
    assert live.states[-1][0] in ("live", "stale")


def test_a_frame_from_before_the_failure_does_not_flash_up(live: Live) -> None:
    def process(frame: Frame) -> Frame:
        if frame.index == 1:
            while live.watchdog.failure is None:
                time.sleep(0.001)
        return frame

    def gone() -> int:
        raise SourceError("unplugged")

    live.run([1, 2, gone], lambda: len(live.lost) >= 5, process=process, backoff=Backoff(first_s=1000))

    assert 2 not in live.sink.shades


def test_stopping_does_not_wait_for_a_reconnection(live: Live) -> None:
    began_s = time.monotonic()
    live.run([1, SourceError("unplugged")], lambda: bool(live.lost), backoff=Backoff(first_s=1000))

    assert time.monotonic() - began_s < 5
    assert live.states[-1] == ("lost", "unplugged")


def test_an_error_of_the_network_does_not_wait_for_a_reconnection() -> None:
    failed = threading.Event()

    def process(frame: Frame) -> Frame:
        assert failed.wait(HANG_S)
        raise RuntimeError("network")

    def gone() -> int:
        failed.set()
        raise SourceError("unplugged")

    began_s = time.monotonic()
    with pytest.raises(RuntimeError, match="network"):
        run_live(FakeSource([1, gone], live=True), process, FakeSink(), backoff=Backoff(first_s=1000))
    assert time.monotonic() - began_s < 5


def test_times_of_a_run_go_to_the_clock_that_was_given() -> None:
    for run, source in ((run_files, FakeSource([1, 2])), (run_live, FakeSource([1, 2]))):
        clock = Clock()
        report = run(source, same, FakeSink(), clock=clock)  # type: ignore[operator]
        assert clock.report() == report.timing
        assert report.timing.frames >= 1


# Files


def test_no_more_frames_are_held_than_the_queues_have_room_for() -> None:
    """Four in each of the two queues, one in each of the three hands."""
    read = 0
    eleventh, twelfth = threading.Event(), threading.Event()

    def read_next() -> int:
        nonlocal read
        read += 1
        if read == 11:
            eleventh.set()
        if read == 12:
            twelfth.set()
        return 0

    def on_write(frame: Frame) -> None:
        if frame.index == 0:
            assert eleventh.wait(HANG_S)
            assert not twelfth.wait(0.1)

    run_files(FakeSource([read_next] * 30), same, FakeSink(on_write))

    assert read == 30


def test_elapsed_times_are_those_of_the_run() -> None:
    seen: list[Progress] = []
    began_s = time.monotonic()
    report = run_files(FakeSource([1, 2, 3]), same, FakeSink(), seen.append)
    took_s = time.monotonic() - began_s

    elapsed_s = [progress.elapsed_s for progress in seen]
    assert 0 <= elapsed_s[0] <= elapsed_s[1] <= elapsed_s[2] <= report.elapsed_s <= took_s
    assert report.timing.frames == 3


def test_while_no_frame_comes_every_sink_may_attend_to_its_user() -> None:
    polled = threading.Event()

    def wait_for_poll() -> int:
        assert polled.wait(HANG_S)
        return 1

    first, second = FakeSink(), FakeSink()
    second.poll = polled.set  # type: ignore[method-assign]
    run_files(FakeSource([wait_for_poll]), same, [first, second])

    assert first.polls > 0


def test_sinks_are_closed_before_the_source_and_only_failures_break_them_off() -> None:
    source = FakeSource([1, 2])
    order: list[str] = []
    sink = FakeSink()
    sink._finish = lambda: order.append("sink")  # type: ignore[method-assign]
    source._release = lambda: order.append("source")  # type: ignore[method-assign]
    run_files(source, same, sink)
    assert order == ["sink", "source"]
    assert not sink.broken_off

    def fail(frame: Frame) -> Frame:
        raise RuntimeError("network")

    sinks = [FakeSink(), FakeSink()]
    with pytest.raises(RuntimeError):
        run_files(FakeSource([1]), fail, sinks)
    assert [sink.broken_off for sink in sinks] == [True, True]


# Signals


@pytest.mark.usefixtures("handlers")
def test_the_first_signal_is_told_and_is_no_failure() -> None:
    sink = FakeSink()

    def on_progress(progress: Progress) -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # a service manager may say it twice

    with pytest.raises(Stopped) as stopped:
        run_files(FakeSource(range(5)), same, sink, on_progress)

    assert stopped.value.number == signal.SIGTERM
    assert (sink.frames, sink.closed, sink.broken_off) == (1, 1, False)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("handlers")
def test_ctrl_c_after_a_signal_does_not_wait() -> None:
    def on_progress(progress: Progress) -> None:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped) as stopped:
        run_files(FakeSource(range(5)), same, FakeSink(), on_progress)
    assert stopped.value.number == signal.SIGTERM


@pytest.mark.usefixtures("handlers")
def test_a_handler_of_somebody_else_stays_theirs() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    report = run_files(
        FakeSource(range(3)), same, FakeSink(), lambda progress: signal.raise_signal(signal.SIGTERM)
    )
    assert report.frames == 3
    assert heard == [signal.SIGTERM] * 3


def test_a_run_works_beside_the_main_thread() -> None:
    sink = FakeSink()
    thread = threading.Thread(target=lambda: run_files(FakeSource(range(3)), same, sink))
    thread.start()
    thread.join(HANG_S)
    assert (sink.shades, sink.closed) == ([0, 1, 2], 1)


# Queues


def test_a_queue_for_the_newest_drops_the_oldest() -> None:
    queue = Queue[int](2, newest=True)
    assert all(queue.put(number) for number in range(5))
    assert (queue.get(), queue.get(), queue.get(0.001)) == (3, 4, None)
    assert (queue.count, queue.dropped) == (5, 3)


def test_a_full_queue_makes_wait_until_there_is_room() -> None:
    queue = Queue[int](1)
    queue.put(0)
    thread = threading.Thread(target=queue.put, args=(1,))
    thread.start()
    assert queue.get(HANG_S) == 0
    assert queue.get(HANG_S) == 1
    thread.join(HANG_S)
    assert (queue.count, queue.dropped) == (2, 0)


def test_an_ended_queue_delivers_what_it_has_and_a_stopped_one_nothing() -> None:
    ended, stopped = Queue[int](2), Queue[int](2)
    for queue in (ended, stopped):
        queue.put(1)
    ended.end()
    stopped.stop()
    assert list(ended) == [1]
    with pytest.raises(Ended):
        ended.get()
    with pytest.raises(Ended):
        stopped.get()
    assert not stopped.put(2)
    assert stopped.count == 1


@pytest.mark.parametrize("stop", [True, False])
def test_who_waits_at_a_queue_is_woken_by_its_end(stop: bool) -> None:
    queue = Queue[int](1)
    left: list[list[int]] = []
    thread = threading.Thread(target=lambda: left.append(list(queue)), daemon=True)
    thread.start()
    (queue.stop if stop else queue.end)()
    thread.join(5)
    assert left == [[]]


def test_a_queue_needs_room() -> None:
    Queue[int](1)
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        Queue[int](0)


# Waits and cards


def test_waits_double_from_half_a_second_to_ten() -> None:
    delays_s = Backoff().delays_s()
    assert [next(delays_s) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert list(Backoff(20, longest_s=5, attempts=1).delays_s()) == [5]


@pytest.mark.parametrize(("stale_s", "lost_s"), [(0, 1), (1, 1), (2, 1)])
def test_thresholds_have_an_order(stale_s: float, lost_s: float) -> None:
    with pytest.raises(ValueError, match=f"got {stale_s}, {lost_s}"):
        Watchdog(stale_s, lost_s)


def test_a_watchdog_starts_anew() -> None:
    watchdog = Watchdog()
    watchdog.output(5)
    watchdog.failure = "unplugged"
    watchdog.start(10)
    assert watchdog.failure is None
    assert watchdog.state(10.1) == "stale"  # none yet
    assert watchdog.age_s(12) == 2


def test_the_card_is_dark_with_words_in_the_middle() -> None:
    card = no_signal(Lost((320, 180), "unplugged", 3.0, None, None))
    assert (card[0, 0] == 24).all()
    rows, columns = np.nonzero(card.max(axis=2) > 60)
    assert card.max() <= 160
    assert abs((rows.min() + rows.max()) / 2 - 90) <= 4
    assert abs((columns.min() + columns.max()) / 2 - 160) <= 4
    assert 320 / 40 <= np.ptp(rows) <= 320 / 14


def test_without_a_picture_to_hold_or_to_pass_there_is_the_card() -> None:
    nothing = Lost((64, 48), "unplugged", 3.0, None, None)
    shown, seen = Frame(picture(5), 0, 0.0), Frame(picture(9), 0, 0.0)
    both = Lost((64, 48), "unplugged", 3.0, shown, seen)
    for show, expected in ((hold, shown), (passthrough, seen)):
        np.testing.assert_array_equal(show(nothing), no_signal(nothing))
        np.testing.assert_array_equal(show(both), expected.image)
