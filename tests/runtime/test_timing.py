"""Clocks: what is measured, what is remembered, what is reported."""

from __future__ import annotations

import json
import threading
import timeit

import pytest
from doppelgan.runtime.timing import Clock


class FakeTime:
    """Nanoseconds that move only when told."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def advance(self, ms: float) -> None:
        self.ns += round(ms * 1e6)


def spend(clock: Clock, now: FakeTime, stage: str, *durations_ms: float) -> None:
    for duration in durations_ms:
        with clock.stage(stage):
            now.advance(duration)


def test_a_stage_reports_median_percentiles_and_jitter_in_ms() -> None:
    now = FakeTime()
    clock = Clock(now_ns=now)
    spend(clock, now, "encode", *range(1, 102))  # 1 .. 101 ms

    (stage,) = clock.report().stages

    assert stage.name == "encode"
    assert stage.count == 101
    assert stage.median_ms == 51
    assert stage.mean_ms == pytest.approx(51)
    assert stage.p95_ms == pytest.approx(96)
    assert stage.p99_ms == pytest.approx(100)
    assert stage.max_ms == 101
    assert stage.jitter_ms == pytest.approx(1)


def test_jitter_sees_alternation_that_the_spread_of_a_drift_hides() -> None:
    now = FakeTime()
    clock = Clock(now_ns=now)
    spend(clock, now, "steady", 10, 10, 10, 10)
    spend(clock, now, "alternating", 5, 15, 5, 15)

    steady, alternating = clock.report().stages

    assert (steady.jitter_ms, alternating.jitter_ms) == (0, 10)


def test_only_the_last_window_is_remembered_but_all_are_counted() -> None:
    now = FakeTime()
    clock = Clock(window=4, now_ns=now)
    spend(clock, now, "a", 1000, 1000, 1, 2, 3, 4)

    (stage,) = clock.report().stages

    assert (stage.count, stage.max_ms, stage.median_ms) == (6, 4, 2.5)


def test_the_oldest_is_first_after_wrapping_around() -> None:
    now = FakeTime()
    clock = Clock(window=3, now_ns=now)
    spend(clock, now, "a", 9, 9, 1, 2, 4)  # remembers 1, 2, 4: differences 1 and 2

    assert clock.report().stages[0].jitter_ms == pytest.approx(1.5)


def test_frames_per_second_and_interval_come_from_finished_frames() -> None:
    now = FakeTime()
    clock = Clock(now_ns=now)
    for interval_ms in (0, 20, 20, 60):
        now.advance(interval_ms)
        clock.frame()

    report = clock.report()

    assert report.frames == 4
    assert report.frames_per_s == pytest.approx(30)
    assert report.interval is not None
    assert (report.interval.count, report.interval.median_ms, report.interval.jitter_ms) == (3, 20, 20)


@pytest.mark.parametrize("frames", [0, 1])
def test_there_is_no_rate_before_the_second_frame(frames: int) -> None:
    clock = Clock()
    for _ in range(frames):
        clock.frame()

    report = clock.report()

    assert (report.frames, report.frames_per_s, report.interval) == (frames, None, None)


def test_a_block_that_raises_is_measured_too() -> None:
    now = FakeTime()
    clock = Clock(now_ns=now)

    def fail() -> None:
        with clock.stage("a"):
            now.advance(7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert clock.report().stages[0].median_ms == 7


def test_a_duration_measured_elsewhere_can_be_recorded_in_seconds() -> None:
    clock = Clock()
    clock.record("latency", 0.25)

    assert clock.report().stages[0].median_ms == 250


def test_threads_share_a_clock_without_losing_a_count() -> None:
    clock = Clock(window=16)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(2000):
            with clock.stage("shared"):
                pass
            clock.frame()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    report = clock.report()
    assert (report.stages[0].count, report.frames) == (8000, 8000)


def test_reset_forgets_the_warm_up() -> None:
    clock = Clock()
    clock.record("a", 1)
    clock.frame()
    clock.reset()

    assert clock.report().to_dict() == {"frames": 0, "frames_per_s": None, "interval": None, "stages": {}}


def test_a_report_survives_json() -> None:
    now = FakeTime()
    clock = Clock(now_ns=now)
    spend(clock, now, "encode", 1, 2)
    clock.frame()
    now.advance(10)
    clock.frame()

    report = json.loads(json.dumps(clock.report().to_dict()))

    assert report["stages"]["encode"]["median_ms"] == 1.5
    assert report["frames_per_s"] == pytest.approx(100)
    assert report["interval"]["median_ms"] == 10


def test_the_table_is_aligned_markdown_with_units() -> None:
    now = FakeTime()
    clock = Clock(now_ns=now)
    spend(clock, now, "encode", 2)
    spend(clock, now, "synthesize", 12.5)
    clock.frame()
    now.advance(20)
    clock.frame()

    assert clock.report().table().splitlines() == [
        "| stage      | count | median ms | p95 ms | p99 ms | max ms | jitter ms |",
        "|------------|------:|----------:|-------:|-------:|-------:|----------:|",
        "| encode     |     1 |      2.00 |   2.00 |   2.00 |   2.00 |      0.00 |",
        "| synthesize |     1 |     12.50 |  12.50 |  12.50 |  12.50 |      0.00 |",
        "| interval   |     1 |     20.00 |  20.00 |  20.00 |  20.00 |      0.00 |",
        "",
        "2 frames, 50.0 frames/s",
    ]


def test_a_window_too_small_for_jitter_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 durations, got 1"):
        Clock(window=1)


def test_recording_costs_microseconds() -> None:
    # About 1 us on an idle machine; the bound only catches an accidental list copy or system call.
    clock = Clock()

    def record() -> None:
        with clock.stage("a"):
            pass

    assert min(timeit.repeat(record, number=1000, repeat=5)) / 1000 < 20e-6
