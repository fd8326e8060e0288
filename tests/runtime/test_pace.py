"""Files played live: at their own pace, in a loop, and stopped by any signal with their output complete."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.host.signals import Stopped
from doppelgan.runtime.pictures.files import write_image
from doppelgan.runtime.schedule import run_files, run_live
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.sink.base import NullSink
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.pace import PacedSource, paced
from doppelgan.runtime.source.pattern import PatternSource
from doppelgan.runtime.source.raw import RawSource
from doppelgan.runtime.types import Frame

from .clips import read_counter
from .media import Pictures, Sound, write_media


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


def test_frames_come_at_their_moment() -> None:
    clock = Clock()
    source = PacedSource(open_source("test:64x48@10:5"), now_s=clock, wait=clock.wait)
    seen = [(frame.index, frame.time_s, clock.now_s - 100) for frame in source]
    assert seen == [(i, pytest.approx(i / 10), pytest.approx(i / 10)) for i in range(5)]


def test_a_late_reader_gets_the_next_frames_at_once_but_does_not_race_after_a_long_stop() -> None:
    clock = Clock()
    source = PacedSource(open_source("test:64x48@10:40"), now_s=clock, wait=clock.wait)
    next(source)
    clock.now_s += 0.35
    assert [next(source).index for _ in range(3)] == [1, 2, 3]
    assert clock.now_s == pytest.approx(100.35)
    clock.now_s += 60
    next(source)
    next(source)
    assert clock.now_s == pytest.approx(160.45)


def test_a_reader_may_be_late_by_a_second() -> None:
    for late, expected in ((1.0, 100.2), (1.01, 101.21)):
        clock = Clock()
        source = PacedSource(open_source("test:64x48@10:4"), now_s=clock, wait=clock.wait)
        next(source)
        clock.now_s = 100.1 + late  # the second is due at 100.1
        next(source)
        assert clock.now_s == 100.1 + late
        next(source)
        assert clock.now_s == pytest.approx(max(expected, 100.1 + late))


def test_a_reader_that_is_late_deep_in_a_film_catches_up() -> None:
    clock = Clock()
    source = PacedSource(open_source("test:64x48@10:40"), now_s=clock, wait=clock.wait)
    for _ in range(21):
        next(source)
    clock.now_s += 0.35
    for _ in range(5):
        next(source)
    assert clock.now_s == pytest.approx(102.5)  # the moment of the 26th


def test_waiting_is_done_in_naps_so_that_closing_need_not_wait() -> None:
    clock, naps = Clock(), []

    def wait(seconds: float) -> None:
        naps.append(round(seconds, 6))
        clock.wait(seconds)
        if len(naps) == 5:
            source._closing = True  # as another thread does

    source = PacedSource(open_source("test:64x48@4:4"), now_s=clock, wait=wait)
    assert [next(source).time_s for _ in range(2)] == [0, 0.25]
    assert naps == [0.1, 0.1, pytest.approx(0.05)]
    next(source)
    assert len(naps) == 5
    assert list(source) == []


def test_a_paced_source_is_like_the_file_that_it_reads(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", Pictures(frames=3))
    for again in (None, lambda: open_source(path)):
        inner = open_source(path)
        with PacedSource(inner, open_again=again) as source:
            assert (source.name, source.size, source.rate) == (str(path), (64, 48), 25)
            assert source.frame_count == (None if again else 3)
            assert source.duration_s == (None if again else pytest.approx(0.12))
            assert source.files == inner.files
            assert inner.media is not None
            assert source.media == (replace(inner.media, silent=True) if again else inner.media)
        assert list(inner) == []  # closed with it
    shots = PacedSource(open_source("test:64x48@4:4"), open_again=lambda: open_source("test:64x48@4:4"))
    assert shots.media is None
    write_image(tmp_path / "0.png", next(shots).image)
    assert PacedSource(open_source(tmp_path / "0.png")).files == [tmp_path / "0.png"]


def test_a_loop_closes_what_it_has_read_and_ends_where_nothing_comes() -> None:
    opened = [open_source("test:64x48@10:2") for _ in range(2)]
    rounds = [*opened, open_source("test:64x48@10:0")]
    clock = Clock()
    source = PacedSource(rounds.pop(0), open_again=lambda: rounds.pop(0), now_s=clock, wait=clock.wait)
    assert [frame.time_s for frame in source] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert source.finished
    assert all(one._closed for one in opened)

    empty = PacedSource(open_source("test:64x48@10:0"), open_again=lambda: pytest.fail("opened again"))
    assert list(empty) == []


@pytest.mark.parametrize(
    ("count", "duration_s", "is_paced"),
    [(None, None, False), (5, None, True), (None, 2.0, True), (5, 2.0, True)],
)
def test_what_has_an_end_of_any_kind_is_paced(
    count: int | None, duration_s: float | None, is_paced: bool
) -> None:
    source = open_source("test:64x48@10:3")
    source.frame_count, source.duration_s = count, duration_s
    assert isinstance(paced(source), PacedSource) is is_paced
    source.live = True
    assert paced(source) is source


def test_what_cannot_be_looped_over_is_closed() -> None:
    camera = PatternSource("test:64x48@30", wait=lambda seconds: None)
    with pytest.raises(SourceError, match="test:64x48@30: expected a file to loop over"):
        paced(camera, lambda: camera)
    assert list(camera) == []


def test_a_loop_begins_again_and_its_times_go_on(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", Pictures(frames=3), [Sound(seconds=0.1)])
    clock = Clock()
    opened = []

    def open_again() -> object:
        opened.append(1)
        return open_source(path)

    source = paced(open_source(path), open_again)  # type: ignore[arg-type]
    assert isinstance(source, PacedSource)
    source._now_s, source._wait = clock, clock.wait
    frames = [next(source) for _ in range(8)]
    source.close()

    assert [read_counter(frame.image) for frame in frames] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(8)])
    assert source.frame_count is None
    assert len(opened) == 2


def test_a_loop_is_written_without_the_sound_that_does_not_begin_again(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", Pictures(frames=3), [Sound(seconds=0.1)])
    source = paced(open_source(path), lambda: open_source(path))
    with source, open_sink(tmp_path / "out.mp4", like=source) as sink:
        for _ in range(7):
            sink.write(next(source))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert container.streams.video[0].frames == 7


def test_what_has_its_own_pace_keeps_it() -> None:
    camera = PatternSource("test:64x48@30", wait=lambda seconds: None)
    assert paced(camera) is camera
    pipe = RawSource(size=(4, 4), stream=io.BytesIO())
    assert paced(pipe) is pipe
    with pytest.raises(
        SourceError, match="expected a file to loop over, got what has no end; leave --loop out"
    ):
        paced(camera, lambda: camera)


def test_a_live_run_of_a_file_takes_as_long_as_the_file() -> None:
    began_s = time.monotonic()
    report = run_live(paced(open_source("test:64x48@20:11")), lambda frame: frame, NullSink())
    assert time.monotonic() - began_s >= 0.45  # the last frame is due at 0.5 s
    assert report.captured == 11


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_stop_signal_completes_the_file(tmp_path: Path, name: str) -> None:
    if not hasattr(signal, name):
        pytest.skip("Windows has no SIGHUP")
    number = getattr(signal, name)

    def slow(frame: Frame) -> Frame:
        if frame.index == 4:
            os.kill(os.getpid(), number)
        time.sleep(0.02)
        return frame

    # As in the foreground of a shell; what is started in the background ignores SIGINT.
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, default)
    try:
        with pytest.raises(Stopped) as stopped:
            run_files(open_source("test:64x48@30:500"), slow, open_sink(tmp_path / "out.mp4"))
        assert signal.getsignal(number) is default
    finally:
        signal.signal(number, before)

    assert stopped.value.number == number
    assert 1 <= (open_source(tmp_path / "out.mp4").frame_count or 0) < 500


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as under nohup
    try:
        done = run_files(
            open_source("test:64x48@30:3"),
            lambda frame: os.kill(os.getpid(), signal.SIGTERM) or frame,  # type: ignore[func-returns-value]
            NullSink(),
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.frames == 3


CHILD = """
import sys, time
from doppelgan.runtime.schedule import run_live
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source.pattern import PatternSource
# Time that passes ten times as fast.
source = PatternSource(
    "test:64x48@30", wait=lambda s: time.sleep(s / 10), now_s=lambda: 10 * time.monotonic()
)
def process(frame):
    if frame.index > 60:
        print("go", flush=True)
    return frame
run_live(source, process, open_sink(sys.argv[1], like=source))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no kill -9")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_was_recorded_live_can_be_played_after_kill_9(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(out)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.5)  # five seconds of the recording, whose pieces are of 2 s
    child.kill()
    child.wait()
    child.stdout.close()

    assert not out.exists()
    with av.open(str(tmp_path / f"out{suffix}.part")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 20
