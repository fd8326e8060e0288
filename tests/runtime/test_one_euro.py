"""The one-euro filter on landmarks, against its formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from doppelgan.runtime.track.one_euro import OneEuro, Smoother, low_pass_gain

SIZE_PX = 80.0


def points(*xs: float) -> np.ndarray:
    return np.array([[x, 10.0, 0.0] for x in xs], np.float32)


def gain(cutoff_hz: float, step_s: float) -> float:
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * step_s))


def test_the_gain_of_a_low_pass_is_a_half_where_a_step_is_a_radian() -> None:
    assert low_pass_gain(1 / (2 * math.pi), 1.0) == pytest.approx(0.5)
    assert low_pass_gain(3 / (2 * math.pi), 1.0) == pytest.approx(0.75)
    assert low_pass_gain(1.5, 1 / 30) == pytest.approx(gain(1.5, 1 / 30))


def test_three_frames_by_the_formula() -> None:
    """Two points, one quick and one slow, each with a cut-off of its own."""
    smoother, step_s = Smoother(OneEuro()), 1 / 30
    frames = points(0, 0), points(8, 0.4), points(20, 0.4)
    smoothed = [smoother(frame, SIZE_PX, k * step_s) for k, frame in enumerate(frames)]
    for which in (0, 1):
        at, speed = float(frames[0][which, 0]), 0.0
        for number in (1, 2):
            velocity = (frames[number][which, 0] - at) / (step_s * SIZE_PX)
            speed += gain(1.5, step_s) * (velocity - speed)
            at += gain(1.2 + 30 * abs(speed), step_s) * (frames[number][which, 0] - at)
            assert smoothed[number][which, 0] == pytest.approx(at, rel=1e-4)
    np.testing.assert_allclose(smoothed[2][:, 1:], frames[2][:, 1:])


def test_speed_is_that_of_a_point_in_all_its_directions() -> None:
    step_s = 1 / 30
    results = []
    for direction in ((1.0, 0.0, 0.0), (0.6, 0.8, 0.0), (0.0, 0.6, 0.8)):
        smoother = Smoother(OneEuro())
        smoother(np.zeros((1, 3), np.float32), SIZE_PX, 0.0)
        moved = smoother(np.array([direction], np.float32) * 5, SIZE_PX, step_s)
        results.append(float(np.linalg.norm(moved)))
    np.testing.assert_allclose(results, results[0], rtol=1e-5)


@pytest.mark.parametrize(("step_s", "is_smoothed"), [(0.49, True), (0.5, False), (0.0, False), (-1.0, False)])
def test_after_a_pause_nothing_is_smoothed(step_s: float, is_smoothed: bool) -> None:
    smoother = Smoother(OneEuro(min_cutoff_hz=0.01, beta=0))
    smoother(points(0), SIZE_PX, 5.0)
    moved = smoother(points(10), SIZE_PX, 5.0 + step_s)
    assert bool(moved[0, 0] != 10) is is_smoothed
    again = smoother(points(0), SIZE_PX, 5.0 + step_s + 0.1)  # from there on it is again
    assert 0 < again[0, 0] < 10


def test_what_is_smoothed_stays_float32() -> None:
    smoother = Smoother(OneEuro())
    for k in range(3):
        assert smoother(points(k), SIZE_PX, k / 30).dtype == np.float32


@pytest.mark.parametrize(
    "wrong", [{"min_cutoff_hz": 0.0}, {"min_cutoff_hz": -1.0}, {"d_cutoff_hz": 0.0}, {"beta": -0.1}]
)
def test_settings_have_a_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected cut-offs > 0 and beta >= 0"):
        OneEuro(**wrong)
    OneEuro(beta=0.0)
