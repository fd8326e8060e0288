"""Windows and virtual cameras, with stand-ins for screens and drivers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.sink import open_sink, window
from doppelgan.runtime.types import Image

from .clips import frame


class FakeGui:
    """Stands in for OpenCV's windows."""

    def __init__(self, keys: list[int]) -> None:
        self.keys = keys
        self.shown = 0
        self.visible = 1.0
        self.destroyed = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeGui:
        monkeypatch.setenv("DISPLAY", ":0")
        for name, function in {
            "getBuildInformation": lambda: "  GUI:                           QT5",
            "namedWindow": lambda *args: None,
            "resizeWindow": lambda *args: None,
            "imshow": self._show,
            "waitKey": lambda delay: self.keys.pop(0) if self.keys else -1,
            "getWindowProperty": lambda *args: self.visible,
            "destroyWindow": lambda title: setattr(self, "destroyed", True),
        }.items():
            monkeypatch.setattr(cv2, name, function)
        return self

    def _show(self, title: str, image: Image) -> None:
        self.shown += 1


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

    assert (pressed, gui.shown, gui.destroyed) == (["s"], 2, True)


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


def test_a_headless_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE")
    with pytest.raises(SinkError, match="pip install opencv-python"):
        open_sink("window")


# Virtual cameras


def test_without_its_package_the_virtual_camera_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkError, match=r"pip install 'doppelgan\[live\]'"):
        open_sink("camera:")


def test_a_virtual_camera_gets_bgr_frames_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Image] = []
    made: list[tuple[Any, ...]] = []

    def camera(width: int, height: int, rate: float, *, fmt: str, device: str | None) -> SimpleNamespace:
        made.append((width, height, rate, fmt, device))
        return SimpleNamespace(
            width=width, height=height, send=sent.append, close=lambda: made.append(("closed",))
        )

    library = SimpleNamespace(Camera=camera, PixelFormat=SimpleNamespace(BGR="bgr"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", library)
    with open_sink("camera:/dev/video4", rate=25) as sink:
        sink.write(frame(9))
        with pytest.raises(SinkError, match="expected 64x48 as before"):
            sink.write(frame(size=(32, 32)))

    assert made == [(64, 48, 25.0, "bgr", "/dev/video4"), ("closed",)]
    assert len(sent) == 1
