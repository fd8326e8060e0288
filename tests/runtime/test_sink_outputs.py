"""What an output's text means: which sink, which files; what must not be replaced, or be named twice."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.errors import SinkError
from doppelgan.runtime.pictures.files import write_image
from doppelgan.runtime.sink import Sink, check_outputs, open_sink
from doppelgan.runtime.sink.base import NullSink
from doppelgan.runtime.sink.images import ImagesSink
from doppelgan.runtime.sink.raw import RawSink
from doppelgan.runtime.sink.video import VideoSink
from doppelgan.runtime.source import open_source

from .clips import frame, left_in


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("null:", NullSink),
        ("out.mp4", VideoSink),
        ("OUT.MKV", VideoSink),
        ("windows.mp4", VideoSink),
        ("windows", ImagesSink),
        ("shots/", ImagesSink),
        ("shots.mp4/", ImagesSink),
        ("there.mp4", ImagesSink),
        ("there.2024", ImagesSink),
        ("A.PNG", ImagesSink),
        ("s/%04d.jpg", ImagesSink),
    ],
)
def test_a_text_says_where_frames_go(text: str, kind: type[Sink]) -> None:
    for folder in ("there.mp4", "there.2024"):
        Path(folder).mkdir()
    with open_sink(text) as sink:
        assert type(sink) is kind
        assert not sink.stopped
        assert not sink.broken_off


def test_a_video_has_the_rate_asked_for_where_there_is_no_source() -> None:
    with open_sink("out.mp4", rate=50) as sink:
        for index in range(3):
            sink.write(frame(index, index, time_s=index / 50))
    assert open_source("out.mp4").rate == 50


def test_an_empty_text_is_no_output() -> None:
    for text in ("", "  "):
        with pytest.raises(
            SinkError, match="expected a file, folder or 'window', got an empty text; name an"
        ):
            open_sink(text)


# Files that are there


@pytest.fixture
def files() -> None:
    Path("shots").mkdir()
    Path("film.mp4").mkdir()
    for name in ("out.mp4", "a.png", "shots/000001.png", "shots/s01.jpg", "film.mp4/000007.png"):
        Path(name).write_text("mine")
    Path("broken.mkv").symlink_to("nowhere")
    Path("tail+1.png").write_text("mine")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "text",
    ["out.mp4", "a.png", "shots", "shots/", "shots/s%02d.jpg", "film.mp4", "broken.mkv", "tail+%d.png"],
)
def test_what_is_there_is_replaced_only_on_demand(text: str) -> None:
    with pytest.raises(SinkError, match=r"already there.*overwrite"):
        check_outputs(["new.mp4", text], overwrite=False)
    check_outputs(["new.mp4", text], overwrite=True)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "text",
    [
        *(
            "new.mp4",
            "new.png",
            "new/",
            "nowhere/new.png",
            "shots/t%02d.jpg",
            "shots/s%02d.png",
            "taill%d.png",
        ),
        *("null:", "-", "window", "window:Me", "camera:", "camera:/dev/video4"),
    ],
)
def test_what_is_not_there_replaces_nothing(text: str) -> None:
    check_outputs([text], overwrite=False)


@pytest.mark.parametrize(
    ("first", "second"), [("out.mp4", "./out.mp4"), ("shots", "shots/"), ("a.png", "b/../a.png")]
)
def test_an_output_named_twice_is_refused_by_whatever_name(first: str, second: str) -> None:
    Path("b").mkdir()
    with pytest.raises(SinkError, match=r"expected different outputs, got this one twice; name another"):
        check_outputs([first, "other.mp4", second], overwrite=True)


@pytest.mark.parametrize("text", ["null:", "-", "window", "window:Me", "camera:"])
def test_what_is_no_file_may_be_named_twice(text: str) -> None:
    check_outputs([text, "out.mp4", text], overwrite=False)


def test_a_name_longer_than_names_can_be_is_shortened_and_said_before_the_work() -> None:
    name = "x" * 300 + ".mp4"
    with pytest.raises(SinkError, match=r"^x{80}: cannot be written: File name too long; rename the output$"):
        check_outputs([name], overwrite=False)


# Pictures


def test_folders_are_made_as_deep_as_they_are_named() -> None:
    with open_sink("a/b/c/%d.png") as sink:
        assert Path("a/b/c").is_dir()
        sink.write(frame(index=3))
    assert left_in(Path("a/b/c")) == ["3.png"]


def test_only_the_first_number_of_a_name_is_the_frames() -> None:
    with open_sink("%02d-of-%d.png") as sink:
        sink.write(frame(index=3))
    assert left_in(Path()) == ["03-of-%d.png"]


def test_every_complete_file_is_told() -> None:
    told: list[Path] = []
    for text in ("shots/", "out.mp4"):
        with open_sink(text) as sink:
            sink.on_file = told.append
            for index in range(2):
                sink.write(frame(index=index))
    assert told == [Path("shots/000000.png"), Path("shots/000001.png"), Path("out.mp4")]


def test_jpegs_are_written_in_the_quality_of_pictures() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    one = frame()
    one.image[:] = image
    with open_sink("a.jpg") as sink:
        sink.write(one)
    with ImagesSink("low.jpg", quality=50) as sink:
        sink.write(one)
    write_image("b.jpg", image, quality=95)
    assert Path("a.jpg").read_bytes() == Path("b.jpg").read_bytes()
    assert Path("low.jpg").stat().st_size < Path("a.jpg").stat().st_size / 2


def pictures(*names: str) -> None:
    for shade, name in enumerate(names):
        write_image(name, frame(10 * shade).image)


@pytest.mark.parametrize("text", ["shots/%d.png", "shots/2.png", "link/%d.png", "hard%d.png"])
def test_no_picture_that_is_read_is_written_over(text: str) -> None:
    pictures(*(f"shots/{number}.png" for number in range(3)))
    Path("link").symlink_to("shots")
    os.link("shots/2.png", "hard1.png")
    with (
        open_source("shots") as source,
        pytest.raises(SinkError, match=r"is one of the pictures given; choose"),
    ):
        open_sink(text, like=source)


def test_pictures_beside_those_that_are_read_are_no_matter() -> None:
    pictures("shots/a.png", "shots/b.png", "shots/c.png", "shots/7.png", "other/0.png")
    with open_source("shots") as source:
        Path("shots/b.png").unlink()  # a picture that is gone is no reason to stop
        open_sink("shots/%d.png", like=source).close()
        open_sink("other/%d.png", like=source).close()


# Raw frames


class Stream:
    """Standard output that says what it is and remembers what it got."""

    def __init__(self, error: OSError | None = None, terminal: bool = False) -> None:
        self.error, self.terminal = error, terminal
        self.got: list[bytes] = []
        self.flushed = 0
        self.buffer = self

    def isatty(self) -> bool:
        return self.terminal

    def write(self, data: memoryview) -> int:
        if self.error is not None:
            raise self.error
        self.got.append(data.tobytes())
        return data.nbytes

    def flush(self) -> None:
        self.flushed = len(self.got)


def test_raw_frames_go_to_standard_output_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr("sys.stdout", stream)
    sink = open_sink("-")
    assert type(sink) is RawSink
    for index in range(2):
        one = frame(index + 1, index)
        sink.write(one)
        assert stream.got[index] == one.image.tobytes()
        assert stream.flushed == index + 1  # whoever reads shall not wait for the next
    sink.close()


def test_raw_frames_need_no_standard_output_where_another_stream_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Stream()
    monkeypatch.setattr("sys.stdout", None)
    RawSink(stream=stream).write(frame())  # type: ignore[arg-type]
    assert len(stream.got) == 1
    with pytest.raises(SinkError, match="expected a pipe or file, got a closed stream; append '> FILE'"):
        open_sink("-")


def test_raw_frames_are_not_poured_into_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Stream(terminal=True))
    with pytest.raises(SinkError, match=r"got a terminal; append '\| PROGRAM' or '> FILE'"):
        open_sink("-")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BrokenPipeError(32, "Broken pipe"), "the reader closed the pipe after 1 frames"),
        (OSError(28, "No space left on device"), "standard output: cannot write: No space left on device"),
    ],
)
def test_a_stream_that_fails_is_named(error: OSError, message: str) -> None:
    stream = Stream()
    sink = RawSink(stream=stream)  # type: ignore[arg-type]
    sink.write(frame())
    stream.error = error
    with pytest.raises(SinkError, match=message):
        sink.write(frame(index=1))
    assert sink.frames == 1


@pytest.mark.parametrize("size", [(64, 32), (32, 48)])
def test_raw_frames_of_another_width_or_height_are_refused(size: tuple[int, int]) -> None:
    stream = Stream()
    sink = RawSink(stream=stream)  # type: ignore[arg-type]
    sink.write(frame())
    message = f"expected 64x48 as before, got {size[0]}x{size[1]}; raw frames have one size"
    with pytest.raises(SinkError, match=message):
        sink.write(frame(size=size))
    assert len(stream.got) == 1
