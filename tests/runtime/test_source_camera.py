"""Cameras, through OpenCV and through FFmpeg: what they give, and what is said of absent ones."""

from __future__ import annotations

import dataclasses
import os
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import Camera, camera, list_cameras, open_source
from doppelgan.runtime.source import v4l2_capture as v4l2
from doppelgan.runtime.source.camera import CameraSource

from .clips import read_counter, write_clip


class FakeCapture:
    """Stands in for cv2.VideoCapture: gives pictures until told otherwise."""

    def __init__(self, opened: bool = True, pictures: int = 1000, fps: float = 30.0) -> None:
        self.opened, self.pictures, self.fps = opened, pictures, fps
        self.settings: dict[int, float] = {}
        self.released = False
        self.failing = 0  # how many of the next reads give nothing

    def isOpened(self) -> bool:
        return self.opened

    def read(self) -> tuple[bool, Any]:
        if self.failing:
            self.failing -= 1
            return False, None
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


# What is asked for and what comes


def opened_with(capture: FakeCapture, device: str = "0", **options: Any) -> tuple[CameraSource, list[Any]]:
    asked: list[Any] = []

    def open_capture(*args: object) -> FakeCapture:
        asked.extend(args)
        return capture

    return CameraSource(device, open_capture=open_capture, **options), asked


@pytest.mark.parametrize(
    ("platform", "api"), [("linux", cv2.CAP_V4L2), ("darwin", cv2.CAP_ANY), ("win32", cv2.CAP_ANY)]
)
@pytest.mark.parametrize(("device", "opened"), [("2", 2), ("/dev/video2", "/dev/video2")])
def test_a_camera_is_asked_for_jpeg_pictures_and_no_old_ones(
    monkeypatch: pytest.MonkeyPatch, platform: str, api: int, device: str, opened: int | str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    capture = FakeCapture()
    source, asked = opened_with(capture, device)
    assert asked == [opened, api]
    assert capture.settings == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 1280,
        cv2.CAP_PROP_FRAME_HEIGHT: 720,
        cv2.CAP_PROP_FPS: 30.0,
        cv2.CAP_PROP_BUFFERSIZE: 1,
    }
    assert source.name == f"camera {device}"
    assert opened_with(FakeCapture(), rate=Fraction(25))[0].rate == 30  # as the driver says


@pytest.mark.parametrize(
    ("stated", "rate"),
    [(1, 1), (2, 2), (1000, 1000), (0.99, 15), (1001, 15), (-1, 15), (59.94005994, Fraction(60000, 1001))],
)
def test_a_rate_that_a_driver_states_is_believed_where_it_can_be(stated: float, rate: Fraction | int) -> None:
    assert opened_with(FakeCapture(fps=stated), rate=15)[0].rate == rate


@pytest.mark.parametrize(("failing", "works"), [(4, True), (5, False)])
def test_a_driver_may_drop_a_few_frames_but_not_many(failing: int, works: bool) -> None:
    capture = FakeCapture()
    source, _ = opened_with(capture)
    capture.failing = failing
    if works:
        assert next(source).index == 0
    else:
        with pytest.raises(
            SourceError, match=r"camera 0: expected a frame, got none 5 times; is it unplugged\?"
        ):
            next(source)


def test_a_camera_that_is_being_closed_is_not_asked_again() -> None:
    capture = FakeCapture()
    source, _ = opened_with(capture)
    capture.failing = 5
    read = capture.read

    def closing_read() -> tuple[bool, Any]:
        source._closing = True  # as another thread does
        return read()

    capture.read = closing_read  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="expected a frame"):
        next(source)
    assert capture.failing == 4
    assert capture.released


def test_a_camera_that_gives_nothing_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for capture in (FakeCapture(pictures=0), FakeCapture(opened=False)):
        with pytest.raises(SourceError, match="camera 93: "):
            opened_with(capture, "93")
        assert capture.released
    assert capture.settings == {}  # nothing is asked of what is not open


def test_a_camera_is_given_back_before_it_is_opened_again() -> None:
    captures = [FakeCapture(), FakeCapture()]
    left = list(captures)
    source = CameraSource("0", open_capture=lambda *args: left.pop(0))
    next(source)
    source.reopen()
    assert [capture.released for capture in captures] == [True, False]
    assert next(source).index == 1
    source.close()
    assert captures[1].released
    with pytest.raises(SourceError, match="camera 0: the source is closed"):
        source.reopen()


@pytest.mark.parametrize(
    ("pipeline", "opened"),
    [
        (
            "gst: v4l2src ",
            "v4l2src ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false",
        ),
        ("gst:v4l2src ! appsink", "v4l2src ! appsink"),
    ],
)
def test_a_pipeline_is_completed_only_where_it_has_no_end(pipeline: str, opened: str) -> None:
    capture = FakeCapture()
    assert opened_with(capture, pipeline)[1] == [opened, cv2.CAP_GSTREAMER]
    assert capture.settings == {}


