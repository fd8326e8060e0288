"""Codes over time: smoothing, the identity lock, pooling for ReStyle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime import encode
from doppelgan.runtime.backends.base import TensorSpec
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.encode import Encoder, IdentityLock, LatentSmoother, RelativeMotion, pool
from doppelgan.runtime.errors import BackendError
from doppelgan.runtime.face_mesh import N_POINTS
from doppelgan.runtime.manifest import EncoderInfo
from doppelgan.runtime.track.one_euro import low_pass_gain

from .. import tiny
from ..fake_session import FakeSession

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


# What the session is given, and how often


def landmark_encoder(trackers: bool = True) -> Encoder:
    """Answers with the sums of the crop and of the landmarks."""
    size = tiny.SIZE
    inputs = [
        TensorSpec("crop", "float32", (1, 3, size, size)),
        TensorSpec("landmarks", "float32", (1, N_POINTS, 3)),
    ]

    def run(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        assert feeds["landmarks"].flags.c_contiguous
        sums = [feeds["crop"].sum(), feeds["landmarks"].sum()]
        return {"codes": np.array(sums, np.float32).reshape(1, 1, 2)}

    session = FakeSession(inputs, [TensorSpec("codes", "float32", (1, 1, 2))], run)
    found = FakeSession([], [], lambda feeds: {}) if trackers else None
    return Encoder(session, EncoderInfo("fake"), np.zeros((1, 2), np.float32), landmarks=found)


def crops_and_landmarks() -> tuple[np.ndarray, np.ndarray]:
    crops = np.zeros((3, 3, tiny.SIZE, tiny.SIZE), np.float32)
    crops[:, 0, 0, 0] = 1, 2, 3
    landmarks = np.zeros((3, 3, N_POINTS)).swapaxes(1, 2)  # float64, not contiguous
    landmarks[:, 0, 0] = 10, 20, 30
    return crops, landmarks


def test_each_crop_goes_with_its_own_landmarks() -> None:
    crops, landmarks = crops_and_landmarks()
    codes = landmark_encoder()(crops, landmarks=landmarks)
    np.testing.assert_allclose(codes[:, 0], [[1, 10], [2, 20], [3, 30]])
    assert codes.dtype == np.float32


def test_landmarks_that_are_not_given_are_found_in_the_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    crops, _ = crops_and_landmarks()

    def found(session: object, one: np.ndarray) -> np.ndarray:
        return np.full((N_POINTS, 3), one[0, 0, 0] / (3 * N_POINTS), np.float32)

    monkeypatch.setattr(encode, "landmarks_in_crop", found)
    np.testing.assert_allclose(landmark_encoder()(crops)[:, 0], [[1, 1], [2, 2], [3, 3]], rtol=1e-5)
    with pytest.raises(BackendError, match="takes landmarks; pass them or use a bundle with trackers"):
        landmark_encoder(trackers=False)(crops)


def test_an_encoder_without_landmarks_is_given_none(tmp_path: Path) -> None:
    plain = open_bundle(tiny.write_bundle(tmp_path / "plain")).encoder
    assert not plain.takes_landmarks
    one = crop(0.5, 0.25)
    np.testing.assert_array_equal(plain(one, landmarks=np.ones((1, N_POINTS, 3))), plain(one))


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 8, 16), (1, 3, 16, 8)])
def test_crops_of_another_shape_are_refused(encoder: Encoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"crops: expected RGB float32 \[N,3,16,16\]"):
        encoder(np.zeros(shape, np.float32))


def test_impossible_steps_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected no steps \(a one-pass encoder\), got steps=1"):
        encoder(crop(0, 0), steps=1)
    loop = open_bundle(tiny.write_bundle(tmp_path / "restyle", restyle=True)).encoder
    with pytest.raises(ValueError, match="expected steps >= 1, got steps=0"):
        loop(crop(0, 0), steps=0)
    assert len(loop.trajectory(crop(0, 0), steps=1)) == 1
    assert len(loop.trajectory(crop(0, 0))) == 5


def test_the_average_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = open_bundle(tiny.write_bundle(tmp_path / "restyle", restyle=True)).encoder
    drawn: list[float] = []
    real = loop._generator.run  # type: ignore[union-attr]

    def run(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        drawn.append(float(np.abs(feeds["codes"]).max()))
        return real(feeds)

    monkeypatch.setattr(loop._generator, "run", run)
    codes = [loop(crop(0.5, 0.5), steps=2) for _ in range(2)]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert [value > 0 for value in drawn] == [False, True, True]  # the average, then a step of each


def test_pool_stays_float32() -> None:
    assert pool(np.ones((1, 1, 4, 4)), 2).dtype == np.float32
    np.testing.assert_array_equal(pool(np.ones((2, 3, 4, 4), np.float32), 2), np.ones((2, 3, 2, 2)))


# Formulas


def test_three_codes_by_the_formula_of_the_filter() -> None:
    """Speed in spreads of W per second, of all numbers together."""
    scale = np.array([0.5, 0.25, 4.0], np.float32)
    smooth, step_s = LatentSmoother(scale, min_cutoff_hz=1.5, beta=1.0), 0.04
    codes = [np.array(one, np.float32).reshape(1, 1, 3) for one in ((0, 0, 0), (0.2, 0.1, 1), (0.3, 0.3, 1))]
    expected, speed = codes[0], 0.0
    for k, code in enumerate(codes):
        smoothed = smooth(code, 5 + k * step_s)
        if k:
            change = (code - expected) / scale
            speed += low_pass_gain(1.0, step_s) * (np.sqrt((change**2).mean()) / step_s - speed)
            expected = expected + low_pass_gain(1.5 + 1.0 * speed, step_s) * (code - expected)
        np.testing.assert_allclose(smoothed, expected, rtol=1e-5, atol=1e-7)


def test_the_filter_s_own_settings() -> None:
    codes = [np.full((1, 2, 3), value, np.float32) for value in (0, 0.3, 0.1)]
    own, stated = LatentSmoother(1.0), LatentSmoother(1.0, min_cutoff_hz=1.5, beta=1.0)
    for k, code in enumerate(codes):
        np.testing.assert_array_equal(own(code, k * STEP_S), stated(code, k * STEP_S))


def test_time_that_stands_still_is_a_millisecond() -> None:
    first, second = np.zeros((1, 2, 3), np.float32), np.ones((1, 2, 3), np.float32)
    still, moved = LatentSmoother(1.0), LatentSmoother(1.0)
    for smooth, time_s in ((still, 1.0), (moved, 1.001)):
        smooth(first, 1.0)
        last = smooth(second, time_s)
        assert 0 < last.min() == last.max() < 0.95
    np.testing.assert_allclose(still(second, 2.0), moved(second, 2.001), atol=0.02)


def test_a_lock_trusts_what_it_has_seen_longer_more() -> None:
    lock = IdentityLock(2, memory_s=1.0)
    trusts = []
    for k in range(30):
        lock.advance(3 + 0.1 * k)
        trusts.append(lock.trust)
    # A mean of all so far: the n-th of equals weighs 1 / n; after a second as in an exponential one.
    np.testing.assert_allclose(trusts[:4], [0, 1 / 2, 2 / 3, 3 / 4], atol=1e-6)
    np.testing.assert_allclose(trusts[12:], 1 - 0.1 / 1.1, atol=1e-6)
    lock.keep(np.array([[3.0, 4.0]]))
    feeds = lock.feeds()
    np.testing.assert_array_equal(feeds["memory"], [[3, 4]])
    np.testing.assert_allclose(feeds["trust"], [[1 - 0.1 / 1.1]], atol=1e-6)
    assert {array.dtype.name for array in feeds.values()} == {"float32"}


def test_a_lock_remembers_twenty_seconds() -> None:
    own, stated = IdentityLock(1), IdentityLock(1, memory_s=20.0)
    for lock in (own, stated):
        for k in range(50):
            lock.advance(float(k))
    assert own.trust == stated.trust == pytest.approx(1 - 1 / 21)


def test_time_that_goes_back_takes_no_trust() -> None:
    lock = IdentityLock(1)
    for time_s in (1.0, 2.0, 1.5):
        lock.advance(time_s)
    assert 0.99 < lock.trust < 1


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_the_lock_of_an_enrolled_person_reads_nothing(shape: tuple[int, ...]) -> None:
    start = np.array([3.0, 4.0], np.float32).reshape(shape)
    lock = IdentityLock(2, start=start)
    for _ in range(2):
        np.testing.assert_array_equal(lock.feeds()["memory"], [[3, 4]])
        assert lock.feeds()["trust"] == 1
        lock.advance(5.0)
        lock.keep(np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match=r"expected an appearance of 2 numbers, got \[3\]"):
        IdentityLock(2, start=np.zeros(3, np.float32))


def test_an_encoder_s_own_lock_is_that_of_its_person(encoder: Encoder) -> None:
    assert encoder.new_lock().trust == 0
    encoder._appearance = np.array([0.75], np.float32)
    assert encoder(crop(0.1, 0.5))[0, 0, 0] == pytest.approx(0.75)  # its looks; the crop's movement
    assert encoder(crop(0.1, 0.5))[0, 0, 1] == pytest.approx(0.5)


def test_motion_is_relative_to_the_driver_s_first_second() -> None:
    pivot = np.full((2, 3), 10, np.float32)
    motion = RelativeMotion(pivot)
    driver = [(0.0, 1.0), (0.5, 3.0), (1.0, 5.0), (1.01, 7.0), (2.0, 9.0)]
    moved = [motion(np.full((1, 2, 3), value, np.float32), 7 + time_s) for time_s, value in driver]
    # Neutral: 1, the mean of 1 and 3, that of 1, 3 and 5, and this from then on.
    assert [one[0, 0, 0] for one in moved] == pytest.approx([10, 11, 12, 14, 16])
    assert {one.dtype.name for one in moved} == {"float32"}
    assert moved[0].shape == (1, 2, 3)


def test_how_long_neutral_is_looked_for_can_be_said() -> None:
    motion = RelativeMotion(np.zeros((1, 1), np.float32), settle_s=0.1)
    values = [motion(np.full((1, 1, 1), value, np.float32), k * 0.1) for k, value in enumerate((1, 3, 5))]
    assert [float(one[0, 0, 0]) for one in values] == pytest.approx([0, 1, 3])
