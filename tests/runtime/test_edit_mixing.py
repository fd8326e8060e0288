"""What turns codes and directions into others: rows, truncation, toward W, mixing, orthogonal directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.edit import Direction, mix, orthogonalize, select_rows, toward_w, truncate
from doppelgan.runtime.edit.editor import row_groups
from doppelgan.runtime.errors import EditError

from .made_directions import N, W, offset


@pytest.mark.parametrize(
    ("n_styles", "groups"),
    [(18, [4, 4, 10]), (14, [4, 4, 6]), (10, [4, 4, 2]), (8, [2, 2, 4]), (4, [1, 1, 2]), (2, [1, 1, 0])],
)
def test_row_groups(n_styles: int, groups: list[int]) -> None:
    assert [last - first for first, last in row_groups(n_styles).values()] == groups
    assert sum(groups) == n_styles


def test_select_rows() -> None:
    assert select_rows("coarse + fine", 18).nonzero()[0].tolist() == [0, 1, 2, 3, *range(8, 18)]
    assert select_rows(None, 4).tolist() == select_rows((0, 4), 4).tolist() == [True] * 4
    assert select_rows((3, 4), 4).tolist() == [False, False, False, True]
    for bad in ("hair", "coarse+hair", (3, 3), (4, 3), (0, 19), (-1, 3)):
        with pytest.raises(EditError, match=r"^rows .*: expected"):
            select_rows(bad, 18)
    with pytest.raises(EditError, match="none of them"):
        select_rows("fine", 2)


def test_truncation_moves_toward_the_average() -> None:
    average, codes = np.full((N, W), 1, np.float32), np.full((2, N, W), 3, np.float32)
    assert (truncate(codes, average, 0.5) == 2).all()
    assert (truncate(codes, average, 0) == 1).all()
    assert (truncate(codes, average, 1) == codes).all()
    assert not np.shares_memory(truncate(codes, average, 1), codes)
    assert truncate(codes, average, 0.5, (1, 2))[0, :, 0].tolist() == [3, 2, 3, 3]
    assert (truncate(codes, average, 3) == 7).all()  # exaggerated
    assert truncate(codes, np.full(W, 1, np.float32), 0.5).tolist() == truncate(codes, average, 0.5).tolist()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(EditError, match=r"truncation: expected a number, usually 0\.\.1, got"):
            truncate(codes, average, bad)


def test_without_truncation_a_code_stays_to_the_last_bit(rng: np.random.Generator) -> None:
    codes = rng.standard_normal((2, N, W)).astype(np.float32)
    average = 100 * rng.standard_normal((N, W)).astype(np.float32)  # to and fro would round
    assert (truncate(codes, average, 1) == codes).all()
    assert (toward_w(codes, 0, average) == codes).all()
    assert not np.shares_memory(toward_w(codes, 0), codes)


def test_toward_w_shrinks_the_spread_and_keeps_the_mean(rng: np.random.Generator) -> None:
    codes = rng.standard_normal((3, N, W)).astype(np.float32)
    for amount in (0, 0.25, 1):
        moved = toward_w(codes, amount)
        np.testing.assert_allclose(moved.mean(1), codes.mean(1), atol=1e-6)
        np.testing.assert_allclose(np.ptp(moved, axis=1), (1 - amount) * np.ptp(codes, axis=1), atol=1e-6)
    average = rng.standard_normal((N, W)).astype(np.float32)
    middle = (codes - average).mean(1, keepdims=True) + np.zeros_like(codes)
    np.testing.assert_allclose(toward_w(codes, 1, average) - average, middle, atol=1e-6)
    for bad in (1.01, -0.01):
        with pytest.raises(EditError, match=f"toward W: expected an amount 0..1, got {bad}"):
            toward_w(codes, bad)


def test_mix_takes_the_rows_of_the_second() -> None:
    a, b = np.zeros((2, N, W), np.float32), np.ones((1, N, W), np.float32)
    assert mix(a, b, "middle+fine")[1, :, 0].tolist() == [0, 1, 1, 1]
    assert mix(a, b, (1, 2), weight=0.25)[0, :, 0].tolist() == [0, 0.25, 0, 0]
    assert not a.any()
    assert (mix(a, b, weight=0) == a).all()
    assert (mix(a + 1, b + 2, weight=0.25) == 1.5).all()
    assert mix(a, np.stack([a[0] + 2, a[0] + 3]))[:, 0, 0].tolist() == [2, 3]  # each with its own


@pytest.mark.parametrize(
    ("shapes", "weight", "says"),
    [
        (((2, N, W), (3, N, W)), 1, "expected 1 or 2 second codes, got 3"),
        (((3, N, W), (2, N, W)), 1, "expected 1 or 3 second codes, got 2"),
        (((2, N, W), (1, N + 1, W)), 1, r"got \[2, 4, 6\] and \[1, 5, 6\]; encode both with the same bundle"),
        (((2, N, W), (N, W)), 1, "expected two codes of one shape"),
        (((N, W), (N, W)), 1, "expected two codes of one shape"),
        (((1, N, W), (1, N, W)), 1.01, "expected a weight 0..1, got 1.01"),
        (((1, N, W), (1, N, W)), -0.01, "expected a weight 0..1, got -0.01"),
    ],
)
def test_people_that_do_not_fit_are_not_mixed(shapes: Any, weight: float, says: str) -> None:
    with pytest.raises(EditError, match=says):
        mix(*(np.ones(shape, np.float32) for shape in shapes), weight=weight)


@pytest.mark.parametrize("mode", ["order", "others"])
def test_orthogonalized_directions_do_not_share(rng: np.random.Generator, mode: Any) -> None:
    originals = [offset(name, rng) for name in "abc"]
    made = orthogonalize(originals, mode)
    for i, direction in enumerate(made):
        assert np.linalg.norm(direction.offset) == pytest.approx(
            np.linalg.norm(originals[i].offset), rel=1e-5
        )
        for j, other in enumerate(made if mode == "order" else originals):
            if i != j:
                assert np.vdot(direction.offset, other.offset) == pytest.approx(0, abs=1e-4)
    if mode == "order":
        np.testing.assert_allclose(made[0].offset, originals[0].offset, rtol=1e-6)


def test_orthogonalizing_keeps_rows_and_refuses_blends(rng: np.random.Generator) -> None:
    a, b = offset("a", rng), offset("b", rng, rows=(1, 3))
    made = orthogonalize([a, b])[1]
    assert not made.offset[[0, 3]].any()
    assert np.vdot(made.offset, a.offset) == pytest.approx(0, abs=1e-4)
    with pytest.raises(EditError, match="'twice': nothing is left beside a, b; leave it out"):
        orthogonalize([a, b, Direction("twice", 2 * a.offset)])
    for size in (1e-4, 1e4):  # what counts as nothing is a share of the length
        small = orthogonalize([Direction(one.name, size * one.offset) for one in (a, offset("c", rng))])
        assert np.vdot(small[0].offset, small[1].offset) == pytest.approx(0, abs=1e-4 * size**2)
    with pytest.raises(EditError, match="component"):
        orthogonalize([Direction.component("c", np.eye(W)[0], np.zeros(W), 1.0, N)])
