"""Which text opens which source with which options, and what every source has in common."""

from __future__ import annotations

import io
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from doppelgan.runtime import source as sources
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import Media, Source, SourceWarning, base, open_source
from doppelgan.runtime.source.color import Color
from doppelgan.runtime.source.raw import RawSource
from doppelgan.runtime.types import MAX_PIXELS, Deep, Frame


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is opened instead of cameras, streams and files, in a folder with files of odd names."""
    monkeypatch.chdir(tmp_path)
    calls: list[tuple[Any, ...]] = []

    def instead(kind: str) -> Any:
        return lambda *args, **options: calls.append((kind, *args, options))

    for kind in ("Video", "Camera", "Image", "Raw", "Pattern"):
        monkeypatch.setattr(sources, f"{kind}Source", instead(kind))
    Path("shots").mkdir()
    for file in ("clip.mp4", "a.PNG", "0", "7.png", "-", "test:", "shots/1.png", "shots/2.png", "[x].png"):
        Path(file).write_text("")
    return calls


SHOTS = [Path("shots/1.png"), Path("shots/2.png")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clip.mp4", ("Video", "clip.mp4", {})),
        ("a.PNG", ("Image", "a.PNG", [Path("a.PNG")], {})),
        ("[x].png", ("Image", "[x].png", [Path("[x].png")], {})),
        ("shots", ("Image", "shots", SHOTS, {})),
        ("shots/*.png", ("Image", "shots/*.png", SHOTS, {})),
        ("shots/?.png", ("Image", "shots/?.png", SHOTS, {})),
        ("shots/[12].png", ("Image", "shots/[12].png", SHOTS, {})),
        ("shots/%d.png", ("Image", "shots/%d.png", SHOTS, {})),
        ("shots/%01d.png", ("Image", "shots/%01d.png", SHOTS, {})),
        ("0", ("Camera", "0", {})),
        ("123456789", ("Camera", "123456789", {})),
        ("/dev/video3", ("Camera", "/dev/video3", {})),
        ("gst:videotestsrc", ("Camera", "gst:videotestsrc", {})),
        ("-", ("Raw", {})),
        ("test:64x48", ("Pattern", "test:64x48", {})),
        ("rtsp://camera/1", ("Video", "rtsp://camera/1", {"live": True})),
        ("RTMP://camera/1", ("Video", "RTMP://camera/1", {"live": True})),
        ("http://host/a.mp4", ("Video", "http://host/a.mp4", {"live": False})),
        ("svn+ssh://host", ("Video", "svn+ssh://host", {"live": False})),
    ],
)
def test_a_text_says_what_is_opened(
    opened: list[tuple[Any, ...]], text: str, expected: tuple[Any, ...]
) -> None:
    open_source(text)
    assert opened == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", ("Video", "0", {})),
        ("7.png", ("Image", "7.png", [Path("7.png")], {})),
        ("test:", ("Video", "test:", {})),
        ("-", ("Raw", {})),  # standard input by every program's custom
        ("1", ("Camera", "1", {})),
        ("shots", ("Image", "shots", SHOTS, {})),
    ],
)
def test_where_files_come_first_their_names_are_not_read_as_something_else(
    opened: list[tuple[Any, ...]], text: str, expected: tuple[Any, ...]
) -> None:
    open_source(text, files_first=True)
    assert opened == [expected]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("0", {"size": (640, 480), "rate": 15}),
        ("a.PNG", {"rate": 0.5}),
        ("shots", {"rate": 1000}),
        ("-", {"size": (4, 4), "rate": Fraction(30000, 1001), "pixel_format": "rgb24"}),
        ("test:", {"live": False}),
        ("rtsp://camera", {"live": False}),
        ("http://host/a.mp4", {"live": True}),
    ],
)
def test_options_reach_what_they_are_for(
    opened: list[tuple[Any, ...]], text: str, options: dict[str, Any]
) -> None:
    open_source(text, **options)
    assert opened[0][-1] == options


@pytest.mark.parametrize("rate", [0, -1, 1000.5])
def test_rates_that_cannot_be_are_refused(opened: list[tuple[Any, ...]], rate: float) -> None:
    with pytest.raises(
        SourceError, match=rf"shots: expected a rate above 0 and up to 1000 .*, got {rate:g}$"
    ):
        open_source("shots", rate=rate)
    assert opened == []


def test_every_option_that_does_not_apply_is_named(opened: list[tuple[Any, ...]]) -> None:
    with pytest.raises(
        SourceError, match="a video file does not take live, pixel_format, rate, size; leave it"
    ):
        open_source("clip.mp4", size=(4, 4), rate=5, pixel_format="bgr24", live=True)
    assert opened == []


@pytest.mark.parametrize("text", ["1234567890", "no.mp4", "a://x", "no/*/x.mp4"])
def test_what_is_nothing_of_all_is_looked_for_as_a_file(opened: list[tuple[Any, ...]], text: str) -> None:
    with pytest.raises(
        SourceError, match="expected a camera, file, folder or URL, found no such file; check"
    ):
        open_source(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("😀" * 70, "😀" * 70),
        ("😀" * 60 + "ü" * 20, "😀" * 60 + "ü" * 20),
        ("😀" * 60 + "ü" * 21, "😀" * 60 + "ü" * 17 + "..."),
        ("x" * 5000, "x" * 77 + "..."),
    ],
)
def test_a_name_longer_than_names_can_be_is_shown_in_part(text: str, shown: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(text)
    assert str(caught.value) == f"{shown}: cannot be opened: File name too long; check the path"


# Raw input


@pytest.mark.parametrize("size", [(2, 2), (2, 7)])
def test_the_smallest_raw_frames(size: tuple[int, int]) -> None:
    source = RawSource(size=size, stream=io.BytesIO(bytes(42)))
    assert next(source).image.shape == (size[1], size[0], 3)
    assert (source.size, source.rate) == (size, 30)


@pytest.mark.parametrize(("size", "got"), [((1, 9), "1x9"), ((9, 1), "9x1"), (None, "none")])
def test_raw_frames_of_no_size_are_refused(size: tuple[int, int] | None, got: str) -> None:
    with pytest.raises(SourceError, match=f"raw frames need their size, got {got}; give it as WIDTHxHEIGHT"):
        RawSource(size=size, stream=io.BytesIO())


def test_raw_frames_may_be_as_large_as_any_picture() -> None:
    RawSource(size=(MAX_PIXELS // 1000, 1000), stream=io.BytesIO())
    with pytest.raises(SourceError, match="expected frames of at most 300 megapixels, got 300001x1000"):
        RawSource(size=(MAX_PIXELS // 1000 + 1, 1000), stream=io.BytesIO())


def test_raw_frames_come_from_standard_input_unless_another_stream_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(bytes([7] * 12)))
    monkeypatch.setattr(sys, "stdin", stdin)
    source = open_source("-", size=(2, 2), rate=29.97002997)
    assert (source.name, source.rate) == ("standard input", Fraction(30000, 1001))
    assert int(next(source).image[0, 0, 0]) == 7
    monkeypatch.setattr(sys, "stdin", None)
    assert list(RawSource(size=(2, 2), stream=io.BytesIO())) == []


def test_a_warning_of_raw_input_points_to_whoever_reads() -> None:
    source = RawSource(size=(2, 2), stream=io.BytesIO(bytes(5)))
    with pytest.warns(SourceWarning, match="ended inside frame 0: 5 of 12 bytes") as caught:
        assert next(source, None) is None
    assert caught[0].filename == __file__


# Every source


class Steps(Source):
    """Frames that a test makes; ``released`` counts how often everything was given back."""

    name = "steps"
    size = (6, 4)
    rate = Fraction(10)

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.count, self.released = count, 0
        self.before_reading = lambda: None

    def _read(self) -> Frame | None:
        self.before_reading()
        index = self.last_index + 1
        if index == self.count:
            return None
        pixels = np.full((4, 6, 3), 256 * index, np.uint16)
        deep = Deep.of(pixels)
        return Frame(deep.image, index, index / 10, deep)

    def _release(self) -> None:
        self.released += 1


def test_a_source_knows_how_far_it_was_read() -> None:
    source = Steps(2)
    assert (source.last_index, source.finished, source.skipped, source.files) == (-1, False, [], ())
    assert [frame.index for frame in source] == [0, 1]
    assert (source.last_index, source.finished) == (1, True)
    assert list(source) == []
    assert source.released == 0
    source.close()
    source.close()
    assert source.released == 1


def test_a_source_that_failed_is_not_finished() -> None:
    source = Steps()
    source.before_reading = lambda: (_ for _ in ()).throw(SourceError("unplugged"))  # type: ignore[assignment]
    with pytest.raises(SourceError, match="unplugged"):
        next(source)
    assert (source.finished, source.last_index, source.released) == (False, -1, 0)


def test_closing_from_elsewhere_while_a_read_hangs_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device is given back by the read itself, when it comes back."""
    monkeypatch.setattr(base, "CLOSE_WAIT_S", 0.01)
    source = Steps()
    hangs, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        go_on.wait(10)

    source.before_reading = hang  # type: ignore[assignment]
    reader = threading.Thread(target=lambda: next(source, None))
    reader.start()
    hangs.wait(10)
    source.close()
    assert source.released == 0
    go_on.set()
    reader.join(10)
    assert source.released == 1
    assert list(source) == []


