"""The square that turns with the head: what is looked at, and where points of it lie in the frame."""

from __future__ import annotations

import numpy as np
import pytest
from doppelgan.runtime.track.region import Region, look, place

from .painted_faces import SIZE, Painted, dots, paint


def test_look_reads_exactly_the_region() -> None:
    image = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    region = Region(x=40 + 31.5, y=20 + 31.5, side=64)  # pixels 40..103 and 20..83
    picture = look(image, region, 64)
    expected = image[20:84, 40:104, ::-1].transpose(2, 0, 1)[None] / 127.5 - 1
    np.testing.assert_allclose(picture, expected, atol=1e-5)
    points = place(np.array([[0.5, 0.5, 0.0], [63.5, 63.5, 1.0]], np.float32), region, 64)
    np.testing.assert_allclose(points, [[40, 20, 0], [103, 83, 1]], atol=1e-4)


def test_look_averages_when_it_shrinks() -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255
    picture = look(image, Region(400, 300, 500, angle=0.3), 64)
    assert np.abs(picture).max() < 0.15, "a fine checkerboard seen small is gray"


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_look_and_place_agree_when_they_shrink(angle: float) -> None:
    truth = Painted(430, 310, 90)
    region = Region(420, 330, 610, angle)
    picture = look(paint([truth], 900, 700), region, SIZE)
    ((x, y, _),) = dots(picture, 0)
    found = place(np.array([[x, y, 0.0]], np.float32), region, SIZE)[0, :2]
    np.testing.assert_allclose(found, truth.landmarks()[33, :2], atol=0.3)


@pytest.mark.parametrize(
    ("region", "is_usable"),
    [
        (Region(50, 40, 12), True),
        (Region(50, 40, 11.9), False),  # too small for landmarks
        (Region(50, 40, 400), True),
        (Region(50, 40, 401), False),  # absurdly large
        (Region(0, 0, 20), True),
        (Region(-0.1, 40, 20), False),
        (Region(50, -0.1, 20), False),
        (Region(99.9, 79.9, 20), True),
        (Region(100, 40, 20), False),
        (Region(50, 80, 20), False),
    ],
)
def test_a_usable_region_has_a_size_and_its_middle_in_the_frame(region: Region, is_usable: bool) -> None:
    assert region.usable(np.zeros((80, 100, 3), np.uint8)) is is_usable


@pytest.mark.parametrize(
    ("other", "is_close"),
    [
        (Region(50, 40, 100, 0.1), True),
        (Region(51.9, 40, 100, 0.1), True),
        (Region(52.1, 40, 100, 0.1), False),
        (Region(50, 37.9, 100, 0.1), False),
        (Region(51.5, 41.5, 100, 0.1), False),  # 2.1 px along the diagonal
        (Region(50, 40, 100, 0.149), True),
        (Region(50, 40, 100, 0.151), False),
        (Region(50, 40, 100, 0.049), False),
        (Region(50, 40, 100, 0.1 + 2 * np.pi), True),  # a whole turn is none
        (Region(50, 40, 95.5, 0.1), True),
        (Region(50, 40, 95, 0.1), False),
        (Region(50, 40, 105, 0.1), True),
        (Region(50, 40, 105.5, 0.1), False),
    ],
)
def test_close_regions_show_the_same(other: Region, is_close: bool) -> None:
    assert Region(50, 40, 100, 0.1).close_to(other) is is_close


@pytest.mark.parametrize("angle", [0.0, 0.5, -2.5])
def test_the_region_around_a_face_is_half_as_large_again_and_turned_with_it(angle: float) -> None:
    truth = Painted(200, 150, 30, angle)
    points = truth.landmarks()
    region = Region.around(points)
    assert np.cos(region.angle - angle) > 0.999
    middle = points[:, :2] - (region.x, region.y)
    cos, sin = np.cos(region.angle), np.sin(region.angle)
    across, down = middle @ (cos, sin), middle @ (-sin, cos)
    np.testing.assert_allclose(across.max(), -across.min(), atol=1e-3)
    np.testing.assert_allclose(down.max(), -down.min(), atol=1e-3)
    np.testing.assert_allclose(region.side, 1.5 * max(np.ptp(across), np.ptp(down)), rtol=1e-5)


def test_depth_is_scaled_as_the_picture_is() -> None:
    placed = place(np.array([[32.0, 32.0, 4.0]], np.float32), Region(10, 20, 128, 0.3), 64)
    np.testing.assert_allclose(placed, [[10, 20, 8]], atol=1e-5)
    assert placed.dtype == np.float32


def test_what_lies_around_the_frame_is_repeated_or_black() -> None:
    image = np.full((20, 20, 3), 255, np.uint8)
    region = Region(0, 0, 20)  # its upper left quarter alone lies inside
    repeated, black = look(image, region, 16), look(image, region, 16, "black")
    assert repeated.min() > 0.99
    assert black[..., :6, :6].max() < -0.99
    assert black[..., 10:, 10:].min() > 0.99
