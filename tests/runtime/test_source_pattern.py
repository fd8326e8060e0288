"""The test pattern: what it shows, of which size and at which moments."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.source import open_source
from doppelgan.runtime.source.pattern import PatternSource

from .clips import read_counter


def pictures(size: tuple[int, int], count: int) -> list[Any]:
    with open_source(f"test:{size[0]}x{size[1]}@30:{count}") as source:
        return [frame.image for frame in source]


@pytest.mark.parametrize(
    ("text", "size", "rate", "frames"),
    [
        ("test:", (1280, 720), 30, None),
        ("test:32x32", (32, 32), 30, None),
        ("test:640x480@30", (640, 480), 30, None),
        ("test:640x480@1000:1", (640, 480), 1000, 1),
        ("test:@12.5", (1280, 720), Fraction(25, 2), None),
        ("test:64x48@30000/1001:90", (64, 48), Fraction(30000, 1001), 90),
        ("test:64x48:0", (64, 48), 30, 0),
    ],
)
def test_a_pattern_is_as_its_text_says(
    text: str, size: tuple[int, int], rate: Fraction, frames: int | None
) -> None:
    source = PatternSource(text)
    assert (source.name, source.size, source.rate, source.frame_count) == (text, size, rate, frames)
    assert source.duration_s == (None if frames is None else float(frames / rate))
    assert source.live is (frames is None)
    if frames == 0:
        assert list(source) == []


@pytest.mark.parametrize(
    "text",
    ["test:31x32", "test:32x31", "test:16385x32", "test:32x16385", "test:@0", "test:@1001", "test:64x48@0/7"],
)
def test_a_pattern_that_cannot_be_is_refused(text: str) -> None:
    message = "expected 32x32 to 16384x16384 pixels and up to 1000 frames/s; try test:640x480@30"
    with pytest.raises(SourceError, match=message):
        PatternSource(text)


def test_the_largest_pattern_is_one() -> None:
    assert PatternSource("test:16384x32").size == (16384, 32)


@pytest.mark.parametrize(("text", "live"), [("test:64x48:3", True), ("test:64x48", False)])
def test_a_pattern_is_live_or_not_as_asked(text: str, live: bool) -> None:
    now_s = [7.0]
    source = PatternSource(
        text, live=live, wait=lambda s: now_s.__setitem__(0, now_s[0] + s), now_s=lambda: now_s[0]
    )
    moments = [next(source).time_s for _ in range(3)]
    assert source.live is live
    assert moments == pytest.approx([7 * live + i / 30 for i in range(3)])
    if live:
        assert list(source) == []


def test_a_late_pattern_waits_for_nothing() -> None:
    now_s, waits = [5.0], []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now_s[0] += seconds

    source = PatternSource("test:64x48@10", wait=wait, now_s=lambda: now_s[0])
    assert next(source).time_s == 5.0  # at once
    now_s[0] = 5.35
    assert [next(source).time_s for _ in range(4)] == pytest.approx([5.35, 5.35, 5.35, 5.4])
    assert waits == pytest.approx([0.05])


def test_closing_ends_the_wait_for_the_next_frame() -> None:
    source = PatternSource("test:64x48@1/100")
    next(source)
    source.close()
    assert list(source) == []
    assert source._wait(100)  # the event that is waited for is set


def test_eight_bars_of_every_mixture_lie_behind() -> None:
    (image,) = pictures((160, 96), 1)
    row = image[0]
    assert (image[:19] == row).all()
    colors = [tuple(int(v) for v in row[x]) for x in range(10, 160, 20)]
    assert colors == [
        (190, 190, 190), (30, 190, 190), (190, 190, 30), (30, 190, 30),
        (190, 30, 190), (30, 30, 190), (190, 30, 30), (30, 30, 30),
    ]  # fmt: skip
    changes = np.flatnonzero((row[1:] != row[:-1]).any(-1)) + 1
    assert changes.tolist() == list(range(20, 160, 20))


def test_a_width_that_eight_does_not_divide_is_filled_too() -> None:
    (image,) = pictures((35, 32), 1)
    assert image[0, -1].tolist() == [30, 30, 30]
    assert len(np.unique(image[0], axis=0)) == 8


def disc(image: Any, background: Any) -> tuple[float, float, float]:
    """(x, y) of the disc's middle and its area, from how much of each pixel it covers."""
    shown = image.astype(float) - background
    covered = np.divide(shown, 235.0 - background)[..., 2]
    covered[-(len(image) // 8) :] = 0  # the counter
    rows, columns = np.indices(covered.shape)
    area = covered.sum()
    return float((columns * covered).sum() / area), float((rows * covered).sum() / area), float(area)


@pytest.mark.parametrize("index", [0, 10, 20, 30, 45, 60, 100])
def test_a_disc_moves_to_and_fro_and_up_and_down(index: int) -> None:
    width, height = 320, 192
    image = pictures((width, height), index + 1)[index]
    bars = np.repeat(pictures((width, height), 1)[0][:1], height, axis=0).astype(float)
    x, y, area = disc(image, bars)
    radius = min(width, height) // 6
    phase = index / 60 * np.pi
    assert x == pytest.approx(width / 2 + (width / 2 - radius) * np.sin(phase), abs=0.6)
    assert y == pytest.approx(height / 2 - height / 8 * np.cos(2 * phase), abs=0.6)
    assert area == pytest.approx(np.pi * radius**2, rel=0.02)


def test_the_edge_of_the_disc_is_smooth_and_its_inside_of_one_color() -> None:
    image = pictures((320, 192), 1)[0]
    middle = image[192 // 2 - 192 // 8]
    left = 160 - 32
    assert (middle[left + 1 : left + 64] == 235).all()
    assert (middle[: left - 1] < 191).all()
    assert (image == 235).all(-1).sum() < np.pi * 32**2
    assert ((image[..., 2] > 190) & (image[..., 2] < 235)).sum() > 40


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (330, 97)])
def test_the_number_of_a_frame_is_written_along_the_bottom(size: tuple[int, int]) -> None:
    images = pictures(size, 6)
    assert [read_counter(image) for image in images] == list(range(6))
    width, height = size
    cells = images[5][height - height // 8 :, : width // 16 * 16]
    assert set(np.unique(cells)) == {0, 255}
    bits = [int(cells[0, bit * (width // 16), 0] == 255) for bit in range(16)]
    assert bits == [1, 0, 1] + [0] * 13
    assert set(np.unique(images[5][height - height // 8 - 1])) - {0, 255}  # no cell is higher


def test_a_picture_is_not_touched_by_the_next() -> None:
    with open_source("test:64x48@30:2") as source:
        first = next(source).image
        before = first.copy()
        next(source)
    assert (first == before).all()
