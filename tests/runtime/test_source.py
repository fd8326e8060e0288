"""Sources: what text opens what, exact times, orientation, and errors that help."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import Source, SourceWarning, list_cameras, open_source
from doppelgan.runtime.source import v4l2_capture as v4l2
from doppelgan.runtime.source.camera import CameraSource
from doppelgan.runtime.source.pattern import PatternSource
from doppelgan.runtime.source.raw import RawSource
from doppelgan.runtime.source.video import VideoSource
from doppelgan.runtime.types import Image

from .clips import read_counter, write_clip


def counters(source: Source) -> list[int]:
    return [read_counter(frame.image) for frame in source]


# Video files


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


# Images


def write_images(folder: Path, *names: str) -> None:
    for shade, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((32, 40, 3), shade * 10, np.uint8))


def shades(source: Source) -> list[int]:
    return [int(frame.image[0, 0, 0]) for frame in source]


@pytest.mark.parametrize("text", ["", "/*.png", "/shot%d.png", "/shot[0-9]*.png"])
def test_images_come_in_natural_order(tmp_path: Path, text: str) -> None:
    write_images(tmp_path, "shot1.png", "shot2.png", "shot10.png")
    (tmp_path / "notes.txt").write_text("not an image")

    with open_source(f"{tmp_path}{text}", rate=10) as source:
        assert (source.size, source.rate, source.frame_count) == ((40, 32), 10, 3)
        frames = list(source)

    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 10, 20]
    assert [frame.time_s for frame in frames] == [0, 0.1, 0.2]


def test_a_printf_pattern_takes_only_numbers(tmp_path: Path) -> None:
    write_images(tmp_path, "shot1.png", "shot_old.png")

    assert shades(open_source(tmp_path / "shot%d.png")) == [0]


def test_one_image_is_one_frame(tmp_path: Path) -> None:
    write_images(tmp_path, "a.PNG")
    with open_source(tmp_path / "a.PNG") as source:
        assert (source.frame_count, shades(source)) == (1, [0])


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "3.png")
    for name in ("0.png", "2.png", "4.png"):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.warns(SourceWarning, match=r"0\.png: expected an image, got something .*; left out"):
        source = open_source(tmp_path)
    first = next(source)
    with pytest.warns(SourceWarning, match=r"2\.png: expected an image"):
        second = next(source)
    with pytest.warns(SourceWarning, match=r"4\.png: expected an image"), pytest.raises(StopIteration):
        next(source)
    assert [(frame.index, frame.time_s) for frame in (first, second)] == [(1, 1 / 30), (3, 3 / 30)]
    assert [Path(name).name for name in source.skipped] == ["0.png", "2.png", "4.png"]


@pytest.mark.filterwarnings("ignore::doppelgan.runtime.source.SourceWarning")
def test_only_unreadable_images_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"nonsense")
    (tmp_path / "2.png").write_bytes(b"nonsense")
    for text in (tmp_path, tmp_path / "1.png"):
        with pytest.raises(SourceError, match=r"1\.png: expected an image, got something"):
            open_source(text)


def test_numbered_images_may_have_brackets_and_stars_in_their_names(tmp_path: Path) -> None:
    write_images(tmp_path, "a[1]_1.png", "a[1]_2.png")
    assert open_source(tmp_path / "a[1]_%d.png").frame_count == 2
    assert open_source(tmp_path / "a[1]_2.png").frame_count == 1


@pytest.mark.parametrize("name", ["0", "-1"])
def test_a_file_called_like_a_camera_is_a_file_where_files_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4").rename(tmp_path / name)
    assert open_source(name, files_first=True).media is not None
    assert open_source(f"./{name}").media is not None


ODD_NAMES = ["9" * 300, "x" * 5000, "v4l2src ! " * 60, "²", "٣", "test:64x64@1/0", "test:٣x٣"]


@pytest.mark.parametrize("text", ODD_NAMES)
def test_odd_names_of_sources_are_one_line(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(text)
    assert len(str(caught.value)) < 6000
    assert "\n" not in str(caught.value)


def test_raw_frames_that_cannot_be_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(SourceError, match=r"expected frames of at most 300 megapixels, got 100000x100000"):
        open_source("-", size=(100000, 100000))


def test_a_closed_standard_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="standard input: expected frames, got a closed stream"):
        open_source("-", size=(4, 4))


# Raw input


@pytest.mark.parametrize("pixel_format", ["bgr24", "rgb24"])
def test_raw_frames_are_read_by_size(pixel_format: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    source = RawSource(size=(6, 4), rate=10, pixel_format=pixel_format, stream=io.BytesIO(image.tobytes()))

    frames = list(source)

    expected = image if pixel_format == "bgr24" else image[..., ::-1]
    np.testing.assert_array_equal([frame.image for frame in frames], expected)
    assert [frame.time_s for frame in frames] == [0, 0.1, 0.2]


def test_raw_input_that_ends_inside_a_frame_warns() -> None:
    source = RawSource(size=(6, 4), stream=io.BytesIO(bytes(6 * 4 * 3 + 5)))
    next(source)

    with pytest.warns(SourceWarning, match=r"ended inside frame 1: 5 of 72 bytes; is the size 6x4 right\?"):
        assert list(source) == []


# Test pattern


def test_the_pattern_with_a_number_of_frames_is_like_a_file() -> None:
    with open_source("test:64x48@30000/1001:70") as source:
        assert (source.size, source.rate, source.frame_count) == ((64, 48), Fraction(30000, 1001), 70)
        assert not source.live
        frames = list(source)

    assert [read_counter(frame.image) for frame in frames] == list(range(70))
    assert frames[30].time_s == pytest.approx(1.001)
    assert (frames[0].image != frames[1].image).any()


def test_the_pattern_without_end_paces_itself_like_a_camera() -> None:
    now = [50.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    source = PatternSource("test:64x48@10", wait=wait, now_s=lambda: now[0])

    assert source.live
    assert source.frame_count is None
    assert [next(source).time_s for _ in range(4)] == pytest.approx([50, 50.1, 50.2, 50.3])


# Cameras


class FakeCapture:
    """Stands in for cv2.VideoCapture: gives pictures until told otherwise."""

    def __init__(self, opened: bool = True, pictures: int = 1000, fps: float = 30.0) -> None:
        self.opened, self.pictures, self.fps = opened, pictures, fps
        self.settings: dict[int, float] = {}
        self.released = False

    def isOpened(self) -> bool:
        return self.opened

    def read(self) -> tuple[bool, Any]:
        self.pictures -= 1
        return (True, np.zeros((72, 128, 3), np.uint8)) if self.pictures >= 0 else (False, None)

    def set(self, key: int, value: float) -> bool:
        self.settings[key] = value
        return True

    def get(self, key: int) -> float:
        return self.fps

    def release(self) -> None:
        self.released = True


def test_a_camera_gives_what_it_gives_and_stamps_the_moment() -> None:
    asked: list[tuple[object, ...]] = []
    capture = FakeCapture(fps=29.97002997)
    clock = iter((1.0, 2.0))

    def open_capture(*args: object) -> FakeCapture:
        asked.append(args)
        return capture

    with CameraSource("0", size=(1280, 720), open_capture=open_capture, now_s=lambda: next(clock)) as source:
        assert (source.size, source.rate, source.live) == ((128, 72), Fraction(30000, 1001), True)
        frames = [next(source), next(source)]

    assert asked[0][0] == 0
    assert (capture.settings[cv2.CAP_PROP_FRAME_WIDTH], capture.settings[cv2.CAP_PROP_FRAME_HEIGHT]) == (
        1280,
        720,
    )
    assert [(frame.index, frame.time_s) for frame in frames] == [(0, 1.0), (1, 2.0)]
    assert capture.released


def test_a_camera_unplugged_is_an_error_and_can_be_reopened() -> None:
    captures = [FakeCapture(pictures=2), FakeCapture(opened=False), FakeCapture()]
    source = CameraSource("7", open_capture=lambda *args: captures.pop(0))
    next(source)

    with pytest.raises(SourceError, match="unplugged"):
        next(source)
    with pytest.raises(SourceError, match="camera 7: "):
        source.reopen()
    source.reopen()

    assert next(source).index == 1


def test_a_driver_that_states_no_rate_is_taken_at_the_asked_rate() -> None:
    assert CameraSource("0", rate=15, open_capture=lambda *args: FakeCapture(fps=0)).rate == 15


def test_a_gstreamer_pipeline_gets_an_appsink() -> None:
    asked: list[tuple[object, ...]] = []

    def open_capture(*args: object) -> FakeCapture:
        asked.append(args)
        return FakeCapture()

    CameraSource("gst:nvarguscamerasrc", open_capture=open_capture)

    assert str(asked[0][0]).startswith("nvarguscamerasrc ! ")
    assert "appsink" in str(asked[0][0])
    assert asked[0][1] == cv2.CAP_GSTREAMER


def test_an_absent_camera_says_what_there_is() -> None:
    with pytest.raises(
        SourceError, match=r"camera 93: expected a camera .*(no camera found|cameras found: )"
    ):
        open_source("93")


def test_a_pipeline_needs_an_opencv_with_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    for opencv, got in ((cv2, "this one is not"), (None, "found none")):
        monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   NO")
        monkeypatch.setitem(sys.modules, "cv2", opencv)
        with pytest.raises(SourceError, match=rf"OpenCV built with GStreamer, {got}; use the system's"):
            open_source("gst:nvarguscamerasrc")


class FakeDevices:
    """Stands in for ``av.open``: plays a clip where a V4L2 device is asked for."""

    def __init__(self, clip: Path, refused: tuple[str, ...] = ()) -> None:
        self.clip, self.refused = clip, refused
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self._open = av.open

    def __call__(self, path: str, *, format: str, options: dict[str, str]) -> Any:  # noqa: A002
        self.asked.append((path, format, options))
        if set(self.refused) & set(options):
            raise av.error.ArgumentError(22, "Invalid argument", path)
        return self._open(str(self.clip))


@pytest.fixture
def without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.usefixtures("without_opencv")
@pytest.mark.parametrize(
    ("refused", "attempts"), [((), 1), (("input_format",), 2), (("video_size", "input_format"), 3)]
)
def test_without_opencv_a_linux_camera_is_read_through_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], attempts: int
) -> None:
    devices = FakeDevices(write_clip(tmp_path / "a.mp4", frames=12, rate=25), refused)
    monkeypatch.setattr(v4l2.av, "open", devices)
    clock = iter(range(100))

    source = CameraSource("3", size=(640, 480), rate=15, now_s=lambda: float(next(clock)))
    frames = list(islice(source, 4))

    assert (source.size, source.rate, source.live) == ((64, 48), 25, True)
    assert [read_counter(frame.image) for frame in frames] == [1, 2, 3, 4]  # the first told the size
    assert [frame.time_s for frame in frames] == [0, 1, 2, 3]
    assert len(devices.asked) == attempts
    assert devices.asked[0] == (
        "/dev/video3", "v4l2", {"video_size": "640x480", "framerate": "15", "input_format": "mjpeg"}
    )  # fmt: skip

    with pytest.raises(SourceError, match="unplugged"):
        list(source)
    source.reopen()
    assert read_counter(next(source).image) == 1
    source.close()


@pytest.mark.usefixtures("without_opencv")
def test_without_opencv_an_absent_camera_says_what_there_is() -> None:
    with pytest.raises(SourceError, match=r"camera 93: expected a camera at /dev/video93, there is none; "):
        open_source("93")


def test_without_opencv_other_systems_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SourceError, match=r"camera 0: expected OpenCV, found none; .*doppelgan\[live\]"):
        open_source("0")


def test_cameras_are_listed_without_their_metadata_nodes(tmp_path: Path) -> None:
    for node, index, name in (
        ("video0", "0", "Webcam"),
        ("video1", "1", "Webcam"),
        ("video10", "0", "Capture"),
    ):
        (tmp_path / node).mkdir()
        (tmp_path / node / "index").write_text(index + "\n")
        (tmp_path / node / "name").write_text(name + "\n")

    assert [(c.device, c.name) for c in list_cameras(tmp_path)] == [
        ("/dev/video0", "Webcam"),
        ("/dev/video10", "Capture"),
    ]


# What text opens what, and what it says when it cannot


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a camera, file, folder or URL, got an empty text"),
        ("nowhere.mp4", "nowhere.mp4: expected a camera, file, folder or URL, found no such file"),
        ("text.mp4", "text.mp4: expected a whole video file that FFmpeg can read, got: Invalid data"),
        ("cut.mp4", "cut.mp4: expected a whole video file .* a recording that was cut off must be repaired"),
        ("sound.mp4", "sound.mp4: expected a video stream, found audio"),
        ("empty", "empty: expected a folder of images, found none; readable are .*png"),
        ("no*.png", r"no\*.png: expected images that match, found none"),
        ("test:wide", "test:wide: expected test:WIDTHxHEIGHT@RATE:FRAMES"),
        ("test:8x8", "test:8x8: expected 32x32 to 16384x16384 pixels"),
        ("-", "standard input: raw frames need their size, got none"),
    ],
)
def test_what_cannot_be_opened_says_expected_got_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("just text " * 100)
    Path("cut.mp4").write_bytes(write_clip(tmp_path / "whole.mp4").read_bytes()[:1000])
    write_clip(tmp_path / "sound.mp4", audio="aac", video=False)
    Path("empty").mkdir()

    with pytest.raises(SourceError, match=message) as caught:
        open_source(text)

    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("clip.mp4", {"size": (64, 48)}, "a video file does not take size"),
        ("test:", {"rate": 5}, "a test pattern does not take rate"),
        ("0", {"pixel_format": "rgb24"}, "a camera does not take pixel_format"),
        ("-", {"size": (64, 48), "pixel_format": "nv12"}, "expected pixel format bgr24 or rgb24, got 'nv12'"),
        ("-", {"size": (64, 0)}, "got 64x0"),
        ("-", {"size": (64, 48), "rate": 0}, "expected a rate above 0"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", frames=1)

    with pytest.raises(SourceError, match=message):
        open_source(text, **options)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX systems")
def test_frames_arrive_from_a_real_pipe_in_pieces() -> None:
    reader, writer = os.pipe()
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with os.fdopen(writer, "wb", buffering=0) as pipe, os.fdopen(reader, "rb", buffering=0) as stream:
        pipe.write(image.tobytes()[:10])
        pipe.write(image.tobytes()[10:])
        pipe.close()
        np.testing.assert_array_equal(next(RawSource(size=(4, 4), stream=stream)).image, image)  # type: ignore[arg-type]


# What cameras and phones add


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
