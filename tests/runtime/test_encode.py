"""Codes over time: smoothing, the identity lock, pooling for ReStyle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.encode import Encoder, IdentityLock, LatentSmoother, pool

from .. import tiny

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


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return open_bundle(tiny.write_bundle(tmp_path / "tiny", remembers=True)).encoder


def crop(red: float, green: float) -> np.ndarray:
    made = np.zeros((1, 3, tiny.SIZE, tiny.SIZE), np.float32)
    made[0, 0], made[0, 1] = red, green
    return made


def test_lock_passes_motion_at_once_and_steadies_appearance(encoder: Encoder) -> None:
    rng = np.random.default_rng(2)
    lock = IdentityLock(encoder.appearance_size)
    codes, seen = [], []
    for k in range(120):
        seen.append((float(rng.normal(0.5, 0.3)), float(np.sin(k / 5))))
        lock.advance(k * STEP_S)
        codes.append(encoder(crop(*seen[-1]), lock=lock)[0, 0])
    appearance, motion = np.array(codes)[:, 0], np.array(codes)[:, 1]
    np.testing.assert_allclose(motion, np.array(seen)[:, 1], atol=1e-5)
    # Less than the 20 seconds that are remembered: the mean of all so far.
    np.testing.assert_allclose(
        appearance[[0, 1, 119]], [np.mean(np.array(seen)[:n, 0]) for n in (1, 2, 120)], atol=1e-4
    )
    assert appearance[60:].std() < 0.03  # frame to frame it was 0.3


def test_lock_forgets_what_is_long_ago(encoder: Encoder) -> None:
    lock = IdentityLock(encoder.appearance_size, memory_s=1.0)
    for k in range(240):
        lock.advance(k * STEP_S)
        now = encoder(crop(0.0 if k < 120 else 1.0, 0.0), lock=lock)[0, 0, 0]
    assert now > 0.95


def test_without_a_lock_nothing_is_remembered(encoder: Encoder) -> None:
    encoder(crop(1.0, 0.0))
    assert encoder(crop(0.25, 0.0))[0, 0, 0] == pytest.approx(0.25, abs=1e-5)


def test_a_lock_needs_a_memory(tmp_path: Path) -> None:
    plain = open_bundle(tiny.write_bundle(tmp_path / "plain")).encoder
    assert plain.appearance_size == 0
    with pytest.raises(ValueError, match="no memory to lock"):
        IdentityLock(plain.appearance_size)
