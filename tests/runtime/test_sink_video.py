"""Video files as a sink: exact times, audio, colors, files that are whole or not there."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.sink import SinkWarning, open_sink
from doppelgan.runtime.sink.video import VideoSink, bgr_to_yuv
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.pattern import PatternSource
from doppelgan.runtime.types import Frame

from .clips import frame, left_in, packets, read_counter, write_clip


def copy(source_path: Path, sink_path: Path, **options: Any) -> Path:
    with open_source(source_path) as source, open_sink(sink_path, like=source, **options) as sink:
        for one in source:
            sink.write(one)
    return sink_path


@pytest.mark.parametrize("rate", [25, Fraction(30000, 1001)])
def test_frames_rate_size_and_times_survive(tmp_path: Path, rate: Fraction | int) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=40, rate=rate, time_base=1 / Fraction(rate) / 1000)
    with open_source(clip) as before, open_source(copy(clip, tmp_path / "out.mp4")) as after:
        assert (after.size, after.rate, after.frame_count) == (before.size, before.rate, 40)
        assert after.duration_s == before.duration_s
        pairs = list(zip(before, after, strict=True))

    assert [a.time_s for a, _ in pairs] == [b.time_s for _, b in pairs]
    assert [read_counter(b.image) for _, b in pairs] == list(range(40))
    assert min(cv2.PSNR(a.image, b.image) for a, b in pairs) > 30


def test_a_variable_rate_survives_to_the_tick(tmp_path: Path) -> None:
    times = [Fraction(n, 90000) for n in (2999, 3003, 3004, 45000, 45001, 123456)]
    clip = write_clip(tmp_path / "in.mp4", times=times)

    after = packets(copy(clip, tmp_path / "out.mp4"), "video")

    assert sorted(pts for pts, _, _ in after if pts is not None) == [moment * 90000 for moment in times]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_audio_is_copied_packet_by_packet(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=30, audio="aac")

    before, after = packets(clip, "audio"), packets(copy(clip, tmp_path / f"out{suffix}"), "audio")

    assert len(before) > 50
    assert [data for *_, data in after] == [data for *_, data in before]
    if suffix != ".mkv":  # Matroska counts in milliseconds
        assert after == before


def test_audio_and_pictures_stay_together_when_the_file_starts_late(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.ts", frames=30, audio="aac")
    copy(clip, tmp_path / "out.mp4")

    def offset_s(path: Path) -> float:
        with av.open(str(path)) as container:
            starts = [float(s.start_time * s.time_base) for s in container.streams]
        return starts[1] - starts[0]

    assert offset_s(tmp_path / "out.mp4") == pytest.approx(offset_s(clip), abs=2e-3)


def test_audio_is_interleaved_with_the_pictures(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=100, audio="aac")
    with av.open(str(copy(clip, tmp_path / "out.mp4"))) as container:
        kinds = [p.stream.type for p in sorted(container.demux(), key=lambda p: p.pos or 0) if p.size]

    longest = max(len(run) for run in "".join(kind[0] for kind in kinds).replace("va", "v a").split())
    assert longest < len(kinds) / 2


def test_audio_that_the_container_refuses_is_encoded_again_with_a_warning(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=25, audio="aac")
    with pytest.warns(
        SinkWarning, match=r"webm cannot hold aac audio: encoded again as libopus; write \.mkv"
    ):
        copy(clip, tmp_path / "out.webm")

    with av.open(str(tmp_path / "out.webm")) as container:
        sound = np.concatenate([f.to_ndarray().ravel() for f in container.decode(audio=0)])
    assert len(sound) / 48000 == pytest.approx(1.0, abs=0.005)
    spectrum = np.abs(np.fft.rfft(sound))
    assert np.argmax(spectrum) * 48000 / len(sound) == pytest.approx(440, abs=3)


def test_audio_can_be_left_out(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=5, audio="aac")
    with av.open(str(copy(clip, tmp_path / "out.mp4", audio=False))) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_audio_ends_with_the_pictures_when_the_run_is_cut_short(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=100, audio="aac")
    with open_source(clip) as source, open_sink(tmp_path / "out.mp4", like=source) as sink:
        for one in source:
            sink.write(one)
            if one.index == 24:
                break

    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [float(s.duration * s.time_base) for s in container.streams] == pytest.approx([1, 1], abs=0.05)


def test_metadata_is_kept(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=2, title="a sine")
    with av.open(str(copy(clip, tmp_path / "out.mp4"))) as container:
        assert container.metadata["title"] == "a sine"


def test_turned_files_come_out_upright(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=2, rotation=90)
    with open_source(copy(clip, tmp_path / "out.mp4")) as after, open_source(clip) as before:
        assert after.size == before.size == (48, 64)
        assert cv2.PSNR(next(before).image, next(after).image) > 30


@pytest.mark.parametrize(
    ("even", "size", "pixels"), [(False, (65, 47), "yuv444p"), (True, (66, 48), "yuv420p")]
)
def test_odd_sizes_are_exact_or_padded(
    tmp_path: Path, even: bool, size: tuple[int, int], pixels: str
) -> None:
    clip = write_clip(tmp_path / "in.mp4", size=(65, 47), frames=3)
    with open_source(copy(clip, tmp_path / "out.mp4", even=even)) as after, open_source(clip) as before:
        assert after.size == size
        images = next(before).image, next(after).image[:47, :65]
    # Brightness only: 4:2:0 blurs the colors of these narrow bars.
    assert cv2.PSNR(*(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in images)) > 30
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == pixels


def test_a_file_says_how_its_colors_are_meant(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out.mp4") as sink:
        sink.write(frame(100))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )


def test_colors_survive(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    with open_sink(tmp_path / "out.mp4", crf=4) as sink:
        sink.write(Frame(image, 0, 0))

    after = next(open_source(tmp_path / "out.mp4")).image

    inside = [(12, 16), (12, 48), (36, 16), (36, 48)]
    assert max(np.abs(after[at].astype(int) - image[at]).max() for at in inside) <= 6


@pytest.mark.parametrize("cell", [1, 2])
def test_the_color_conversion_is_that_of_the_standard_rounded(cell: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    image = np.kron(image[::cell, ::cell], np.ones((cell, cell, 1), np.uint8))
    blue, green, red = np.moveaxis(image.astype(np.float64) / 255, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    chroma = [(blue - luma) / 1.8556, (red - luma) / 1.5748]
    halves = [c.reshape(10, 2, 8, 2).mean((1, 3)) for c in chroma]

    planes = np.asarray(bgr_to_yuv(image, "yuv420p", VideoReformatter()).to_ndarray(), float)

    off = [planes[:20] - (16 + 219 * luma)]
    for plane, half in zip(planes[20:].reshape(2, 10, 8), halves, strict=True):
        off.append(plane - (128 + 224 * half))
    assert max(np.abs(plane).max() for plane in off) < 0.75
    assert max(abs(plane.mean()) for plane in off) < 0.2  # cutting off instead of rounding: -0.5


@pytest.mark.parametrize("jump_s", [-3600.0, 86_400.0])
def test_a_clock_that_jumps_is_not_followed(tmp_path: Path, jump_s: float) -> None:
    """A day is more than MP4 can hold between two pictures; an hour back would squeeze an hour to nothing."""
    with open_sink(tmp_path / "out.mp4", rate=25) as sink:
        for index in range(20):
            sink.write(frame(index, time_s=index / 25 + (jump_s if index >= 10 else 0)))
    times = [one.time_s for one in open_source(tmp_path / "out.mp4")]
    assert times == pytest.approx([index / 25 for index in range(20)], abs=1e-3)


def test_live_frames_start_at_zero_and_keep_their_distances(tmp_path: Path) -> None:
    source = PatternSource("test:64x48@30", wait=lambda seconds: None)
    with open_sink(tmp_path / "out.mp4", like=source) as sink:
        for index, moment in enumerate((5000.0, 5000.125, 5000.125, 5001.5)):
            sink.write(frame(index, index, time_s=moment))

    times = [one.time_s for one in open_source(tmp_path / "out.mp4")]
    assert times == pytest.approx([0, 0.125, 0.125, 1.5], abs=2e-5)
    assert times[2] > times[1]


def test_mpeg4_is_written_where_there_is_no_h264(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    clip = write_clip(tmp_path / "in.mp4", frames=10, rate=25)
    with av.open(str(copy(clip, tmp_path / "out.mp4"))) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert [read_counter(f.to_ndarray(format="bgr24")) for f in container.decode(video=0)] == list(
            range(10)
        )
    with open_source(tmp_path / "out.mp4") as after:
        assert [one.time_s for one in after] == [i / 25 for i in range(10)]


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    sink.write(frame())
    assert left_in(tmp_path) == ["out.mp4.part"]

    sink.close()
    sink.close()

    assert left_in(tmp_path) == ["out.mp4"]


def test_without_a_frame_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("an earlier result")
    open_sink(tmp_path / "out.mp4").close()

    assert (tmp_path / "out.mp4").read_text() == "an earlier result"
    assert left_in(tmp_path) == ["out.mp4"]


def test_an_error_elsewhere_leaves_what_was_done(tmp_path: Path) -> None:
    def fail() -> None:
        with open_sink(tmp_path / "out.mp4") as sink:
            for index in range(7):
                sink.write(frame(index, index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert open_source(tmp_path / "out.mp4").frame_count == 7


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Writing past ``size`` bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def write_noise() -> None:
        with open_sink(tmp_path / "out.mp4", crf=1) as sink:
            for index in range(60):
                sink.write(Frame(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8), index, index / 30))

    with (
        files_end_at(200_000),
        pytest.raises(SinkError, match=r"out\.mp4: cannot write: .*; check free space"),
    ):
        write_noise()

    assert left_in(tmp_path) == []


def test_a_frame_of_another_size_is_refused_and_the_rest_kept(tmp_path: Path) -> None:
    def write_two_sizes() -> None:
        with open_sink(tmp_path / "out.mp4") as sink:
            sink.write(frame())
            sink.write(frame(size=(32, 32)))

    with pytest.raises(SinkError, match="expected 64x48 as before, got 32x32"):
        write_two_sizes()

    assert open_source(tmp_path / "out.mp4").frame_count == 1


def test_real_clips_survive_the_round_trip(shared: Path, tmp_path: Path) -> None:
    for clip in sorted((shared / "media").glob("*.mp4")):
        # Frames of a quarter of the size, which are coded sooner; times and sound are what is asked for here.
        with open_source(clip) as source, open_sink(tmp_path / clip.name, like=source) as sink:
            for one in source:
                sink.write(replace(one, image=one.image[::4, ::4]))
        with open_source(clip) as before, open_source(tmp_path / clip.name) as after:
            assert (after.size, after.rate) == (
                (-(-before.size[0] // 4), -(-before.size[1] // 4)),
                before.rate,
            )
            assert (after.frame_count, after.duration_s) == (before.frame_count, before.duration_s)
        times = [
            sorted(pts or 0 for pts, *_ in packets(path, "video")) for path in (clip, tmp_path / clip.name)
        ]
        assert times[0] == times[1]
        assert packets(tmp_path / clip.name, "audio") == packets(clip, "audio")


@pytest.mark.parametrize("fails_at", [0, 1])
def test_what_fails_before_the_first_picture_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    sink = VideoSink(tmp_path / "out.mp4", rate=25)
    real, count = sink._picture, 0

    def picture(frame: Frame) -> Any:
        nonlocal count
        count += 1
        if count > fails_at:
            raise RuntimeError("no picture")
        return real(frame)

    monkeypatch.setattr(sink, "_picture", picture)
    for number in range(fails_at):
        sink.write(frame(index=number))
    with pytest.raises(RuntimeError, match="no picture"):
        sink.write(frame(index=fails_at))
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"] * fails_at


@pytest.mark.parametrize(
    ("suffix", "width", "codec"),
    [
        (".mp4", 16384, "libx264"),
        (".mp4", 16386, "libvpx-vp9"),
        (".mkv", 65534, "libvpx-vp9"),
        (".mov", 16384, "libx264"),
        (".webm", 64, "libvpx-vp9"),
    ],
)
def test_pictures_too_wide_for_h264_are_coded_in_vp9(
    tmp_path: Path, suffix: str, width: int, codec: str
) -> None:
    with VideoSink(tmp_path / f"out{suffix}", rate=25) as sink:
        assert sink._choose_codec(width, 64) == codec
        assert sink._choose_codec(64, width) == codec


@pytest.mark.parametrize(("suffix", "width", "limit"), [(".mov", 16385, 16384), (".mp4", 65536, 65535)])
def test_pictures_that_no_codec_takes_are_refused(
    tmp_path: Path, suffix: str, width: int, limit: int
) -> None:
    with (
        VideoSink(tmp_path / f"out{suffix}", rate=25) as sink,
        pytest.raises(SinkError, match=f"expected pictures of up to {limit} pixels a side, got {width}x64"),
    ):
        sink._choose_codec(width, 64)


class Refusing:
    """A container that does not take its tracks together."""

    def __init__(self, container: Any, error: Exception) -> None:
        self._container, self._error = container, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def start_encoding(self) -> None:
        raise self._error


def test_tracks_that_do_not_go_together_are_left_out_before_the_first_picture(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=6, audio="aac")
    with open_source(clip) as source:
        sink = VideoSink(tmp_path / "out.mp4", like=source)
        sink._container = Refusing(sink._container, ValueError("they do not go together"))
        with pytest.warns(SinkWarning, match="sound and other tracks are left out: they do not go together"):
            sink.write(next(source))
        for one in source:
            sink.write(one)
        sink.close()
    assert packets(tmp_path / "out.mp4", "audio") == []
    with open_source(tmp_path / "out.mp4") as after:
        assert [read_counter(one.image) for one in after] == list(range(6))
    assert left_in(tmp_path) == ["in.mp4", "out.mp4"]


def test_a_full_disk_is_not_taken_for_tracks_that_do_not_go_together(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=3, audio="aac")
    with open_source(clip) as source:
        sink = VideoSink(tmp_path / "out.mp4", like=source)
        sink._container = Refusing(sink._container, OSError(28, "No space left on device"))
        with pytest.raises(SinkError, match="No space left on device"):
            sink.write(next(source))
        sink.close()
    assert left_in(tmp_path) == ["in.mp4"]
