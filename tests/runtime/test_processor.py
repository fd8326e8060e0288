"""Frames of a file on their way through the pipeline, in the geometry in which they are displayed."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.cli import check, live, video
from doppelgan.runtime.cli.processor import Processor
from doppelgan.runtime.mark.marker import Marker
from doppelgan.runtime.measure.bench import read_frames
from doppelgan.runtime.pictures.square_pixels import SquarePixels
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source import open_source
from doppelgan.runtime.types import Deep, Frame, Image

from .media import Pictures, copy, write_media


def picture(size: tuple[int, int] = (96, 64)) -> Image:
    """Smooth colors."""
    y, x = np.mgrid[: size[1], : size[0]]
    waves = [120 + 60 * np.sin(x / 9 + k) + 40 * np.cos(y / 7 + 2 * k) for k in range(3)]
    return np.clip(np.stack(waves, -1), 0, 255).astype(np.uint8)


class FakePipeline:
    """Paints a red square into the middle; remembers the shapes that it saw."""

    def __init__(self, composite: str = "face") -> None:
        self.composite = composite
        self.people = {1: object()}
        self.seen: list[tuple[int, ...]] = []

    def process(self, image: Image, time_s: float) -> Image:
        self.seen.append(image.shape)
        out = image.copy() if self.composite == "face" else np.full_like(image, 77)
        height, width = image.shape[:2]
        out[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = (20, 40, 220)
        return out


def processor(aspect: Fraction = Fraction(1), composite: str = "face") -> tuple[Processor, FakePipeline]:
    pipeline = FakePipeline(composite)
    source: Any = SimpleNamespace(media=SimpleNamespace(pixel_aspect=aspect))
    return Processor(pipeline, source), pipeline  # type: ignore[arg-type]


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(1, 2), Fraction(1)])
def test_whoever_only_looks_at_a_file_sees_square_pixels(tmp_path: Path, aspect: Fraction) -> None:
    path = write_media(tmp_path / "in.mp4", Pictures(frames=3, aspect=aspect))
    size = {Fraction(2): (128, 48), Fraction(1, 2): (64, 96), Fraction(1): (64, 48)}[aspect]
    with open_source(path) as source:
        assert source.display_size == size
        frames = list(source.displayed())
    assert [(frame.image.shape[1::-1], frame.index) for frame in frames] == [(size, n) for n in range(3)]
    assert read_frames(str(path), 1, size)[0].any(axis=(0, 2)).all(), "no black bars: it has this shape"


def test_the_page_gets_square_pixels_of_a_film_that_starts_over(tmp_path: Path) -> None:
    server_source = pytest.importorskip(
        "doppelgan.runtime.serve.server_source", reason="the extra `serve` is not installed"
    )
    path = write_media(tmp_path / "in.mp4", Pictures(frames=2, aspect=Fraction(2)))
    shapes: list[tuple[int, ...]] = []
    seen = threading.Event()

    def offer(_source: Any, job: Any) -> None:
        shapes.append(job.decode().shape)
        if len(shapes) > 3:
            seen.set()

    studio = SimpleNamespace(source=None, offer=offer, take_source=lambda source: None)
    source = server_source.ServerSource(str(path), studio)
    source.start()
    assert seen.wait(20)
    source.close()
    assert set(shapes) == {(48, 128, 3)}


def test_the_mark_of_an_anamorphic_film_is_found(tmp_path: Path) -> None:
    """It lies in the pictures as they are displayed."""
    path = write_media(tmp_path / "in.mp4", Pictures(frames=4, size=(320, 480), aspect=Fraction(2)))
    with open_source(path) as source, open_sink(tmp_path / "out.mp4", like=source, crf=8) as sink:
        edit = Processor(Marking(), source)  # type: ignore[arg-type]
        for frame in source:
            sink.write(edit(frame))
    layers = check.examine(tmp_path / "out.mp4")
    assert layers.watermark is not None
    assert layers.watermark.found


class Marking(FakePipeline):
    """A pipeline that changes everything and marks it."""

    def process(self, image: Image, time_s: float) -> Image:
        out = np.full_like(image, 120)
        Marker("edited", badge=None).apply(out, None)
        return out


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [
        (Fraction(64, 27), (64, 228, 3)),
        (Fraction(32, 11), (64, 279, 3)),
        (Fraction(1, 2), (128, 96, 3)),
        (Fraction(1), (64, 96, 3)),
        (Fraction(1001, 1000), (64, 96, 3)),
        (Fraction(1000), (64, 96, 3)),  # of a damaged header
    ],
)
def test_faces_are_edited_as_they_are_displayed(aspect: Fraction, shape: tuple[int, ...]) -> None:
    edit, pipeline = processor(aspect)
    image = picture()

    out = edit(Frame(image, 3, 0.5))

    assert pipeline.seen == [shape]
    assert (out.index, out.time_s, out.image.shape) == (3, 0.5, image.shape)
    assert (out.image[:12] == image[:12]).all()  # what is not edited is exact
    assert (out.image[:, :20] == image[:, :20]).all()
    assert np.abs(out.image[32, 48].astype(int) - (20, 40, 220)).max() <= 12
    assert edit.with_face == 1


def test_nothing_of_a_replaced_frame_shows_in_any_bit() -> None:
    edit, _ = processor(Fraction(2), "replace")
    frames = [Frame(image, 0, 0.0, Deep.of(image.astype(np.uint16) * 256 + 77))
              for image in (picture(), picture()[::-1].copy())]  # fmt: skip
    first, second = (edit(frame) for frame in frames)
    assert (first.image == second.image).all()
    assert first.deep is None


def test_deep_pixels_go_along_with_an_edit() -> None:
    edit, _ = processor()
    deep = Deep.of(picture().astype(np.uint16) * 256 + 77)
    assert edit(Frame(deep.image, 0, 0.0, deep)).deep is deep


def test_the_aspect_of_a_file_stays_and_is_edited_upright(tmp_path: Path) -> None:
    path = write_media(tmp_path / "in.mp4", Pictures(frames=2, aspect=Fraction(64, 27)))
    with open_source(copy(path, tmp_path / "out.mp4")) as after:
        assert after.media is not None
        assert after.media.pixel_aspect == Fraction(64, 27)
        assert after.size == (64, 48)


def test_edits_there_and_back_are_where_they_were() -> None:
    square = SquarePixels(Fraction(2))
    image = picture()
    displayed = square.display(image)
    edited = displayed.copy()
    edited[:, 96:] += 20
    back = square.stored(image, displayed, edited).astype(int) - image
    assert np.abs(back[:, 52:] - 20).max() <= 1
    assert (back[:, :44] == 0).all()


# The command line hands over what a file says


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    pipeline = FakePipeline()
    for command in (video, live):
        monkeypatch.setattr(command, "make_pipeline", lambda **settings: pipeline)
        monkeypatch.setattr(command, "state_origin", lambda *args: None)
    monkeypatch.setattr(live, "Keys", lambda pipeline: None)
    return pipeline


def test_video_edits_a_file_as_it_is_displayed(tmp_path: Path, fake: FakePipeline) -> None:
    path = write_media(tmp_path / "in.mp4", Pictures(frames=2, aspect=Fraction(2)))
    video.command.callback(str(path), str(tmp_path / "out.mp4"), False, False)  # type: ignore[misc]
    assert fake.seen == [(48, 128, 3)] * 2
    with open_source(tmp_path / "out.mp4") as after:
        assert (after.size, after.media and after.media.pixel_aspect) == ((64, 48), 2)


@pytest.mark.parametrize("loop", [False, True])
def test_live_plays_a_file_at_its_pace(
    tmp_path: Path, fake: FakePipeline, monkeypatch: pytest.MonkeyPatch, loop: bool
) -> None:
    path = write_media(tmp_path / "in.mp4", Pictures(frames=3, aspect=Fraction(2)))
    indices: list[int] = []

    def run(source: Any, process: Any, sinks: Any, **options: Any) -> Any:
        with source:
            for _, frame in zip(range(7), source, strict=False):
                indices.append(process(frame).index)
        return SimpleNamespace(written=0, dropped=0)

    monkeypatch.setattr(live, "run_live", run)
    began_s = time.monotonic()
    live.command.callback(  # type: ignore[misc]
        source=str(path), outputs=("null:",), size=None, rate=None, overwrite=False, loop=loop,
        on_lost="hold", latency=False,
    )  # fmt: skip
    assert indices == list(range(7 if loop else 3))
    assert time.monotonic() - began_s >= (len(indices) - 1) / 25 - 0.01
    assert fake.seen == [(48, 128, 3)] * len(indices)
