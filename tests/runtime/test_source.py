"""Sources: what text opens what, raw input, the test pattern, and errors that help."""

from __future__ import annotations

import io
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import SourceWarning, open_source
from doppelgan.runtime.source.pattern import PatternSource
from doppelgan.runtime.source.raw import RawSource

from .clips import read_counter, write_clip


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
