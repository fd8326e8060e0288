"""Video files and streams: exact times, orientation, colors, files that are cut off."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type as SideDataType
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import Source, SourceWarning, open_source, video
from doppelgan.runtime.source.video import VideoSource
from doppelgan.runtime.types import Image

from .clips import read_counter, write_clip
from .media import Pictures, write_media


def counters(source: Source) -> list[int]:
    return [read_counter(frame.image) for frame in source]


def test_a_video_file_gives_every_frame_with_its_index_and_time(tmp_path: Path) -> None:
    with open_source(write_clip(tmp_path / "a.mp4", frames=30, rate=25)) as source:
        assert (source.size, source.rate, source.frame_count, source.live) == ((64, 48), 25, 30, False)
        assert source.duration_s == pytest.approx(1.2)
        frames = list(source)

    assert [frame.index for frame in frames] == [read_counter(f.image) for f in frames] == list(range(30))
    assert [frame.time_s for frame in frames] == [i / 25 for i in range(30)]
    assert source.finished
    assert source.last_index == 29


def test_a_variable_rate_keeps_its_exact_times(tmp_path: Path) -> None:
    times = [Fraction(n, 90000) for n in (0, 3003, 3004, 45000, 45001, 123456)]
    with open_source(write_clip(tmp_path / "a.mp4", times=times)) as source:
        assert [frame.time_s for frame in source] == [float(moment) for moment in times]


def test_times_are_those_at_which_pictures_are_shown_not_decoded(tmp_path: Path) -> None:
    times = [Fraction(n, 1000) for n in (0, 40, 50, 200, 210, 220, 500, 540, 600, 610)]
    options = {"crf": "12", "preset": "veryfast", "x264-params": "bframes=3:b-adapt=0"}
    path = write_media(tmp_path / "a.mp4", Pictures(times=times, options=options))
    with av.open(str(path)) as container:
        stored = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert stored != sorted(stored)
    with open_source(path) as source:
        assert [frame.time_s for frame in source] == pytest.approx([float(moment) for moment in times])


def test_broadcast_formats_start_at_zero(tmp_path: Path) -> None:
    with open_source(write_clip(tmp_path / "a.ts", frames=4, rate=25)) as source:
        assert [frame.time_s for frame in source] == pytest.approx([0, 0.04, 0.08, 0.12])


@pytest.mark.parametrize(
    ("rotation", "flip", "upright"),
    [
        (0, False, lambda image: image),
        (90, False, lambda image: np.rot90(image)),
        (180, False, lambda image: np.rot90(image, 2)),
        (-90, False, lambda image: np.rot90(image, 3)),
        (0, True, lambda image: image[:, ::-1]),
        (90, True, lambda image: np.rot90(image)[:, ::-1]),
    ],
)
def test_frames_are_turned_upright(
    tmp_path: Path, rotation: float, flip: bool, upright: Callable[[Image], Image]
) -> None:
    plain = next(open_source(write_clip(tmp_path / "plain.mp4", frames=2)))
    turned = open_source(write_clip(tmp_path / "turned.mp4", frames=2, rotation=rotation, flip=flip))

    expected = upright(plain.image)
    assert turned.size == (expected.shape[1], expected.shape[0])
    np.testing.assert_array_equal(next(turned).image, expected)


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (1, 1, 0, 1),
        (1, 0, 1, 1),
        (1, 1, 1, 0),
        (0, 1, 1, 1),
    ],
)
def test_what_is_no_turn_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, matrix: tuple[int, ...]
) -> None:
    a, b, c, d = (65536 * one for one in matrix)
    data = struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = write_clip(tmp_path / "a.mp4", frames=1)
    plain = next(open_source(path)).image
    for whole in (data, data[:35]):
        monkeypatch.setattr(
            video, "_side_data", lambda picture, whole=whole: {SideDataType.DISPLAYMATRIX: whole}
        )
        np.testing.assert_array_equal(next(open_source(path)).image, plain)


def test_times_of_an_avi_are_those_at_which_it_is_decoded(tmp_path: Path) -> None:
    pictures = Pictures(
        frames=12, codec="mpeg4", options={"bf": "2", "qscale": "2"}, time_base=Fraction(1, 25)
    )
    with open_source(write_media(tmp_path / "a.avi", pictures)) as source:
        frames = list(source)
    assert [read_counter(frame.image) for frame in frames] == list(range(12))
    steps = np.diff([frame.time_s for frame in frames])
    assert steps == pytest.approx([0.04] * 11, abs=0.021)


def test_odd_sizes_are_read_whole(tmp_path: Path) -> None:
    with open_source(write_clip(tmp_path / "a.mp4", size=(65, 47), frames=3)) as source:
        assert source.size == (65, 47)
        assert {frame.image.shape for frame in source} == {(47, 65, 3)}


@pytest.mark.parametrize(("tagged", "matrix"), [(1, "ITU709"), (6, "ITU601")])
def test_colors_follow_the_matrix_that_the_file_states(tmp_path: Path, tagged: int, matrix: str) -> None:
    path = tmp_path / "red.mp4"
    red = np.zeros((48, 64, 3), np.uint8)
    red[:] = (40, 60, 200)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tagged, 1
        picture = av.VideoFrame.from_ndarray(red, format="bgr24")
        picture = picture.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range="MPEG")
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))

    image = next(open_source(path)).image

    assert np.abs(image.astype(int) - red).max() <= 3


def test_a_file_cut_off_gives_what_is_there_and_warns(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", size=(160, 120), frames=50, faststart=True)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])

    with (
        open_source(cut) as source,
        pytest.warns(SourceWarning, match=r"cut off or damaged: read \d+ frames, .* of 2.00 s"),
    ):
        read = counters(source)

    assert 10 < len(read) < 50
    assert read[:10] == list(range(10))


def test_a_whole_file_does_not_warn(tmp_path: Path) -> None:
    # Warnings are errors here.
    assert len(counters(open_source(write_clip(tmp_path / "a.mkv", frames=50)))) == 50


def test_closing_early_ends_the_frames(tmp_path: Path) -> None:
    source = open_source(write_clip(tmp_path / "a.mp4"))
    next(source)
    source.close()
    source.close()

    assert list(source) == []
    assert not source.finished


# Streams


def test_a_live_stream_stamps_arrival_and_ends_with_an_error(tmp_path: Path) -> None:
    clock = iter(range(100, 200))
    source = VideoSource(
        write_clip(tmp_path / "a.mp4", frames=3), live=True, now_s=lambda: float(next(clock))
    )

    assert source.live
    assert [next(source).time_s for _ in range(3)] == [100, 101, 102]
    with pytest.raises(SourceError, match="expected the stream to go on, but it ended"):
        next(source)

    source.reopen()
    assert read_counter(next(source).image) == 0


def test_a_file_cannot_be_reopened(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="opens once"):
        open_source(write_clip(tmp_path / "a.mp4")).reopen()


def test_a_stream_that_does_not_answer_says_so() -> None:
    with pytest.raises(
        SourceError, match=r"rtsp://127.0.0.1:1/x: expected a stream that answers, got: .*refused"
    ):
        open_source("rtsp://127.0.0.1:1/x")


def mjpeg_with_exif(path: Path, orientation: int) -> Path:
    """As cameras write it: every picture of the film carries Exif."""
    from PIL import Image as Pillow

    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 255  # white, top left
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    Pillow.fromarray(image).save(data, "JPEG", exif=exif.tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.start_encoding()
        for index in range(3):
            packet = av.Packet(data.getvalue())
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (6, (0, -1)), (8, (-1, 0))],
)
def test_pictures_whose_side_data_has_no_name_here_are_read_upright(
    tmp_path: Path, orientation: int, corner: tuple[int, int]
) -> None:
    with open_source(mjpeg_with_exif(tmp_path / "a.avi", orientation)) as source:
        frames = list(source)
    assert len(frames) == 3
    image = frames[0].image[..., 1]
    assert image.shape == ((64, 48) if orientation > 4 else (48, 64))
    white = [at for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if image[at] > 200]
    assert white == [corner]


def test_a_picture_of_a_phone_is_a_video_of_one_frame(shared: Path) -> None:
    with open_source(shared / "cases" / "exif-side-data" / "photo.heic") as source:
        assert sum(1 for _ in source) == 1


def test_pictures_of_an_unknown_codec_are_named(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=2)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(SourceError, match="pictures that FFmpeg can decode, got an unknown codec; convert"):
        open_source(path)
