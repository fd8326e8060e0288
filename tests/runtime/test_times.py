"""Times of files whose clocks start again, go back, stand still, jump or are missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.times import BestEffort, Steady, Timeline

from .clips import read_counter
from .media import Pictures, Sound, copy, hear, write_media


def timeline(form: str, start_us: int | None = 0) -> Timeline:
    return Timeline(SimpleNamespace(format=SimpleNamespace(name=form), start_time=start_us))


def placed(clock: Timeline, times_s: list[float | None], stream: int = 0) -> list[float | None]:
    """Where packets of 40 ms come to lie."""
    result: list[float | None] = []
    for moment in times_s:
        packet = packet_at(moment, stream)
        clock.place(packet)
        result.append(None if packet.dts is None else round(float(packet.dts * packet.time_base), 3))
    return result


def packet_at(moment_s: float | None, stream: int = 0) -> Any:
    base = Fraction(1, 90000)
    ticks = None if moment_s is None else round(moment_s / base)
    return SimpleNamespace(
        time_base=base, stream=SimpleNamespace(index=stream), pts=ticks, dts=ticks, duration=3600
    )


def test_a_clock_that_starts_again_goes_on_for_all_streams() -> None:
    clock = timeline("mpegts", 1_400_000)

    assert placed(clock, [1.4, 1.44, 1.48, 1.52]) == [0, 0.04, 0.08, 0.12]
    assert placed(clock, [1.4, 1.44, 1.48], stream=1) == [0, 0.04, 0.08]
    assert placed(clock, [1.4, 1.44]) == [0.16, 0.2]
    assert placed(clock, [1.52, 1.4], stream=1) == [0.12, 0.16]  # the last of the old part comes late
    assert placed(clock, [1.4], stream=2) == [0.16]
    assert clock.joints == 1


@pytest.mark.parametrize(("form", "kept"), [("mpegts", False), ("mov,mp4,m4a,3gp,3g2,mj2", True)])
def test_a_long_silence_is_a_joint_only_where_files_are_joined(form: str, kept: bool) -> None:
    assert placed(timeline(form), [0, 0.04, 60]) == [0, 0.04, 60 if kept else 0.08]


def test_a_day_ahead_is_an_error_everywhere() -> None:
    assert placed(timeline("matroska,webm"), [0, 0.04, 90_000, 90_000.04]) == [0, 0.04, 0.08, 0.12]


def test_jitter_is_left_alone_and_missing_times_stay_missing() -> None:
    assert placed(timeline("mpegts"), [0, None, 0.04, 0.02, 0.08]) == [0, None, 0.04, 0.02, 0.08]


@pytest.mark.parametrize(
    ("form", "start_s", "shift"),
    [("mpegts", 0.5, 0.5), ("mp4", 0.5, 0), ("mp4", 7200.0, 7200.0), ("matroska,webm", -0.5, -0.5)],
)
def test_files_that_start_anywhere_start_at_zero(form: str, start_s: float, shift: float) -> None:
    assert float(timeline(form, round(start_s * 1e6)).start_s) == shift


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([None, None, None], [0, 1, 2]),
        ([0, 1, 1, 2, 3], [0, 1, 1.5, 2, 3]),  # one that strayed
        ([0, 0, 0, 0], [0, 0.5, 1.5, 2.5]),  # a clock that stands still
        ([5, 4, 6], [5, 5.5, 6]),
        ([0, 10**6], [0, 1]),
    ],
)
def test_times_of_pictures_grow(given: list[int | None], expected: list[float]) -> None:
    steady = Steady(Fraction(1))
    assert [float(steady(None if t is None else Fraction(t))) for t in given] == expected


def test_decoding_times_are_believed_where_the_others_go_back() -> None:
    guess = BestEffort()
    assert [guess(pts, dts) for pts, dts in ((1, 1), (3, 2), (2, 3), (5, 4), (None, 5))] == [1, 3, 3, 4, 5]


def joined(tmp_path: Path, sound: bool, pieces: int = 2) -> Path:
    piece = write_media(
        tmp_path / "piece.ts", Pictures(frames=15), [Sound(seconds=0.6)] if sound else [], ts_offset_s=1.4
    )
    path = tmp_path / "joined.ts"
    path.write_bytes(piece.read_bytes() * pieces)
    return path


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_joined_broadcasts_play_one_after_the_other(tmp_path: Path, sound: bool, suffix: str) -> None:
    with open_source(copy(joined(tmp_path, sound, 3), tmp_path / f"out{suffix}")) as after:
        frames = list(after)

    assert [read_counter(frame.image) for frame in frames] == [*range(15)] * 3
    steps = np.diff([frame.time_s for frame in frames])
    # Where sound comes first, the next part begins when the sound of the last is over.
    assert steps == pytest.approx([0.04] * 44, abs=0.045 if sound else 0.002)
    assert (steps > 0).all()
    assert frames[-1].time_s - frames[0].time_s == pytest.approx(44 * 0.04, abs=0.09)


def test_sound_of_joined_broadcasts_stays_with_its_pictures(tmp_path: Path) -> None:
    (track,) = hear(copy(joined(tmp_path, sound=True), tmp_path / "out.mp4"))
    loud = np.abs(track.samples) > 0.05
    onsets = [i for i in np.flatnonzero(loud) if not loud[max(0, i - 4800) : i].any()]

    assert len(onsets) == 2
    assert (onsets[1] - onsets[0]) / track.rate == pytest.approx(0.6, abs=0.05)  # two frames of AAC


@pytest.mark.filterwarnings("error")
def test_a_film_that_was_trimmed_without_coding_it_again_is_whole(tmp_path: Path) -> None:
    """Its packets begin at the key frame before; an edit list tells from where on they are shown."""
    cut = 8 * 512 + 100  # a little after the eighth picture
    whole = write_media(tmp_path / "in.mp4", Pictures(frames=30, time_base=Fraction(1, 12800)))
    trimmed = tmp_path / "trimmed.mov"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - cut, packet.dts - cut
                packet.stream = stream
                target.mux(packet)
    with open_source(trimmed) as frames:
        count = len(list(frames))
    assert count == 21


def test_a_file_that_starts_hours_late_starts_at_once(tmp_path: Path) -> None:
    times = [7200 + Fraction(i, 25) for i in range(10)]
    path = write_media(tmp_path / "in.mkv", Pictures(frames=10, times=times), [Sound(start_s=7200)])
    with open_source(copy(path, tmp_path / "out.mp4")) as after:
        assert [round(frame.time_s, 2) for frame in after] == [i / 25 for i in range(10)]
    (track,) = hear(tmp_path / "out.mp4")
    assert track.onset_s == pytest.approx(0.3, abs=0.03)


def test_sound_that_overlaps_the_next_part_is_left_out(tmp_path: Path) -> None:
    # Pictures come first in the file, and tell where the next part begins.
    pictures, sound = Pictures(frames=15), Sound(seconds=0.7, onset_s=0.2, start_s=0.1)
    piece = write_media(tmp_path / "piece.ts", pictures, [sound], ts_offset_s=1.4)
    path = tmp_path / "in.ts"
    path.write_bytes(piece.read_bytes() * 3)

    copy(path, tmp_path / "out.mp4")

    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.audio[0]
        times = [p.pts * p.time_base for p in container.demux(stream) if p.pts is not None and p.size]
    assert min(np.diff([float(t) for t in times])) > 0.015  # none squeezed into a moment
    with open_source(tmp_path / "out.mp4") as after:
        frames = [frame.time_s for frame in after]
    (track,) = hear(tmp_path / "out.mp4")
    loud = np.abs(track.samples) > 0.05
    onsets = [i / track.rate for i in np.flatnonzero(loud) if not loud[max(0, i - 2400) : i].any()]
    # Every part's tone begins as long after its first picture.
    assert len(onsets) == 3
    late = [onset - frames[15 * part] + frames[0] for part, onset in enumerate(onsets)]
    assert np.ptp(late) < 0.07


def test_pictures_that_outlast_their_sound_keep_it_in_step(tmp_path: Path) -> None:
    clock = timeline("mpegts")
    clock._rates = {0: Fraction(25)}
    assert placed(clock, [0, 0.04, 0.08, 0.12]) == [0, 0.04, 0.08, 0.12]
    assert placed(clock, [0, 0.04], stream=1) == [0, 0.04]
    clock.place(packet_at(-0.2, stream=1))  # the sound of the next part, after 0.08 s of sound
    assert placed(clock, [-0.2, -0.16]) == [0.16, 0.2]
    assert placed(clock, [-0.16], stream=1) == [0.2]  # later than its own end asked for: with its pictures
