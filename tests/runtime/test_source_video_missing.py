"""What video files lack: ends that were cut off, damaged packets, disks and lines that break midway."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from av.error import FFmpegError
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import open_source, video
from doppelgan.runtime.source.video import VideoSource

from .clips import write_clip
from .media import Pictures, Sound, write_media


def read_all(source: Any) -> list[str]:
    """What is said at the end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(source)
    assert all(one.filename == __file__ for one in caught)
    return [str(one.message).split(": ", 1)[1] for one in caught]


@pytest.mark.parametrize(
    ("frames", "rate", "more_s", "is_short"),
    [
        (4, 25, 0.9, False),
        (4, 25, 1.1, True),
        (4, 1, 1.9, False),
        (4, 1, 2.1, True),
        (1, 25, 0.9, False),
        (1, 25, 1.1, True),
    ],
)
def test_a_film_shorter_than_announced_by_more_than_a_second_is_cut_off(
    tmp_path: Path, frames: int, rate: int, more_s: float, is_short: bool
) -> None:
    source = open_source(write_clip(tmp_path / "a.mkv", frames=frames, rate=rate))
    source.duration_s = frames / rate + more_s
    read = f"read {frames} frames, {frames / rate:.2f} s of {source.duration_s:.2f} s, 0 damaged packets"
    assert read_all(source) == ([f"the file is cut off or damaged: {read}"] if is_short else [])


@pytest.mark.parametrize(("last_s", "ends_s"), [(0.5, 0.96), (0.1, 0.14), (2.1, 3.1)])
def test_the_last_frame_lasts_as_long_as_the_one_before_but_a_second_at_most(
    tmp_path: Path, last_s: float, ends_s: float
) -> None:
    times = [Fraction(0), Fraction(4, 100), Fraction(last_s).limit_denominator(100)]
    write_clip(tmp_path / "a.mkv", times=times)
    for missing_s, is_short in ((0.97, False), (1.03, True)):
        source = open_source(tmp_path / "a.mkv")
        source.rate = Fraction(25)
        source.duration_s = ends_s + missing_s
        assert bool(read_all(source)) is is_short


@pytest.mark.parametrize(
    ("announced", "missing_s", "is_short"),
    [(10, 0.0, False), (10, 5.0, False), (11, 0.015, False), (11, 0.025, True)],
)
def test_fewer_pictures_than_announced_are_cut_off_if_they_end_earlier_too(
    tmp_path: Path, announced: int, missing_s: float, is_short: bool
) -> None:
    source = open_source(write_clip(tmp_path / "a.mp4", frames=10, rate=25))
    assert isinstance(source, VideoSource)
    for _ in range(10):
        next(source)
    source._stream = SimpleNamespace(frames=announced)
    source.duration_s = 0.4 + missing_s
    assert bool(read_all(source)) is is_short


class Breaking:
    """A container whose packets end with an error."""

    def __init__(self, container: Any, after: int, errors: list[Exception]) -> None:
        self._container, self._after, self._errors = container, after, errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, *streams: Any) -> Any:
        return Packets(self._container.demux(*streams), self._after, self._errors)


class Packets:
    def __init__(self, packets: Iterator[Any], after: int, errors: list[Exception]) -> None:
        self._packets, self._after, self._errors, self._count = packets, after, list(errors), 0

    def __iter__(self) -> Packets:
        return self

    def __next__(self) -> Any:
        if self._count == self._after and self._errors:
            raise self._errors.pop(0)
        self._count += 1
        return next(self._packets)


def breaking(monkeypatch: pytest.MonkeyPatch, after: int, errors: list[Exception]) -> None:
    real = video.open_input
    monkeypatch.setattr(
        video, "open_input", lambda *args, **options: Breaking(real(*args, **options), after, errors)
    )


INVALID = av.error.InvalidDataError(1094995529, "Invalid data found when processing input")
BROKEN = FFmpegError(5, "Input/output error")


def test_damaged_packets_are_counted_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=10)
    breaking(monkeypatch, 6, [INVALID, INVALID])
    source = open_source(path)
    said = "the file is cut off or damaged: read 10 frames, 0.40 s of 0.40 s, 2 damaged packets"
    assert read_all(source) == [said]
    source = open_source(path)
    source.duration_s = None
    assert read_all(source) == [said.replace(" of 0.40 s", "")]


@pytest.mark.parametrize("error", [BROKEN, OSError(5, "Input/output error")])
def test_what_breaks_midway_ends_a_file_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=20)
    breaking(monkeypatch, 15, [error])
    source = open_source(path)
    (said,) = read_all(source)
    assert said.endswith(" 1 damaged packets")
    assert source.finished


def test_what_breaks_at_once_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=3)
    breaking(monkeypatch, 0, [BROKEN])
    with pytest.raises(
        SourceError, match="reading failed: Input/output error; the disk or its connection failed"
    ):
        open_source(path)


def test_what_breaks_midway_is_an_error_of_a_live_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=20)
    breaking(monkeypatch, 15, [BROKEN])
    source = VideoSource(path, live=True)
    with pytest.raises(SourceError, match="reading failed: Input/output error"):
        list(source)
    assert not source.finished


def test_a_joined_file_is_not_measured_by_what_its_last_part_announces(tmp_path: Path) -> None:
    part = write_media(tmp_path / "part.ts", Pictures(frames=15), [Sound(seconds=0.6)], ts_offset_s=1.4)
    path = tmp_path / "in.ts"
    path.write_bytes(part.read_bytes() * 2)
    source = open_source(path)
    source.duration_s = 100.0
    assert read_all(source) == []
