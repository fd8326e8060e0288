"""Resampling of floats against OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from doppelgan.runtime.pictures.resample import resample


@pytest.mark.parametrize("size", [(16, 16), (17, 5), (32, 40), (1, 1), (64, 80), (33, 41), (48, 63)])
def test_it_is_area_means_down_and_linear_up(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).normal(size=(3, 32, 40)).astype(np.float32)
    how = cv2.INTER_AREA if size[0] < 32 else cv2.INTER_LINEAR
    expected = cv2.resize(picture.transpose(1, 2, 0), size[::-1], interpolation=how)

    got = resample(picture, size)

    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.transpose(2, 0, 1), atol=2e-6)
