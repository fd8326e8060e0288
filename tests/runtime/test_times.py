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

from .clips import packets, read_counter
from .media import Pictures, Sound, copy, hear, write_media


def timeline(form: str, start_us: int | None = 0) -> Timeline:
    return Timeline(SimpleNamespace(format=SimpleNamespace(name=form), start_time=start_us))


def video_timeline(form: str = "mpegts", **rates: Any) -> Timeline:
    """Of a container whose stream 0 is one of pictures."""
    video = SimpleNamespace(**{"index": 0, "average_rate": Fraction(25), "guessed_rate": None, **rates})
    streams = SimpleNamespace(video=[video])
    return Timeline(SimpleNamespace(format=SimpleNamespace(name=form), start_time=None, streams=streams))


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
    [
        ("mpegts", 0.5, 0.5),
        ("mp4", 0.5, 0),
        ("mp4", 7200.0, 7200.0),
        ("matroska,webm", -0.5, -0.5),
        ("mp4", 1.0, 1.0),
        ("mp4", 0.999, 0),
        ("mp4", -0.1, -0.1),
        ("mp4", -0.099, 0),
        ("live_flv,x", 0.2, 0.2),
    ],
)
def test_files_that_start_anywhere_start_at_zero(form: str, start_s: float, shift: float) -> None:
    clock = timeline(form, round(start_s * 1e6))
    assert float(clock.start_s) == shift
    assert placed(clock, [start_s]) == [round(start_s - shift, 3)]


def test_a_file_that_does_not_say_where_it_starts_starts_at_zero() -> None:
    assert timeline("mpegts", None).start_s == 0


def test_packets_without_a_clock_are_left_alone() -> None:
    packet = packet_at(3)
    packet.time_base = None
    timeline("mpegts", 1_000_000).place(packet)
    assert (packet.pts, packet.dts) == (3 * 90000, 3 * 90000)


def test_both_times_of_a_packet_are_moved_alike() -> None:
    clock = timeline("mpegts", 1_400_000)
    for pts, dts, moved in (
        (144000, 135000, (18000, 9000)),
        (180000, None, (54000, None)),
        (None, 144000, (None, 18000)),
    ):
        packet = packet_at(0)
        packet.pts, packet.dts = pts, dts
        clock.place(packet)
        assert (packet.pts, packet.dts) == moved


@pytest.mark.parametrize(("back", "joints"), [(0.05, 0), (0.1, 0), (0.11, 1), (0.5, 1)])
def test_so_far_back_is_a_clock_that_starts_again(back: float, joints: int) -> None:
    clock = timeline("mp4")
    placed(clock, [0, 0.5, 1.0, 1.0 - back])
    assert clock.joints == joints


@pytest.mark.parametrize(
    ("form", "ahead_s", "joints"),
    [
        ("mpegts", 10, 0), ("mpegts", 10.04, 0), ("mpegts", 10.05, 1), ("mpegts", 25, 1),
        ("mp4", 25, 0), ("mp4", 12 * 3600 + 0.04, 0), ("mp4", 12 * 3600 + 0.05, 1),
    ],
)  # fmt: skip
def test_so_far_ahead_of_what_is_expected_is_a_joint(form: str, ahead_s: float, joints: int) -> None:
    clock = timeline(form)
    placed(clock, [0, ahead_s])  # expected at 0.04
    assert clock.joints == joints


@pytest.mark.parametrize("rates", [{}, {"average_rate": None, "guessed_rate": Fraction(25)}])
def test_pictures_without_a_duration_last_as_the_rate_says(rates: dict[str, Any]) -> None:
    clock = video_timeline(**rates)
    packets = [packet_at(moment) for moment in (0, 0.04, 30, 30.04)]
    for packet in packets:
        packet.duration = None
        clock.place(packet)
    assert [packet.pts / 90000 for packet in packets] == pytest.approx([0, 0.04, 0.08, 0.12])


@pytest.mark.parametrize(
    ("rate", "known"),
    [(Fraction(1, 2), True), (1, True), (1000, True), (1001, False), (0, False), (None, False), (-5, False)],
)
def test_a_rate_is_believed_where_it_can_be(rate: Any, known: bool) -> None:
    clock = video_timeline(average_rate=rate)
    packets = [packet_at(moment) for moment in (0, 30)]
    for packet in packets:
        packet.duration = None
        clock.place(packet)
    assert packets[1].pts / 90000 == pytest.approx(float(1 / Fraction(rate)) if known else 0, abs=1e-4)


PART = [0, 0.04, 0.08, 0.12, 0.16]


def test_three_parts_follow_each_other_for_every_stream() -> None:
    clock = timeline("mpegts")
    assert placed(clock, PART[:1], stream=1) == [0]
    assert placed(clock, PART * 3) == [round(0.04 * i, 3) for i in range(15)]
    assert clock.joints == 2
    # Sound comes later, as a whole: it passes the joints one by one.
    assert placed(clock, [*PART[1:], *PART, *PART], stream=1) == [round(0.04 * i, 3) for i in range(1, 15)]
    assert clock.joints == 2