def test_leaving_a_source_closes_it() -> None:
    with Steps() as source:
        assert isinstance(source, Steps)
        next(source)
        assert source.released == 0
    assert source.released == 1


def test_what_opens_once_says_so() -> None:
    with pytest.raises(
        SourceError, match="steps: expected a camera or stream to reconnect to; this source opens"
    ):
        Steps().reopen()


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(None, (6, 4)), (Fraction(1), (6, 4)), (Fraction(2), (12, 4)), (Fraction(1, 2), (6, 8))],
)
def test_frames_are_displayed_with_square_pixels(aspect: Fraction | None, size: tuple[int, int]) -> None:
    source = Steps()
    if aspect is not None:
        source.media = Media("a.mp4", Fraction(0), Fraction(1, 90000), aspect)
    assert source.display_size == size
    shown = list(source.displayed())
    assert [(frame.index, frame.time_s) for frame in shown] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    for frame in shown:
        assert frame.image.shape == (size[1], size[0], 3)
        assert (frame.deep is None) is (size != (6, 4))  # of what is stretched nothing is written back


def test_media_that_state_nothing_are_usual_and_whole() -> None:
    media = Media("a.mp4", Fraction(0), Fraction(1, 90000), Fraction(1))
    assert (media.color, media.stream, media.silent) == (Color(1, 1, 1, False, 8), 0, False)
    assert media.metadata == media.stream_metadata == {}
    assert media.metadata is not Media("b.mp4", Fraction(0), Fraction(1, 90000), Fraction(1)).metadata


