"""Drift: how far two results are apart, and what is too far."""

from __future__ import annotations

import numpy as np
import pytest
from doppelgan.runtime.drift import BOUNDS, Bound, Drift, measure, ms_ssim, require
from doppelgan.runtime.errors import ParityError


def pictures(count: int = 2, side: int = 64) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    coarse = random.uniform(-0.8, 0.8, (count, 1, 3, side // 8, side // 8))
    return [p.repeat(8, axis=2).repeat(8, axis=3).astype(np.float32) for p in coarse]


def test_equal_results_have_no_drift() -> None:
    drift = measure(pictures(), pictures(), image=True)
    assert drift == Drift(2, 0.0, 0.0, 200.0, 200.0, pytest.approx(1.0))


def test_figures_are_those_of_the_formulas() -> None:
    a = [np.full((1, 3, 16, 16), 0.5, np.float32), np.full((1, 3, 16, 16), -0.5, np.float32)]
    b = [a[0] + np.float32(0.02), a[1]]
    drift = measure(a, b, image=True)
    assert drift.max_abs == pytest.approx(0.02, rel=1e-5)
    assert drift.relative_l2 == pytest.approx(0.02 / 0.5 / np.sqrt(2), rel=1e-5)
    assert drift.psnr_db == pytest.approx(10 * np.log10(4 / (0.02**2 / 2)), rel=1e-5)
    assert drift.worst_psnr_db == pytest.approx(10 * np.log10(4 / 0.02**2), rel=1e-5)


def test_codes_are_judged_by_relative_distance_alone() -> None:
    drift = measure([np.ones((1, 4, 6))], [np.full((1, 4, 6), 1.02)], image=False)
    assert (drift.psnr_db, drift.ms_ssim) == (None, None)
    assert not drift.within(BOUNDS["int8"])
    assert drift.within(Bound(psnr_db=0, relative_l2=0.03))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("image", [True, False])
def test_results_that_are_no_numbers_are_past_every_bound(bad: float, image: bool) -> None:
    got = pictures(1)
    got[0][0, 0, 0, 0] = bad
    drift = measure(pictures(1), got, image=image)
    assert not drift.within(Bound(psnr_db=0.0, relative_l2=1e6))


def test_structural_similarity_sees_structure_and_not_a_little_brightness() -> None:
    a = pictures(1, 256)[0][0]
    noisy = a + np.random.default_rng(1).normal(size=a.shape).astype(np.float32) * 0.3
    brighter = a + np.float32(0.05)
    assert ms_ssim(a, a) == pytest.approx(1.0, abs=1e-6)
    assert ms_ssim(a, noisy) < 0.97 < 0.99 < ms_ssim(a, brighter)


@pytest.mark.parametrize("side", [8, 40, 90, 181, 256])
def test_structural_similarity_is_that_of_the_formulas_in_float64(side: int) -> None:
    random = np.random.default_rng(side)
    a = np.cumsum(random.normal(size=(3, side, side)), axis=-1) / side  # streaks, so that each scale counts
    b = a + random.normal(size=a.shape) * 0.1 + 0.05

    def blurred(v: np.ndarray) -> np.ndarray:
        taps = np.exp(-(np.arange(-5.0, 6) ** 2) / (2 * 1.5**2))
        for axis in (1, 2):
            wide = np.pad(v, [(0, 0)] + [(5, 5) if axis == one else (0, 0) for one in (1, 2)], mode="reflect")
            v = sum(
                tap * wide.take(range(i, i + v.shape[axis]), axis) for i, tap in enumerate(taps / taps.sum())
            )
        return v

    def smaller(v: np.ndarray) -> np.ndarray:
        for _ in range(2):
            lines, old = v.shape[1:]
            fine = v.repeat(old // 2, axis=2)  # every new pixel covers whole fine ones
            v = fine.reshape(3, lines, old // 2, old).mean(3).swapaxes(1, 2)
        return v

    value, scales = 1.0, {8: 1, 40: 2, 90: 4, 181: 5, 256: 5}[side]
    x, y = (np.clip(v, -1, 1) * 127.5 + 127.5 for v in (a, b))
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    for scale, weight in enumerate(weights / weights.sum()):
        u, v = blurred(x), blurred(y)
        spread = blurred(x * x) - u * u + blurred(y * y) - v * v
        term = ((2 * (blurred(x * y) - u * v) + 58.5225) / (spread + 58.5225)).mean()
        if scale == scales - 1:
            term *= ((2 * u * v + 6.5025) / (u * u + v * v + 6.5025)).mean()
        value *= max(term, 0) ** weight
        x, y = smaller(x), smaller(y)

    assert 0.2 < value < 0.999
    assert ms_ssim(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(value, abs=1e-5)


def test_past_the_bound_the_error_names_network_precision_bound_and_figure() -> None:
    a = pictures()
    drift = measure(a, [p + np.float32(0.2) for p in a], image=True)
    with pytest.raises(ParityError, match=r"'synthesis' in int8: expected at least 30 dB .* got 20\.0 dB"):
        require("synthesis", "int8", drift)
    assert require("synthesis", "int8", drift, Bound(19.0, 1.0)) is drift


def test_shapes_and_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        measure([np.zeros((1, 2))], [np.zeros((1, 3))], image=False)
    with pytest.raises(ValueError, match="as many"):
        measure([], [], image=False)
