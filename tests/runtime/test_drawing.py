"""Fitting pictures and writing on them, OpenCV beside it as a second opinion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from doppelgan.runtime.pictures.drawing import blend, resized, write_text
from doppelgan.runtime.types import Image


def photo() -> Image:
    """Smooth, with every color: 90x120."""
    noise = np.random.default_rng(2).normal(size=(90, 120, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2) * 400 + 128
    return np.clip(smooth, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(80, 60), (40, 30), (53, 17), (2, 2), (240, 180), (133, 91)])
def test_pictures_shrink_by_area_and_grow_linearly(size: tuple[int, int]) -> None:
    image = photo()
    how = cv2.INTER_AREA if size[0] < 120 else cv2.INTER_LINEAR
    expected = cv2.resize(image, size, interpolation=how).astype(int)

    got = resized(image, size)

    assert (got.shape, got.dtype) == ((size[1], size[0], 3), np.uint8)
    assert np.abs(got - expected).max() <= 2
    assert np.abs(got - expected).mean() < 0.3


def test_a_part_of_a_picture_can_be_fitted_and_flat_colors_stay() -> None:
    image = np.full((60, 80, 3), (10, 100, 250), np.uint8)
    image[:, 40:] = 0
    assert (resized(image[:, :40], (13, 27)) == (10, 100, 250)).all()


def test_the_size_it_has_is_no_work() -> None:
    image = photo()
    assert resized(image, (120, 90)) is image


def test_text_in_the_middle_is_in_the_middle_and_in_its_color() -> None:
    image = np.full((90, 320, 3), 20, np.uint8)
    write_text(image, "HOH", (160, 45), height_px=32, color=(200, 100, 50), anchor="middle")

    rows, columns = np.nonzero((image != 20).any(axis=2))
    assert abs(columns.min() + columns.max() - 2 * 160) <= 4
    assert abs(rows.min() + rows.max() - 2 * 45) <= 8
    assert 16 < rows.max() - rows.min() < 32
    assert (image == (200, 100, 50)).all(axis=2).sum() > 50


def test_text_stands_on_its_base_line_and_ends_at_the_border() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    write_text(image[:, :40], "HHHHHHHH", (4, 30), height_px=12, color=(255, 255, 255))

    rows, columns = np.nonzero(image.any(axis=2))
    assert rows.max() == 29
    assert 37 <= columns.max() <= 39
    assert 4 <= columns.min() <= 6
    assert 7 <= rows.max() - rows.min() + 1 <= 11


def test_text_blends_with_what_is_below() -> None:
    image = np.full((30, 60, 3), 100, np.uint8)
    write_text(image, "so", (5, 22), height_px=20, color=(200, 200, 200))
    assert set(np.unique(image)) <= set(range(100, 201))
    assert len(np.unique(image)) > 5


def test_an_outline_is_black_and_outside_of_the_letters() -> None:
    plain, outlined = np.full((2, 40, 90, 3), 128, np.uint8)
    for image, outline_px in ((plain, 0), (outlined, 2)):
        write_text(image, "mark", (10, 28), height_px=24, color=(255,) * 3, outline_px=outline_px)
    assert plain.min() == 128
    assert outlined.min() == 0
    assert outlined[plain == 255].min() > 250
    height, more = (int((image != 128).any(axis=(1, 2)).sum()) for image in (plain, outlined))
    assert more == pytest.approx(height + 4, abs=1)


@pytest.mark.parametrize("corner", [(-2, -3), (17, 18), (-40, 5), (5, 99)])
def test_what_lies_outside_is_cut_off(corner: tuple[int, int]) -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    blend(image, np.ones((6, 5, 1), np.float32), corner, (1, 2, 3))
    x, y = corner
    expected = np.zeros((200, 200, 3), np.uint8)
    expected[100 + y : 106 + y, 100 + x : 105 + x] = (1, 2, 3)
    np.testing.assert_array_equal(image, expected[100:120, 100:120])


def test_no_text_draws_nothing() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    write_text(image, "", (5, 5), height_px=10, color=(255, 255, 255))
    assert not image.any()
