"""The badge, and the pipeline's last step that draws it."""

from __future__ import annotations

import numpy as np
import pytest
from doppelgan.runtime.mark import watermark
from doppelgan.runtime.mark.badge import CORNERS, Badge
from doppelgan.runtime.mark.marker import Marker
from doppelgan.runtime.types import Crop


def crop_at(x: float, y: float, side: float) -> Crop:
    size = 16
    scale = side / size
    matrix = np.array([[scale, 0, x + scale / 2 - 0.5], [0, scale, y + scale / 2 - 0.5]])
    return Crop(np.zeros((1, 3, size, size), np.float32), matrix, np.zeros((468, 3), np.float32))


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_badge_is_readable_on_any_ground_in_its_corner(corner: str, value: int) -> None:
    frame = np.full((360, 640, 3), value, np.uint8)
    Badge(corner).draw(frame, "edited")  # type: ignore[arg-type]
    rows, columns = np.nonzero((frame != value).any(axis=2))
    assert (rows.max() < 60) == corner.startswith("top")
    assert (columns.max() < 200) == corner.endswith("left")
    assert (rows.min() > 300) == corner.startswith("bottom")
    drawn = frame[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert int(drawn.max()) - int(np.median(drawn)) > 130  # letters against their ground


def test_size_is_a_share_of_the_shorter_side() -> None:
    heights = []
    for size in (0.05, 0.1):
        frame = np.full((400, 300, 3), 99, np.uint8)
        Badge(size=size).draw(frame, "edited")
        heights.append(np.ptp(np.nonzero((frame != 99).any(axis=(1, 2)))[0]) + 1)
    assert heights == [15, 30]
    with pytest.raises(ValueError, match="badge size: expected"):
        Badge(size=0.5)
    with pytest.raises(ValueError, match="badge: expected one of top-left"):
        Badge("middle")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 2, 3), (9, 400, 3), (400, 9, 3), (16, 16, 3)])
def test_frames_too_small_for_it_get_what_fits(shape: tuple[int, int, int]) -> None:
    frame = np.full(shape, 128, np.uint8)
    Badge().draw(frame, "avatar")
    assert (frame != 128).any()


class TestMarker:
    def test_one_changed_pixel_marks_the_whole_frame(self) -> None:
        original = np.random.default_rng(0).integers(60, 190, (240, 320, 3)).astype(np.uint8)
        frame = original.copy()
        frame[90, 150, 1] ^= 1
        marker = Marker(badge=None)
        assert marker.apply(frame, original, [crop_at(100, 40, 100)])
        assert (marker.frames, marker.latest) == (1, True)
        marked = (frame != original).any(axis=2)
        parts = [part for rows in np.split(marked, 4) for part in np.split(rows, 4, axis=1)]
        assert min(part.mean() for part in parts) > 0.5
        found = watermark.detect(frame)
        assert found.payload is not None
        assert found.payload.kind == "edited"

    @pytest.mark.parametrize("place", [(40, 100), (139, 100), (40, 199), (139, 199)])
    def test_the_squares_corners_count(self, place: tuple[int, int]) -> None:
        original = np.full((240, 320, 3), 99, np.uint8)
        frame = original.copy()
        frame[place] ^= 1
        assert Marker().apply(frame, original, [crop_at(100, 40, 100)])

    @pytest.mark.parametrize("marks", [True, False])
    def test_no_change_no_mark(self, marks: bool) -> None:
        frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
        same = frame.copy()
        assert not Marker(watermark=marks).apply(same, frame, [crop_at(20, 20, 80)])
        assert not Marker(watermark=marks).apply(same, frame, [])
        np.testing.assert_array_equal(same, frame)

    def test_badge_without_a_watermark(self) -> None:
        frame = np.full((240, 320, 3), 90, np.uint8)
        original = frame.copy()
        frame[60:160, 100:200] += 9
        assert Marker(watermark=False).apply(frame, original, [crop_at(100, 60, 100)])
        np.testing.assert_array_equal(frame[60:160, 100:200], 99)
        assert (frame[200:] != 90).any()

    def test_a_replaced_frame_is_marked_as_a_whole_and_says_avatar(self) -> None:
        frame = np.full((300, 400, 3), 120, np.uint8)
        Marker("avatar").apply(frame, None)
        result = watermark.detect(frame)
        assert result.found
        assert result.payload is not None
        assert result.payload.kind == "avatar"
