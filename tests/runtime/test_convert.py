"""Pictures to planes and back."""

from __future__ import annotations

import numpy as np
from doppelgan.runtime.pictures.convert import to_image, to_planes


def test_every_level_comes_back() -> None:
    picture = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3).copy()
    picture[..., 1] = picture[..., 0][::-1]
    planes = to_planes(picture)
    assert (planes.shape, planes.dtype) == ((3, 16, 16), np.float32)
    assert (planes.min(), planes.max()) == (-1, 1)
    np.testing.assert_array_equal(to_image(planes), picture)


def test_red_is_the_first_plane() -> None:
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[..., 2] = 255
    assert to_planes(picture)[:, 0, 0].tolist() == [1, -1, -1]


def test_what_is_beyond_the_range_is_clipped_and_the_rest_rounded() -> None:
    planes = np.zeros((3, 1, 2), np.float32)
    planes[0] = [[-3.0, 0.6 / 127.5]]
    planes[2] = [[2.0, 0.4 / 127.5]]
    image = to_image(planes)
    assert image[0, 0].tolist() == [255, 128, 0]
    assert image[0, 1].tolist() == [128, 128, 128]
    assert image.flags.c_contiguous
