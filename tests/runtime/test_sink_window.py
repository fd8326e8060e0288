"""Windows and virtual cameras, with stand-ins for screens and drivers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.sink import camera, open_sink, window
from doppelgan.runtime.sink.camera import VirtualCameraSink
from doppelgan.runtime.source import open_source
from doppelgan.runtime.types import Image

from .clips import frame


class FakeGui:
    """Stands in for OpenCV's windows."""

    def __init__(self, keys: list[int]) -> None:
        self.keys = keys
        self.shown: list[tuple[str, Image]] = []
        self.opened: list[tuple[Any, ...]] = []
        self.waits_ms: list[int] = []
        self.visible = -1.0  # as OpenCV answers before there is a window
        self.destroyed: list[str] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeGui:
        monkeypatch.setenv("DISPLAY", ":0")
        for name, function in {
            "getBuildInformation": lambda: "  GUI:                           QT5",
            "namedWindow": self._open,
            "resizeWindow": lambda *args: self.opened.append(args),
            "imshow": lambda *args: self.shown.append(args),
            "waitKey": self._wait,
            "getWindowProperty": lambda *args: self.visible,
            "destroyWindow": self.destroyed.append,
        }.items():
            monkeypatch.setattr(cv2, name, function)
        return self

    def _open(self, *args: Any) -> None:
        self.opened.append(args)
        self.visible = 1.0

    def _wait(self, delay_ms: int) -> int:
        self.waits_ms.append(delay_ms)
        return self.keys.pop(0) if self.keys else -1


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_q_and_escape_stop_other_keys_are_passed_on(monkeypatch: pytest.MonkeyPatch, key: int) -> None:
    gui = FakeGui([-1, ord("s"), key]).install(monkeypatch)
    pressed: list[str] = []
    with open_sink("window", on_key=pressed.append) as sink:
        sink.write(frame())
        sink.write(frame())
        assert not sink.stopped
        sink.poll()
        assert sink.stopped

    assert (pressed, len(gui.shown), gui.destroyed) == (["s"], 2, ["doppelgan"])
    assert gui.waits_ms == [1, 1, 1]  # as short as can be: frames wait for it


@pytest.mark.parametrize(
    ("text", "title"), [("window", "doppelgan"), ("window:", "doppelgan"), ("window:Me", "Me")]
)
def test_a_window_opens_once_with_its_title_in_the_size_of_the_frames(
    monkeypatch: pytest.MonkeyPatch, text: str, title: str
) -> None:
    gui = FakeGui([]).install(monkeypatch)
    frames = [frame(1), frame(2), frame(3)]
    with open_sink(text) as sink:
        for one in frames:
            sink.write(one)
        assert (sink.name, sink.frames, sink.stopped) == (f"window {title!r}", 3, False)

    assert gui.opened == [(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO), (title, 64, 48)]
    assert [(shown, image is one.image) for (shown, image), one in zip(gui.shown, frames, strict=True)] == [
        (title, True)
    ] * 3


def test_keys_are_known_by_their_lowest_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """X11 adds bits for Num Lock and the like."""
    FakeGui([0x1FFF00 | ord("s"), 0x1FFF00 | ord("q")]).install(monkeypatch)
    pressed: list[str] = []
    sink = open_sink("window", on_key=pressed.append)
    sink.write(frame())
    assert (pressed, sink.stopped) == (["s"], False)
    sink.write(frame())
    assert (pressed, sink.stopped) == (["s"], True)


def test_keys_that_nobody_asked_for_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGui([ord("s")]).install(monkeypatch)
    sink = open_sink("window")
    sink.write(frame())
    assert not sink.stopped


def test_before_its_first_frame_and_after_its_end_there_is_no_window_to_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gui = FakeGui([-1, ord("s")]).install(monkeypatch)
    pressed: list[str] = []
    sink = open_sink("window", on_key=pressed.append)
    sink.poll()
    assert not sink.stopped
    sink.close()
    sink.poll()
    assert (pressed, gui.destroyed) == ([], [])


@pytest.mark.parametrize(("visible", "destroyed"), [(1.0, ["doppelgan"]), (0.0, ["doppelgan"]), (-1.0, [])])
def test_a_window_that_is_gone_is_not_destroyed_again(
    monkeypatch: pytest.MonkeyPatch, visible: float, destroyed: list[str]
) -> None:
    gui = FakeGui([]).install(monkeypatch)
    sink = open_sink("window")
    sink.write(frame())
    gui.visible = visible  # 0: hidden
    sink.close()
    assert gui.destroyed == destroyed


def test_closing_the_window_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    gui = FakeGui([]).install(monkeypatch)
    sink = open_sink("window:Me")
    sink.write(frame())
    gui.visible = 0.0
    sink.poll()

    assert sink.stopped


def test_without_a_screen_a_window_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="expected a screen, found none"):
        open_sink("window")