def test_an_opencv_with_gstreamer_is_asked_for_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   YES (1.24)")
    monkeypatch.setattr(cv2, "VideoCapture", lambda *args: FakeCapture())
    assert open_source("gst:videotestsrc").size == (128, 72)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *args: FakeCapture(opened=False))
    with pytest.raises(
        SourceError, match=r"the GStreamer pipeline gives no frames; try it with gst-launch-1\.0"
    ):
        open_source("gst:videotestsrc")


def test_opencv_keeps_quiet_while_a_camera_is_opened_and_only_then() -> None:
    logging = cv2.utils.logging
    before, during = logging.getLogLevel(), []

    def open_capture(*args: object) -> FakeCapture:
        during.append(logging.getLogLevel())
        return FakeCapture()

    logging.setLogLevel(logging.LOG_LEVEL_WARNING)
    try:
        CameraSource("0", open_capture=open_capture)
        assert during == [logging.LOG_LEVEL_SILENT]
        assert logging.getLogLevel() == logging.LOG_LEVEL_WARNING
    finally:
        logging.setLogLevel(before)


# What is said of a camera that gives nothing


@pytest.mark.parametrize(
    ("cameras", "found"),
    [
        ([], "no camera found"),
        ([Camera("/dev/video0", "Webcam")], r"cameras found: /dev/video0 \(Webcam\)"),
        (
            [Camera("/dev/video0", "Webcam"), Camera("/dev/video2", "unnamed")],
            r"cameras found: /dev/video0 \(Webcam\), /dev/video2 \(unnamed\)",
        ),
    ],
)
def test_an_absent_camera_is_told_from_one_that_is_closed_or_busy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cameras: list[Camera], found: str
) -> None:
    monkeypatch.setattr(camera, "list_cameras", lambda: cameras)
    monkeypatch.setattr(camera.sys, "platform", "linux")
    device = tmp_path / "video7"
    nothing = FakeCapture(pictures=0)
    with pytest.raises(
        SourceError, match=rf"expected a camera at /dev/video93, there is none; {found}; try 'test:'"
    ):
        opened_with(nothing, "93")
    with pytest.raises(
        SourceError, match=rf"expected a camera at {device}, there is none; {found}; try 'test:'"
    ):
        opened_with(nothing, str(device))
    device.touch()
    message = rf"{device} is there but gives no frames; is another program using it\? {found}"
    with pytest.raises(SourceError, match=message):
        opened_with(nothing, str(device))
    asked = []
    monkeypatch.setattr(camera.os, "access", lambda path, mode: asked.append(mode))
    with pytest.raises(SourceError, match=rf"{device} may not be opened; .* the group 'video'; {found}"):
        opened_with(nothing, str(device))
    assert asked == [os.R_OK | os.W_OK]
    monkeypatch.setattr(camera.sys, "platform", "darwin")
    with pytest.raises(SourceError, match=r"is it plugged in, allowed by the system, and free\?$"):
        opened_with(nothing, str(device))


def test_cameras_that_say_little_are_listed_too(tmp_path: Path) -> None:
    (tmp_path / "video2").mkdir()
    (tmp_path / "video3").mkdir()
    (tmp_path / "video3" / "index").write_text("0")
    assert list_cameras(tmp_path) == [Camera("/dev/video2", "unnamed"), Camera("/dev/video3", "unnamed")]
    assert list_cameras(tmp_path / "nowhere") == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        list_cameras(tmp_path)[0].name = "mine"  # type: ignore[misc]


@pytest.mark.usefixtures("without_opencv")
def test_without_opencv_a_device_is_opened_by_its_name_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = FakeDevices(write_clip(tmp_path / "a.mp4", frames=4, rate=25))
    monkeypatch.setattr(v4l2.av, "open", devices)
    source = CameraSource("/dev/video5", rate=Fraction(30000, 1001))
    (path, _, options), *others = devices.asked
    assert (path, options["framerate"], options["video_size"]) == ("/dev/video5", "29.97", "1280x720")
    assert others == []
    container = source._capture._container  # type: ignore[union-attr]
    assert container.streams.video[0].thread_type.name == "SLICE"  # frames in parallel would be late ones
    source.close()
    with pytest.raises(AssertionError, match="Container is not open"):
        next(container.demux())


@pytest.mark.usefixtures("without_opencv")
@pytest.mark.parametrize("kind", [av.error.ArgumentError, OSError])
def test_without_opencv_a_device_that_refuses_everything_is_absent(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    asked = []

    def refuse(path: str, **options: Any) -> Any:
        asked.append(options["options"])
        raise kind(22, "Invalid argument")

    monkeypatch.setattr(v4l2.av, "open", refuse)
    with pytest.raises(SourceError, match="camera 93: expected a camera at /dev/video93, there is none"):
        open_source("93")
    wish = {"video_size": "1280x720", "framerate": "30"}
    assert asked == [{**wish, "input_format": "mjpeg"}, wish, {}]
