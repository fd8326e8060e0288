"""Cameras, through OpenCV and through FFmpeg: what they give, and what is said of absent ones."""

from __future__ import annotations

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
from doppelgan.runtime.source import list_cameras, open_source
from doppelgan.runtime.source import v4l2_capture as v4l2
from doppelgan.runtime.source.camera import CameraSource

from .clips import read_counter, write_clip


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