def test_a_stream_that_begins_after_a_joint_belongs_to_the_newest_part() -> None:
    clock = timeline("mpegts")
    placed(clock, PART * 2)
    assert placed(clock, [None, 0.04], stream=1) == [None, 0.24]


def test_a_stream_follows_the_others_into_the_part_that_fits_better() -> None:
    """Its own step would be no jump."""
    clock = timeline("mpegts")
    assert placed(clock, [0, 4.96], stream=1) == [0, 4.96]
    assert placed(clock, [0, 0.04, 12, 12.04, 30]) == [0, 0.04, 0.08, 0.12, 0.16]
    assert placed(clock, [6, 12.5, 12.54], stream=1) == [6, 0.58, 0.62]


def test_pictures_that_a_joint_would_lay_over_others_move_it() -> None:
    clock = video_timeline()
    placed(clock, PART)
    placed(clock, [*PART[:4], 0], stream=1)  # the sound is shorter, and the first to begin again, at 0.16
    assert placed(clock, [0, 0.04]) == [0.2, 0.24]
    assert placed(clock, [0.04], stream=1) == [0.24]  # with its pictures


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([None, None, None], [0, 1, 2]),
        ([0, 1, 1, 2, 3], [0, 1, 1.5, 2, 3]),  # one that strayed
        ([0, 0, 0, 0], [0, 0.5, 1.5, 2.5]),  # a clock that stands still
        ([5, 4, 6], [5, 5.5, 6]),
        ([0, 10**6], [0, 1]),
        ([0, 12 * 3600, 24 * 3600 + 1], [0, 12 * 3600, 12 * 3600 + 1]),
        ([None, 0, 1, None, 5], [0, 0.5, 1, 2, 5]),
        ([3, 3, 4, 4, 5], [3, 3.5, 4, 4.5, 5]),  # each one that strayed lies between its neighbors
        ([-2, -1], [-2, -1]),
    ],
)
def test_times_of_pictures_grow(given: list[int | None], expected: list[float]) -> None:
    steady = Steady(Fraction(1))
    assert [float(steady(None if t is None else Fraction(t))) for t in given] == expected


@pytest.mark.parametrize(
    ("given", "repaired"),
    [
        ([0, 1, 2], 0),
        ([0, None, 2], 0),
        ([0, 0, 2], 1),
        ([0, 0, 0, 3, 2], 3),
        ([0, 10**6], 1),
        ([0, 43200], 0),
    ],
)
def test_every_time_that_had_to_be_repaired_is_counted(given: list[int | None], repaired: int) -> None:
    steady = Steady(Fraction(1))
    for moment in given:
        steady(None if moment is None else Fraction(moment))
    assert steady.repaired == repaired


@pytest.mark.parametrize(
    ("given", "believed"),
    [
        ([(None, None), (None, 3), (4, None)], [None, 3, 4]),
        ([(5, 1), (5, 2), (5, 3)], [5, 2, 3]),  # one that stands still is as bad as one that goes back
        ([(5, 1), (6, 1), (7, 1)], [5, 6, 7]),
        ([(5, 1), (4, 1), (6, 2)], [5, 4, 6]),
        ([(5, 9), (4, 8), (3, 9), (2, 10)], [5, 4, 9, 10]),  # as often wrong: its own
        ([(1, 9), (2, 8), (0, 9), (3, 10)], [1, 2, 0, 3]),
    ],
)
def test_of_two_times_that_is_believed_which_goes_back_less_often(
    given: list[Any], believed: list[Any]
) -> None:
    guess = BestEffort()
    assert [guess(pts, dts) for pts, dts in given] == believed


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


@pytest.mark.parametrize(
    ("rate", "seconds", "frames", "left_out"),
    [(44100, 0.58, 15, 0), (44100, 0.62, 16, 0), (48000, 0.57, 15, 0), (48000, 0.58, 15, 1)],
)
def test_sound_that_overlaps_by_less_than_half_a_packet_stays(
    tmp_path: Path, rate: int, seconds: float, frames: int, left_out: int
) -> None:
    """By 16 % of a packet, by 43 %, not at all, by 88 %."""
    sound = Sound(rate=rate, seconds=seconds, start_s=0.1)
    piece = write_media(tmp_path / "piece.ts", Pictures(frames=frames), [sound], ts_offset_s=1.4)
    path = tmp_path / "in.ts"
    path.write_bytes(piece.read_bytes() * 2)
    copied = packets(copy(path, tmp_path / "out.mkv"), "audio")
    assert len(copied) == 2 * len(packets(piece, "audio")) - left_out


def test_pictures_that_outlast_their_sound_keep_it_in_step(tmp_path: Path) -> None:
    clock = timeline("mpegts")
    clock._rates = {0: Fraction(25)}
    assert placed(clock, [0, 0.04, 0.08, 0.12]) == [0, 0.04, 0.08, 0.12]
    assert placed(clock, [0, 0.04], stream=1) == [0, 0.04]
    clock.place(packet_at(-0.2, stream=1))  # the sound of the next part, after 0.08 s of sound
    assert placed(clock, [-0.2, -0.16]) == [0.16, 0.2]
    assert placed(clock, [-0.16], stream=1) == [0.2]  # later than its own end asked for: with its pictures