@pytest.mark.parametrize(
    ("platform", "variable"),
    [("linux", "DISPLAY"), ("linux", "WAYLAND_DISPLAY"), ("darwin", ""), ("win32", "")],
)
def test_a_screen_is_known_by_either_variable_and_asked_for_on_linux_only(
    monkeypatch: pytest.MonkeyPatch, platform: str, variable: str
) -> None:
    FakeGui([]).install(monkeypatch)
    monkeypatch.setattr(window, "sys", SimpleNamespace(platform=platform))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "0")
    open_sink("window").close()


def test_without_opencv_a_window_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        SinkError, match=r"window: expected OpenCV, found none; pip install 'doppelgan\[live\]'"
    ):
        open_sink("window")


def test_an_opencv_that_does_not_load_says_what_it_misses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2")
    with pytest.raises(SinkError, match=r"got: libGL\.so\.1: .*; .*apt install libgl1"):
        open_sink("window")


@pytest.mark.parametrize("built", ["  GUI:                           NONE", "  GUI:  no", "nothing of it"])
def test_a_headless_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch, built: str) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: built)
    with pytest.raises(SinkError, match="pip install opencv-python"):
        open_sink("window")


# Virtual cameras


def test_without_its_package_the_virtual_camera_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkError, match=r"pip install 'doppelgan\[live\]'"):
        open_sink("camera:")


class FakeDriver:
    """Stands in for pyvirtualcam."""

    PixelFormat = SimpleNamespace(BGR="bgr")

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.made: list[tuple[Any, ...]] = []
        self.sent: list[Image] = []

    def Camera(
        self, width: int, height: int, rate: float, *, fmt: str, device: str | None
    ) -> SimpleNamespace:
        if self.error is not None:
            raise self.error
        self.made.append((width, height, rate, fmt, device))
        return SimpleNamespace(
            width=width, height=height, send=self.sent.append, close=lambda: self.made.append(("closed",))
        )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "pyvirtualcam", fake)  # type: ignore[arg-type]
    return fake


def test_a_virtual_camera_gets_bgr_frames_of_one_size(driver: FakeDriver) -> None:
    first, second = frame(9), frame(8)
    with open_sink("camera:/dev/video4", rate=25) as sink:
        sink.write(first)
        sink.write(second)
        with pytest.raises(
            SinkError, match="camera:/dev/video4: expected 64x48 as before, got 32x24; a camera has one size"
        ):
            sink.write(frame(size=(32, 24)))
        assert sink.frames == 2

    assert driver.made == [(64, 48, 25.0, "bgr", "/dev/video4"), ("closed",)]
    assert [image is one.image for image, one in zip(driver.sent, (first, second), strict=True)] == [True] * 2


@pytest.mark.parametrize("size", [(64, 32), (32, 48)])
def test_a_virtual_camera_takes_no_other_width_and_no_other_height(
    driver: FakeDriver, size: tuple[int, int]
) -> None:
    sink = open_sink("camera:")
    sink.write(frame())
    with pytest.raises(SinkError, match=f"expected 64x48 as before, got {size[0]}x{size[1]}"):
        sink.write(frame(size=size))


@pytest.mark.parametrize(
    ("options", "like", "rate"),
    [
        ({}, "", 30.0),
        ({"rate": 25}, "", 25.0),
        ({}, "test:64x48@50:1", 50.0),
        ({"rate": 25}, "test:@50:1", 25.0),
    ],
)
def test_a_virtual_camera_has_the_rate_asked_for_or_that_of_the_source(
    driver: FakeDriver, options: dict[str, Any], like: str, rate: float
) -> None:
    with open_sink("camera:", like=open_source(like) if like else None, **options) as sink:
        sink.write(frame())
    assert driver.made[0] == (64, 48, rate, "bgr", None)  # the first there is


def test_a_virtual_camera_has_a_usual_rate_where_none_is_asked_for(driver: FakeDriver) -> None:
    with VirtualCameraSink() as sink:
        sink.write(frame())
    assert driver.made[0][2] == 30


def test_a_virtual_camera_without_frames_is_never_opened(driver: FakeDriver) -> None:
    open_sink("camera:").close()
    assert driver.made == []


@pytest.mark.parametrize(
    ("platform", "remedy"),
    [
        ("linux", "run: sudo modprobe v4l2loopback"),
        ("darwin", "install OBS and start its virtual camera once"),
    ],
)
@pytest.mark.parametrize("error", [RuntimeError("no device"), ValueError("no device")])
def test_a_virtual_camera_that_is_absent_says_what_to_do_on_this_system(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, error: Exception, platform: str, remedy: str
) -> None:
    monkeypatch.setattr(camera, "sys", SimpleNamespace(platform=platform))
    driver.error = error
    sink = open_sink("camera:")
    with pytest.raises(SinkError, match=f"camera:: no virtual camera: no device; {remedy}"):
        sink.write(frame())
    sink.close()
