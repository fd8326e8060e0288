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
