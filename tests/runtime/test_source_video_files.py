"""Video files and streams: how they are opened, which stream is read, what is announced."""

from __future__ import annotations

import dataclasses
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type as SideDataType
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import SourceWarning, open_source, video
from doppelgan.runtime.source.color import Color, ColorReader
from doppelgan.runtime.source.video import VideoSource

from .clips import read_counter, write_clip
from .media import Pictures, write_media


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything that is opened."""
    opened: list[Any] = []
    real = video.open_input

    def open_input(*args: Any, **options: Any) -> Any:
        opened.append(real(*args, **options))
        return opened[-1]

    monkeypatch.setattr(video, "open_input", open_input)
    return opened


def is_closed(container: Any) -> bool:
    try:
        next(container.demux(), None)
    except AssertionError:
        return True
    return False


# Opening


@pytest.mark.parametrize(
    ("location", "options", "timeout"),
    [
        ("rtsp://camera/1", {"rtsp_transport": "tcp"}, (10.0, 5.0)),
        ("rtsps://camera/1", {"rtsp_transport": "tcp"}, (10.0, 5.0)),
        ("http://host/a.mp4", {}, (10.0, 5.0)),
        ("a.mp4", {}, None),
    ],
)
def test_streams_have_to_answer_in_time_and_files_have_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, options: dict[str, str], timeout: Any
) -> None:
    asked = []

    def refuse(name: str, **given: Any) -> Any:
        asked.append((name, given))
        raise OSError(111, "Connection refused")

    monkeypatch.chdir(tmp_path)
    Path("a.mp4").touch()
    monkeypatch.setattr(video, "open_input", refuse)
    what = "a stream that answers" if timeout else "a whole video file that FFmpeg can read"
    with pytest.raises(SourceError, match=rf"expected {what}, got: Connection refused; check the address"):
        open_source(location)
    assert asked == [(location, {"options": options, "timeout": timeout})]


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"a\.mp4: expected a video file, found no such file; check the path"
    ):
        VideoSource(tmp_path / "a.mp4")


def test_a_file_without_pictures_is_closed_again(tmp_path: Path, containers: list[Any]) -> None:
    path = write_clip(tmp_path / "a.mp4", audio="aac", video=False)
    with pytest.raises(SourceError, match="expected a video stream, found audio; give a file with pictures"):
        open_source(path)
    assert is_closed(containers[0])


def test_a_file_none_of_whose_pictures_can_be_decoded_says_so(tmp_path: Path, containers: list[Any]) -> None:
    whole, bad = write_clip(tmp_path / "whole.mkv", frames=3), tmp_path / "bad.mkv"
    with av.open(str(whole)) as source, av.open(str(bad), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            twin = av.Packet(b"\0\0\0\4\x65\xff\xff\xff")
            twin.pts = twin.dts = packet.pts
            twin.stream, twin.time_base = stream, packet.time_base
            if packet.pts is not None:
                target.mux(twin)
    with pytest.raises(
        SourceError, match=r"expected frames, but not one could be decoded; is the file damaged\?"
    ):
        open_source(bad)
    assert is_closed(containers[0])


def test_pictures_beyond_all_measure_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged header asks for gigabytes."""
    assert video.MOST_PIXELS == 2**27
    path = write_clip(tmp_path / "a.mkv", frames=3)
    monkeypatch.setattr(video, "MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(SourceError, match="reading failed: Invalid argument"):
        open_source(path)
    monkeypatch.setattr(video, "MOST_PIXELS", 256 * 256)
    assert sum(1 for _ in open_source(path)) == 3


@pytest.mark.parametrize(("live", "threads"), [(False, "AUTO"), (True, "SLICE")])
def test_a_live_stream_is_decoded_without_the_delay_of_parallel_frames(
    tmp_path: Path, containers: list[Any], live: bool, threads: str
) -> None:
    with VideoSource(write_clip(tmp_path / "a.mp4", frames=2), live=live) as source:
        assert containers[0].streams.video[0].thread_type.name == threads
        assert (source.frame_count, source.duration_s, source.media is None) == (
            (None, None, True) if live else (2, pytest.approx(0.08), False)
        )
    assert is_closed(containers[0])


def test_a_live_stream_that_ended_is_opened_again_and_counts_on(
    tmp_path: Path, containers: list[Any]
) -> None:
    source = VideoSource(write_clip(tmp_path / "a.mp4", frames=2), live=True)
    assert [next(source).index for _ in range(2)] == [0, 1]
    with pytest.raises(SourceError, match=r"expected the stream to go on, but it ended; is the sender up\?"):
        next(source)
    source.reopen()
    assert is_closed(containers[0])
    frame = next(source)
    assert (frame.index, read_counter(frame.image)) == (2, 0)
    source.close()
    assert is_closed(containers[1])
    with pytest.raises(SourceError, match="the source is closed"):
        source.reopen()
    assert len(containers) == 2


# Which stream


def with_streams(
    path: Path, sizes: list[tuple[int, int, bool]], sound: bool = False, cover: bool = False
) -> Path:
    """A file of several streams of pictures: width, height, whether it is the default one."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        for width, height, default in sizes:
            stream: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = av.stream.Disposition.default if default else 0
            streams.append(stream)
        tone: Any = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        if cover:
            picture: Any = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 320, 240, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame(320, 240, "yuvj420p")))
            container.mux(picture.encode(None))
        for stream in streams:
            for _ in range(2):
                container.mux(stream.encode(av.VideoFrame(stream.width, stream.height, "yuv420p")))
            container.mux(stream.encode(None))
        if tone is not None:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            silence.sample_rate, silence.pts, silence.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(tone.encode(silence))
            container.mux(tone.encode(None))
    return path


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(96, 48, False), (64, 48, True)], 1),
        ([(64, 48, False), (96, 48, False)], 1),
        ([(96, 32, False), (64, 64, False)], 1),  # larger, if not wider
        ([(64, 48, False), (64, 48, False)], 0),
        ([(64, 48, True), (96, 48, True)], 1),
    ],
)
def test_the_stream_is_read_that_players_show(
    tmp_path: Path, sizes: list[tuple[int, int, bool]], chosen: int
) -> None:
    with open_source(with_streams(tmp_path / "a.mkv", sizes)) as source:
        assert source.size == sizes[chosen][:2]
        assert source.media is not None
        assert source.media.stream == chosen
        assert sum(1 for _ in source) == 2


def test_a_film_is_read_not_its_larger_cover(tmp_path: Path) -> None:
    with open_source(with_streams(tmp_path / "a.mp4", [(64, 48, True)], cover=True)) as source:
        assert source.size == (64, 48)


def test_a_songs_cover_is_no_film_but_a_lone_picture_is_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a video stream, found audio, video; give a file with"):
        open_source(with_streams(tmp_path / "song.mp4", [], sound=True, cover=True))
    with open_source(with_streams(tmp_path / "lone.mp4", [], cover=True)) as source:
        assert source.size == (320, 240)


# What a file announces


@pytest.mark.parametrize(
    ("suffix", "count", "described"),
    [
        (".mp4", 25, {}),
        (".mkv", None, {}),
        (".avi", 25, {"codec": "mpeg4", "options": {}, "time_base": Fraction(1, 25)}),
        (".flv", None, {"codec": "flv", "options": {}, "time_base": Fraction(1, 25)}),
    ],
)
def test_length_and_rate_are_known_before_the_last_frame(
    tmp_path: Path, suffix: str, count: int | None, described: dict[str, Any]
) -> None:
    with open_source(write_media(tmp_path / f"a{suffix}", Pictures(**described))) as source:
        assert (source.frame_count, source.rate, source.live) == (count, 25, False)
        assert source.duration_s == pytest.approx(1, abs=0.05)
        assert [frame.time_s for frame in source] == pytest.approx([i / 25 for i in range(25)], abs=1e-3)


@pytest.mark.parametrize(
    ("suffix", "rate", "believed"),
    [
        (".mov", Fraction(1, 2), Fraction(1, 2)),
        (".mov", Fraction(1), 1),
        (".mov", Fraction(1000), 1000),
        (".mov", Fraction(1500), 25),
        (".mkv", Fraction(1500), 1000),  # its times are of milliseconds
        (".nut", Fraction(1500), 25),  # states none
    ],
)
def test_a_rate_is_believed_where_it_can_be(
    tmp_path: Path, suffix: str, rate: Fraction, believed: Fraction
) -> None:
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index in range(4):
            picture = av.VideoFrame(64, 48, "yuvj420p")
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with open_source(path) as source:
        assert source.rate == believed


@pytest.mark.parametrize("late_s", [0, 7200])
def test_a_file_that_starts_late_is_no_longer_for_it(tmp_path: Path, late_s: int) -> None:
    times = [late_s + Fraction(i, 25) for i in range(10)]
    with open_source(write_media(tmp_path / "a.mkv", Pictures(frames=10, times=times))) as source:
        assert source.media is not None
        assert source.media.start_s == late_s
        assert source.duration_s == pytest.approx(0.4, abs=0.01)


def test_a_container_that_announces_no_length_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    with open_source(path) as source:
        assert (source.frame_count, source.duration_s) == (None, None)
        assert [frame.time_s for frame in source] == pytest.approx([0, 0.04, 0.08])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("rotation", "aspect"),
    [(0, Fraction(4, 3)), (180, Fraction(4, 3)), (90, Fraction(3, 4)), (-90, Fraction(3, 4))],
)
def test_pixels_are_as_wide_as_they_are_displayed(
    tmp_path: Path, rotation: int, flip: bool, aspect: Fraction
) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.metadata["handler_name"] = "mine"
        container.metadata["title"] = "a turn"
        if rotation or flip:
            stream.set_display_rotation(rotation, hflip=flip)
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    with open_source(path) as source:
        assert source.media is not None
        assert source.media.pixel_aspect == aspect
        assert source.media.path == str(path)
        assert source.media.metadata["title"] == "a turn"
        assert source.media.stream_metadata["handler_name"] == "mine"
        assert not source.media.silent
        with pytest.raises(dataclasses.FrozenInstanceError):
            source.media.silent = True  # type: ignore[misc]


@pytest.mark.parametrize("rotation", [45, 20, -30])
def test_turns_of_less_than_a_quarter_are_left_to_the_viewer(tmp_path: Path, rotation: int) -> None:
    with open_source(write_clip(tmp_path / "a.mp4", frames=1, rotation=rotation)) as source:
        assert source.size == (64, 48)
        assert read_counter(next(source).image) == 0


@pytest.mark.parametrize("rotation", [89, 91])
def test_a_turn_that_is_nearly_a_quarter_is_one(tmp_path: Path, rotation: int) -> None:
    with open_source(write_clip(tmp_path / "a.mp4", frames=1, rotation=rotation)) as source:
        assert source.size == (48, 64)


@pytest.mark.parametrize(
    ("stated", "believed"),
    [(99, None), (100, 100.0), (400, 400.0), (10000, 10000.0), (10001, None), (None, None)],
)
def test_the_light_of_the_brightest_pixel_is_believed_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: int | None, believed: float | None
) -> None:
    peaks = []

    class Reader(ColorReader):
        def __init__(self, color: Color, size: tuple[int, int], peak_nits: float | None = None) -> None:
            peaks.append(peak_nits)

        def __call__(self, picture: Any) -> Any:  # without the table, which takes its time
            return np.zeros((48, 64, 3), np.uint8), None

    monkeypatch.setattr(video, "ColorReader", Reader)
    stated_light = b"" if stated is None else struct.pack("=2I", stated, 50)
    monkeypatch.setattr(video, "_side_data", lambda picture: {SideDataType.CONTENT_LIGHT_LEVEL: stated_light})
    pictures = Pictures(
        frames=1, codec="ffv1", pixel_format="yuv420p10le", options={},
        tags={"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1},
    )  # fmt: skip
    with pytest.warns(SourceWarning, match=r"high dynamic range \(PQ\)") as caught:
        source = open_source(write_media(tmp_path / "a.mkv", pictures))
    assert caught[0].filename == __file__
    assert peaks == [believed]
    assert source.media is not None
    assert source.media.color == Color(bits=10)
