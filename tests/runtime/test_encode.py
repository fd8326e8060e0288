"""Codes over time: smoothing, the identity lock, pooling for ReStyle."""

from __future__ import annotations

import numpy as np
import pytest
from doppelgan.runtime.encode import IdentityLock, LatentSmoother, pool

STEP_S = 1 / 30


def test_pool_averages_blocks_and_repeats_when_growing() -> None:
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_allclose(pool(image, 2)[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(pool(image, 8)[0, 0, ::2, 1::2], image[0, 0])
    assert pool(image, 4) is image


def test_smoother_calms_noise_and_follows_a_jump() -> None:
    rng = np.random.default_rng(1)
    smooth = LatentSmoother(scale=1.0)
    noisy = [rng.normal(0, 0.05, (1, 2, 3)).astype(np.float32) for _ in range(90)]
    still = np.array([smooth(code, k * STEP_S) for k, code in enumerate(noisy)])
    assert still[30:].std() < 0.5 * np.array(noisy)[30:].std()

    target = np.ones((1, 2, 3), np.float32)
    for k in range(90, 105):  # half a second later it has arrived
        moved = smooth(target, k * STEP_S)
    np.testing.assert_allclose(moved, 1, atol=0.05)


def test_smoother_starts_at_the_first_code() -> None:
    code = np.full((1, 2, 3), 7, np.float32)
    np.testing.assert_array_equal(LatentSmoother(1.0)(code, 0.0), code)


def test_lock_passes_motion_at_once_and_steadies_appearance() -> None:
    average = np.full((2, 3), 0.5, np.float32)
    basis = np.array([[1, 0, 0]], np.float32)
    lock = IdentityLock(basis, average)
    rng = np.random.default_rng(2)
    outputs, motions = [], []
    for k in range(120):
        motion = np.sin(k / 5)
        code = average[None] + rng.normal(0, 0.3, (1, 2, 3)).astype(np.float32)
        code[..., 0] = motion
        outputs.append(lock(code, k * STEP_S))
        motions.append(motion)
    locked = np.array(outputs)[:, 0]
    np.testing.assert_allclose(locked[:, 0, 0], motions, atol=1e-6)
    late = locked[60:, :, 1:]
    assert late.std(axis=0).max() < 0.03  # frame-to-frame spread was 0.3
    np.testing.assert_allclose(late.mean(axis=0), 0.5, atol=0.15)


def test_lock_refuses_a_basis_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"expected float32 \[k,3\], got \[1, 4\]"):
        IdentityLock(np.zeros((1, 4), np.float32), np.zeros((2, 3), np.float32))
