"""Sinks: what text opens what, images, raw frames, several at once, and errors that help."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.sink import close_sinks, open_sink, open_sinks
from doppelgan.runtime.sink.base import NullSink, Sink
from doppelgan.runtime.sink.raw import RawSink
from doppelgan.runtime.sink.video import VideoSink
from doppelgan.runtime.source import open_source
from doppelgan.runtime.types import Frame, Image

from .clips import frame, left_in, write_clip


def test_a_closed_sink_takes_nothing() -> None:
    sink = NullSink()
    sink.close()
    with pytest.raises(ValueError, match="expected an open sink"):
        sink.write(frame())


# Images


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("shots/", ["000000.png", "000001.png"]),
        ("shots", ["000000.png", "000001.png"]),
        ("shots/s%03d.jpg", ["s000.jpg", "s001.jpg"]),
    ],
)
def test_images_are_numbered_by_index(tmp_path: Path, text: str, names: list[str]) -> None:
    with open_sink(f"{tmp_path}/{text}") as sink:
        sink.write(frame(10, 0))
        sink.write(frame(20, 1))

    assert left_in(tmp_path / "shots") == names
    with open_source(tmp_path / "shots") as source:
        assert [int(one.image[0, 0, 0]) for one in source] == [10, 20]


def test_one_image_holds_one_frame(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "a.png")
    sink.write(frame(7))
    with pytest.raises(
        SinkError, match=r"expected a single frame, got another; give a folder or .*a_%04d\.png"
    ):
        sink.write(frame(8))

    assert int(cv2.imread(str(tmp_path / "a.png"))[0, 0, 0]) == 7


# Pipes


def test_raw_frames_are_bgr_without_header() -> None:
    stream = io.BytesIO()
    image: Image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    with RawSink(stream=stream) as sink:
        sink.write(Frame(image, 0, 0))
        sink.write(Frame(image[:, ::-1], 1, 1 / 30))

    assert stream.getvalue() == image.tobytes() + image[:, ::-1].tobytes()


def test_raw_frames_have_one_size() -> None:
    sink = RawSink(stream=io.BytesIO())
    sink.write(frame())
    with pytest.raises(SinkError, match="expected 64x48 as before, got 32x32"):
        sink.write(frame(size=(32, 32)))


def test_a_reader_that_goes_away_is_named() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "wb", buffering=0)
    with stream, pytest.raises(SinkError, match="the reader closed the pipe after 0 frames"):
        RawSink(stream=stream).write(frame())  # type: ignore[arg-type]


def test_several_sinks_open_together_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="expected a file that ends in one of"):
        open_sinks([tmp_path / "out.mp4", tmp_path / "out.doc"])
    assert left_in(tmp_path) == []

    sinks = open_sinks(["null:", tmp_path / "out.mp4"])
    for sink in sinks:
        sink.write(frame())
    close_sinks(sinks)
    assert [sink.frames for sink in sinks] == [1, 1]
    assert left_in(tmp_path) == ["out.mp4"]


def test_all_sinks_are_closed_even_if_one_cannot() -> None:
    closed: list[str] = []

    class Fake(NullSink):
        def __init__(self, name: str, error: Exception | None = None) -> None:
            super().__init__()
            self.name, self._error = name, error

        def _finish(self) -> None:
            closed.append(self.name)
            if self._error:
                raise self._error

    sinks: list[Sink] = [Fake("a"), Fake("b", SinkError("full")), Fake("c")]
    with pytest.raises(SinkError, match="full"):
        close_sinks(sinks)
    assert closed == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a file, folder or 'window', got an empty text"),
        ("out.doc", r"out\.doc: expected a file that ends in one of \.mp4 .*, got '\.doc'"),
        (
            "nowhere/out.mp4",
            r"nowhere/out\.mp4: cannot write: No such file or directory; make the folder first",
        ),
        ("file/shots/", r"file/shots/: cannot make the folder file/shots: "),
        ("in.mp4", r"in\.mp4: expected another file than the source"),
    ],
)
def test_what_cannot_be_opened_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    clip = write_clip(tmp_path / "in.mp4", frames=1)
    before = left_in(tmp_path)

    with open_source(clip) as source, pytest.raises(SinkError, match=message):
        open_sink(text, like=source)

    assert left_in(tmp_path) == before


def test_a_folder_named_like_a_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(SinkError, match="expected a file to write, found a folder"):
        VideoSink(tmp_path / "out.mp4")


def test_opening_files_loads_nothing_heavy() -> None:
    code = "import sys, doppelgan.runtime.source, doppelgan.runtime.sink, doppelgan.runtime.schedule\n"
    code += "print(sorted({'torch', 'onnx', 'scipy', 'PIL', 'matplotlib', 'onnxruntime'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
