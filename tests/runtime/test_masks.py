"""The maps of the difference, by their definitions: light, agreement, strength, belonging, reach."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from doppelgan.runtime.composite.masks import (
    Agreement,
    Light,
    belonging,
    blurred,
    cells_of,
    follow,
    means,
    ramp,
    reachable,
    strength,
)

N = 32
FACE = np.zeros((N, N), np.float32)
FACE[8:24, 8:24] = 1


def flat(value: float | tuple[float, float, float]) -> np.ndarray:
    """[3,N,N] of one value per channel."""
    return np.ones((3, N, N), np.float32) * np.array(value, np.float32).reshape(-1, 1, 1)


@pytest.mark.parametrize(("size", "cells"), [(256, 64), (1024, 64), (64, 64), (48, 16), (96, 32), (7, 1)])
def test_cells_divide_the_picture(size: int, cells: int) -> None:
    assert cells_of(size) == cells


def test_means_are_those_of_blocks_or_single_pixels_where_cells_do_not_divide() -> None:
    planes = np.random.default_rng(0).random((2, 12, 12), np.float32)
    expected = planes.reshape(2, 4, 3, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(means(planes, 4), expected, rtol=1e-5)
    picked = means(planes, 5)
    index = [1, 3, 6, 8, 10]  # the middles, 1.2, 3.6 ..., rounded down
    np.testing.assert_array_equal(picked, planes[:, index][:, :, index])
    np.testing.assert_array_equal(means(planes, 12), planes)


@pytest.mark.parametrize("cells", [64, 32])
def test_a_blur_is_a_gaussian_in_cells_of_64(cells: int) -> None:
    impulse = np.zeros((cells, cells), np.float32)
    impulse[cells // 2, cells // 2] = 1
    out = blurred(impulse, 4.0)
    middle, apart = out[cells // 2, cells // 2], 64 / cells
    assert out[cells // 2, cells // 2 + 1] / middle == pytest.approx(
        math.exp(-0.5 * (apart / 4) ** 2), rel=1e-4
    )
    assert out[cells // 2 - 2, cells // 2] / middle == pytest.approx(
        math.exp(-0.5 * (2 * apart / 4) ** 2), rel=1e-4
    )
    np.testing.assert_allclose(blurred(np.full((3, cells, cells), 0.7, np.float32), 4.0), 0.7, rtol=1e-5)


def test_a_ramp_is_smooth_from_0_to_1() -> None:
    np.testing.assert_allclose(ramp([-1, 0, 0.25, 0.5, 0.75, 1, 2]), [0, 0, 0.15625, 0.5, 0.84375, 1, 1])


def test_following_covers_a_share_that_the_time_gives() -> None:
    old, new = np.zeros(2, np.float32), np.ones(2, np.float32)
    np.testing.assert_allclose(follow(old, new, 0.5, 0.5), 1 - math.exp(-1), rtol=1e-5)
    np.testing.assert_allclose(follow(old, new, 0.1, np.array([0.1, 0.2], np.float32)),
                               [1 - math.exp(-1), 1 - math.exp(-0.5)], rtol=1e-5)  # fmt: skip


# Light


def test_the_light_is_what_the_reconstruction_lacks_per_channel() -> None:
    drawn = flat(0.8)
    gain, steady = Light()(drawn * flat((0.5, 1.0, 1.5)), drawn, FACE, None)
    np.testing.assert_allclose(gain, flat((0.5, 1.0, 1.5)), atol=0.02)
    np.testing.assert_array_equal(gain, steady)
    assert gain.dtype == np.float32


def test_the_light_stays_within_its_range() -> None:
    gain, _ = Light()(flat((0.05, 0.5, 2.0)), flat((0.5, 0.5, 0.5)), FACE, None)
    assert gain.min() == pytest.approx(0.35)
    assert gain.max() == pytest.approx(1.8)


def test_the_light_may_change_across_the_face() -> None:
    drawn = flat(0.8)
    slope = np.linspace(0.7, 1.3, N, dtype=np.float32)
    gain, _ = Light()(drawn * slope, drawn, FACE, None)
    left, right = gain[0, N // 2, 8], gain[0, N // 2, 23]
    assert 0.7 < left < 0.95
    assert 1.05 < right < 1.3


def test_what_stands_before_the_face_says_nothing_of_its_light() -> None:
    drawn = flat(0.8)
    seen = drawn * 1.2
    seen[:, 12:16, 12:16] = 0.0  # something black
    gain, _ = Light()(seen, drawn, FACE, None)
    assert np.abs(gain - 1.2).max() < 0.06


def test_the_light_is_steadied_over_a_quarter_of_a_second() -> None:
    light, drawn = Light(), flat(0.8)
    light(drawn, drawn, FACE, None)
    now, steady = light(drawn * 1.4, drawn, FACE, 0.25)
    np.testing.assert_allclose(now, 1.4, atol=0.02)
    np.testing.assert_allclose(steady, 1 + (1 - math.exp(-1)) * (now - 1), atol=0.02)
    _, later = light(drawn * 1.4, drawn, FACE, 10.0)
    np.testing.assert_allclose(later, 1.4, atol=0.02)
    for step_s, size in ((None, N), (0.25, N // 2)):  # at a cut, and for pictures of another size
        light = Light()
        light(drawn, drawn, FACE, None)
        now, steady = light(drawn[:, :size, :size] * 1.4, drawn[:, :size, :size], FACE[:size, :size], step_s)
        np.testing.assert_array_equal(now, steady)


def test_without_a_face_the_light_is_as_drawn() -> None:
    gain, _ = Light()(flat(0.2), flat(1.0), np.zeros((N, N), np.float32), None)
    np.testing.assert_array_equal(gain, 1)


# Agreement


def agreement_at(error: float, agreement: Agreement, step_s: float | None) -> float:
    shown = agreement(flat(error), FACE, step_s)
    assert shown.shape == (N, N)
    return float(shown[N // 2, N // 2])


@pytest.mark.parametrize("channels", [(1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (1.0, 1.0, 1.0)])
def test_one_channel_s_error_is_enough(channels: tuple[float, float, float]) -> None:
    assert Agreement()(flat(channels), FACE, None).max() == 0
    assert Agreement()(flat(0.0), FACE, None).min() == 1


def test_the_smaller_of_two_errors_that_last_becomes_the_usual_one() -> None:
    small, large = Agreement(), Agreement()
    agreement_at(0.2, small, None)
    agreement_at(1.0, large, None)
    for _ in range(200):
        last = agreement_at(0.2, small, 0.1)
        assert agreement_at(1.0, large, 0.1) < 0.01
    assert last > 0.99
    assert agreement_at(0.3, small, 10.0) > 0.9  # of which 0.1 is new
    assert agreement_at(-0.2, small, 10.0) < 0.1  # of which 0.4 is


def test_after_a_cut_or_in_another_size_nothing_is_usual() -> None:
    fresh = agreement_at(0.35, Agreement(), None)
    agreement = Agreement()
    agreement_at(0.2, agreement, None)
    for _ in range(200):
        agreement_at(0.2, agreement, 0.1)
    half = agreement(np.full((3, N // 2, N // 2), 0.35, np.float32), FACE[::2, ::2], 0.1)
    assert half[N // 4, N // 4] == pytest.approx(fresh, abs=1e-3)
    assert agreement_at(0.35, agreement, None) == pytest.approx(fresh, abs=1e-3)


def test_what_is_known_of_a_face_says_nothing_of_what_lies_beside_it() -> None:
    agreement = Agreement()
    agreement(flat(0.0), FACE, None)
    for _ in range(100):
        agreement(flat(0.0), FACE, 0.1)
    shown = agreement(flat(0.3), FACE, 10.0)
    assert shown[N // 2, N // 2] < 0.1
    assert shown[2, 2] > 0.5


def test_an_edit_gives_way_at_once_and_returns_slowly() -> None:
    agreement = Agreement()
    agreement_at(0.0, agreement, None)
    assert agreement_at(2.0, agreement, 0.1) < 0.1
    assert agreement_at(0.0, agreement, 0.1) < 0.5
    assert agreement_at(0.0, agreement, 3.0) > 0.95


@pytest.mark.parametrize("seen_s", [0.25, 0.5, 2.0])
def test_the_longer_a_face_is_known_the_smaller_a_new_error_is_seen(seen_s: float) -> None:
    agreement = Agreement()
    agreement(flat(0.0), FACE, None)
    for _ in range(10):
        agreement(flat(0.0), FACE, seen_s / 10)
    foreign = 0.38 + (0.2 - 0.38) * (1 - math.exp(-seen_s / 0.5))
    for error in (0.9 * foreign, foreign, 1.1 * foreign):
        expected = 1 - ramp((error / foreign - 0.75) / 0.5)
        again = copy.deepcopy(agreement)
        assert agreement_at(error, again, 10.0) == pytest.approx(float(expected), abs=0.02)


def test_a_doubt_comes_slowly_and_something_in_front_at_once() -> None:
    """What is half in doubt at most follows over a third of a second: noise must not flicker."""
    doubtful, hidden = Agreement(), Agreement()
    for one in (doubtful, hidden):
        agreement_at(0.0, one, None)
    step_s, error = 0.03, 0.36
    settled = agreement_at(error, Agreement(), None)
    assert 0.5 < settled < 0.8
    share = 1 - math.exp(-step_s / 0.3)
    assert agreement_at(error, doubtful, step_s) == pytest.approx(1 + share * (settled - 1), abs=0.02)
    assert agreement_at(2.0, hidden, step_s) == pytest.approx(math.exp(-1), abs=0.02)


def test_a_finger_s_width_is_enough_and_hides_no_more_than_it_covers() -> None:
    error = np.zeros((3, 64, 64), np.float32)
    error[:, :, 30:34] = 1.0
    shown = Agreement()(error, np.ones((64, 64), np.float32), None)
    assert shown[32, 30:34].max() < 0.01
    assert shown[32, :27].min() > 0.99
    assert shown[32, 37:].min() > 0.99


# Strength, belonging, reach


def test_strength_counts_from_the_largest_changes() -> None:
    amplitude = np.zeros((N, N), np.float32)
    amplitude[:, :8] = 1.0
    amplitude[:, 16:20] = 0.15
    strong = strength(amplitude)
    assert strong[N // 2, 2] == 1
    assert strong[N // 2, 18] == 0  # a leak: less than a fifth of the largest
    amplitude[:, 16:20] = 0.3
    assert strength(amplitude)[N // 2, 18] == pytest.approx(0.5, abs=0.05)  # halfway to two fifths


def test_changes_below_0_03_are_leaks_whatever_the_largest_is() -> None:
    for value, expected in ((0.029, 0.0), (0.045, 0.5), (0.061, 1.0)):
        assert strength(np.full((N, N), value, np.float32))[5, 5] == pytest.approx(expected, abs=0.05)


def test_an_edit_of_something_on_the_face_stays_near_it() -> None:
    near = FACE
    strong = np.zeros((N, N), np.float32)
    strong[16:24, 8:24] = 1  # half of the face: a beard
    strong[0:2, 0:8] = 1  # and a little hair
    amplitude = np.ones((N, N), np.float32)
    map_ = belonging(strong, amplitude, FACE, near)
    np.testing.assert_allclose(map_, near)
    assert map_.dtype == np.float32


def test_an_edit_of_hair_or_of_the_whole_face_belongs_everywhere() -> None:
    amplitude = np.ones((N, N), np.float32)
    hair = np.zeros((N, N), np.float32)
    hair[0:8] = 1
    hair[8:10, 8:24] = 1  # the forehead: an eighth of it
    np.testing.assert_allclose(belonging(hair, amplitude, FACE, FACE), 1)
    np.testing.assert_allclose(belonging(np.maximum(FACE, hair), amplitude, FACE, FACE), 1)


@pytest.mark.parametrize(("share", "expected"), [(0.32, 1.0), (0.36, 0.5), (0.4, 0.0)])
def test_what_is_on_the_face_is_told_by_its_share_of_the_change(share: float, expected: float) -> None:
    strong = np.zeros((N, N), np.float32)
    strong[8:16, 8:16] = strong[0:8, 0:8] = 1  # a quarter of the face, as much beside it
    amplitude = np.zeros((N, N), np.float32)
    amplitude[8:16, 8:16], amplitude[0:8, 0:8] = share, 1 - share
    outside = belonging(strong, amplitude, FACE, FACE)[2, 2]
    assert outside == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("rows", "expected"), [(9, 0.0), (11.2, 0.5), (13, 1.0)])
def test_a_tone_of_skin_is_told_by_how_much_of_the_face_changes(rows: float, expected: float) -> None:
    strong = np.zeros((N, N), np.float32)
    strong[8 : 8 + int(rows), 8:24] = 1
    strong[8 + int(rows), 8:24] = rows % 1  # of 16: 0.56, 0.7, 0.81
    outside = belonging(strong, np.ones((N, N), np.float32), FACE, FACE)[2, 2]
    assert outside == pytest.approx(expected, abs=0.03)


def test_no_more_is_added_than_leads_to_the_edited_color() -> None:
    change, nothing_hidden = flat(-0.4), np.zeros((N, N), np.float32)
    for missing, share in ((-0.4, 1.0), (-0.2, 0.5), (0.1, 0.0), (-0.9, 1.0)):
        np.testing.assert_allclose(reachable(change, flat(missing), nothing_hidden, FACE), share, atol=0.01)
    np.testing.assert_allclose(
        reachable(flat(0.0), flat(0.3), nothing_hidden, FACE), 1
    )  # where nothing changes
