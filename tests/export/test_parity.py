"""Parity is measured and refuses what is past its tolerance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from doppelgan.export.onnx_files.parity import compare, compare_all, require
from doppelgan.runtime.errors import ParityError


def test_measures_largest_difference_relative_distance_and_psnr() -> None:
    reference = np.full((1, 3, 2, 2), 2.0, np.float32)
    got = reference.copy()
    got[0, 0, 0, 0] += 0.5
    parity = compare("step", reference, got, image=True)
    assert parity.max_abs == pytest.approx(0.5)
    assert parity.relative_l2 == pytest.approx(0.5 / math.sqrt(12 * 4))
    assert parity.psnr_db == pytest.approx(10 * math.log10(4 / (0.25 / 12)))


def test_equal_arrays_are_at_distance_zero() -> None:
    zeros = np.zeros((2, 2), np.float32)
    parity = compare("step", zeros, zeros, image=True)
    assert (parity.max_abs, parity.relative_l2, parity.psnr_db) == (0, 0, 200)


@pytest.mark.parametrize("error", [1e-3, math.nan, math.inf])
def test_error_past_the_tolerance_names_network_step_and_numbers(error: float) -> None:
    reference = np.ones((4, 4), np.float32)
    parity = compare("torch -> onnx", reference, reference + np.float32(error), tolerance=1e-4)
    with pytest.raises(
        ParityError, match=r"network 'synthesis', torch -> onnx: expected .* at most 1e-04, got"
    ):
        require("synthesis", parity)


def test_within_the_tolerance_passes_through() -> None:
    parity = compare("step", np.ones(4), np.ones(4) * (1 + 1e-6))
    assert require("any", parity) is parity


def test_every_output_is_judged() -> None:
    good, bad = np.ones(3), np.zeros(3)
    with pytest.raises(ParityError, match="step, second"):
        compare_all("net", "step", {"first": good, "second": good}, {"first": good, "second": bad})


def test_error_on_different_shapes() -> None:
    with pytest.raises(ValueError, match=r"expected shape \[3\], got \[4\]"):
        compare("step", np.ones(3), np.ones(4))
