"""Images as a source: their order, patterns, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import Source, SourceWarning, open_source


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