# Pictures


def test_pictures_have_a_length_and_a_rate(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((4, 6, 3), np.uint8))
    source = open_source(tmp_path)
    assert (source.rate, source.frame_count, source.duration_s) == (30, 3, 0.1)
    source = open_source(tmp_path, rate=29.97002997)
    assert source.rate == Fraction(30000, 1001)
    assert source.duration_s == pytest.approx(3 * 1001 / 30000)
    assert [path.name for path in source.files] == ["0.png", "1.png", "2.png"]
    assert not source.live
    assert source.media is None


def test_numbers_in_names_are_compared_as_numbers_and_letters_without_case(tmp_path: Path) -> None:
    names = ["1.png", "2b.png", "02a.png", "10.png", "a2.png", "A10.png", "b1.png"]
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 6, 3), np.uint8))
    source = open_source(tmp_path)
    assert [path.name for path in source.files] == ["1.png", "02a.png", "2b.png", "10.png", *names[4:]]


def test_names_with_digits_that_are_no_numbers_have_an_order_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("²10.png", "²2.png", "x1.png"):
        cv2.imwrite(name, np.zeros((4, 6, 3), np.uint8))
    assert [str(path) for path in open_source("*.png").files] == ["x1.png", "²2.png", "²10.png"]


def test_a_folder_with_a_picture_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "0.png").mkdir()
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((4, 6, 3), np.uint8))
    for text in (tmp_path, tmp_path / "*.png", tmp_path / "%d.png"):
        source = open_source(text)
        assert [path.name for path in source.files] == ["1.png"]


def test_a_warning_about_a_picture_points_to_whoever_reads(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "1.png").write_bytes(b"nonsense")
    source = open_source(tmp_path)
    next(source)
    with pytest.warns(SourceWarning, match="left out") as caught:
        next(source)
    assert caught[0].filename == __file__
