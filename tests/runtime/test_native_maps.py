"""Cells, and faces found again: the C++ against its NumPy twin, both against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import native
from doppelgan.runtime.native import FaceSearch, reference
from numpy.typing import NDArray

from .kernels import IMPLEMENTATIONS, kernel, needs_native

SIZE = 64


def hills(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """A smooth picture of places in shares of the side."""
    return np.asarray(0.9 + 0.4 * np.sin(9 * x + 2 * y) + 0.3 * np.cos(7 * y - 3 * x), np.float32)


def face(turn: complex = 1, shift: complex = 0, gain: float = 1, haze: float = 0) -> tuple[Any, ...]:
    """A picture in which the hills have moved, got brighter and hazy; then what was known of them before."""
    along = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    x, y = (np.ascontiguousarray(axis) for axis in np.broadcast_arrays(along, along[:, None]))
    came_from = (x + 1j * y - shift) / turn
    picture = gain * hills(came_from.real, came_from.imag) + np.float32(haze)
    inside = np.hypot(x, y) < 0.33
    px, py = x[inside], y[inside]
    known, step = hills(px, py), 0.5 / SIZE
    across = (hills(px + step, py) - hills(px - step, py)) / (2 * step)
    down = (hills(px, py + step) - hills(px, py - step)) / (2 * step)
    slopes = np.stack(
        [across * px + down * py, down * px - across * py, across, down, known, np.ones_like(px)]
    )
    places, weight = np.stack([px, py]).astype(np.float32), np.ones(len(px), np.float32)
    return picture.astype(np.float32), places, known, slopes.astype(np.float32), weight


def blurs(cells: int, *spreads: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sums of Gaussians, the narrowest the strongest."""
    apart = np.arange(cells) - np.arange(cells)[:, None]
    across = np.stack([np.exp(-0.5 * (apart / spread) ** 2) for spread in spreads])
    across[:, np.abs(apart) > 20] = 0
    return (across / np.square(spreads)[:, None, None]).astype(np.float32), across.astype(np.float32)


@needs_native
@pytest.mark.usefixtures("instructions")
class TestAgainstTheTwin:
    @pytest.mark.parametrize("points", [1, 5, 468])
    @pytest.mark.parametrize("cells", [1, 3, 16, 23, 64])
    def test_shifts_are_spread_alike_by_any_number_of_threads(self, cells: int, points: int) -> None:
        rng = np.random.default_rng(7)
        place = rng.uniform(-0.3 * cells - 1, 1.3 * cells, (points, 2))  # also around the square
        shift = rng.normal(0, 3, (points, 2))
        down, across = blurs(cells, 1.5, 4, 9)
        wanted = np.empty((2, cells, cells), np.float32)
        reference.spread(wanted, place, shift, down, across)
        got = [native.spread(place, shift, down, across, threads) for threads in (1, 2, 5)]
        np.testing.assert_allclose(got[0], wanted, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(got[1], got[0])
        np.testing.assert_array_equal(got[2], got[0])

    def test_places_that_are_no_numbers_do_no_harm(self) -> None:
        place = np.array([[np.nan, 3], [np.inf, -np.inf], [1e300, -1e300], [4, 4]])
        assert native.spread(place, np.ones((4, 2)), *blurs(16, 2)).shape == (2, 16, 16)

    @pytest.mark.parametrize("cells", [1, 7, 8, 700, 1301])
    def test_faces_are_found_in_the_same_place(self, cells: int) -> None:
        rng = np.random.default_rng(2)
        for seed in range(4):
            picture, *known = face(1 + 0.01 * seed * 1j, 0.004 - 0.003j * seed, 1.05, 0.02)
            picture += rng.normal(0, 0.02, picture.shape).astype(np.float32)
            known = [np.ascontiguousarray(array[..., :cells]) for array in known]
            known[3] = rng.random(len(known[1]), np.float32)
            wanted = reference.find_face(picture, *known, FaceSearch())
            got = native.find_face(picture, *known)
            assert wanted is not None
            assert got is not None
            np.testing.assert_allclose(got, wanted, atol=1e-5)

    def test_cells_that_come_to_nowhere_are_read_inside(self) -> None:
        maps = np.random.default_rng(6).random((2, 9, 9), np.float32)
        for broken in (complex(np.nan, 0), complex(np.inf, -np.inf)):
            for place in ((broken, 0), (1, broken), (broken, broken)):
                assert np.isfinite(native.read_cells(maps, *place)).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestCells:
    @pytest.fixture(autouse=True)
    def _only(self, implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if implementation == "numpy":
            monkeypatch.setattr(native.loading, "kernels", None)

    @pytest.mark.parametrize(("size", "cells"), [(1, 1), (8, 8), (12, 4), (128, 64), (192, 64), (256, 64)])
    def test_means_are_those_of_blocks(self, size: int, cells: int) -> None:
        planes = np.random.default_rng(5).standard_normal((3, size, size), np.float32)
        means = native.cell_means(planes, cells)
        assert means.shape == (3, cells, cells)
        block = size // cells
        np.testing.assert_allclose(means[1, -1, 0], planes[1, -block:, :block].mean(), atol=1e-6)
        expected = planes.reshape(3, cells, block, cells, block).mean(axis=(2, 4))
        np.testing.assert_allclose(means, expected, atol=1e-6)

    def test_a_map_is_read_where_its_cells_come_to(self) -> None:
        rows, columns = np.mgrid[:9, :9].astype(np.float32)
        read = native.read_cells(np.stack([columns, rows]), 1, (1.5 - 2j) / 9)
        np.testing.assert_allclose(read[0, :, :6], columns[:, :6] + 1.5, atol=1e-5)
        np.testing.assert_allclose(read[0, :, 7:], 8, atol=2e-3)  # edges go on
        np.testing.assert_allclose(read[1, 2:], rows[2:] - 2, atol=1e-5)
        np.testing.assert_allclose(read[1, :2], 0, atol=1e-5)
        turned = native.read_cells(np.stack([columns, rows]), 1j, 0)  # x, y -> -y, x around the middle
        np.testing.assert_allclose(turned[0], 8 - rows, atol=2e-3)
        np.testing.assert_allclose(turned[1], columns, atol=2e-3)

    def test_both_ways_agree(self) -> None:
        maps = np.random.default_rng(6).standard_normal((4, 64, 64), np.float32)
        expected = np.empty_like(maps)
        reference.read_cells(expected, maps, 1.03 - 0.02j, 0.01 + 0.03j)
        np.testing.assert_allclose(native.read_cells(maps, 1.03 - 0.02j, 0.01 + 0.03j), expected, atol=1e-4)

    def test_one_point_takes_all_along_and_between_two_lies_their_mean(self) -> None:
        down, across = blurs(32, 1, 8)
        one = native.spread(np.array([[20.3, 7.8]]), np.array([[2.0, -1.0]]), down, across)
        np.testing.assert_allclose(one[0, :25, 2:], 2, rtol=1e-5)
        np.testing.assert_allclose(one[1, :25, 2:], -1, rtol=1e-5)
        np.testing.assert_array_equal(one[:, 31], 0)  # no blur reaches so far
        place, shift = np.array([[6.0, 10.0], [26.0, 10.0]]), np.array([[4.0, 0.0], [0.0, 2.0]])
        two = native.spread(place, shift, down, across)
        np.testing.assert_allclose(two[:, 10, 16], [2, 1], rtol=1e-5)
        np.testing.assert_allclose(two[:, 10, 6], [4, 0], atol=0.05)
        assert (np.diff(two[0, 10, 7:26]) < 0).all()

    def test_spread_refuses_what_does_not_fit(self) -> None:
        (down, across), place = blurs(8, 1, 2), np.zeros((3, 2))
        with pytest.raises(ValueError, match="shift must be as long as place"):
            native.spread(place, place[:2].copy(), down, across)
        with pytest.raises(ValueError, match="place must not be empty"):
            native.spread(place[:0], place[:0], down, across)
        with pytest.raises(ValueError, match="as many, of the cells of out"):
            native.spread(place, place, down, across[:1].copy())
        with pytest.raises(ValueError, match="out must be square"):
            native.spread(place, place, down[:, :4].copy(), across)
        with pytest.raises(TypeError, match="place"):
            native.spread(place.astype(np.float32), place, down, across)
        with pytest.raises(TypeError, match="across"):
            native.spread(place, place, down, across.swapaxes(1, 2))

    def test_what_is_no_number_is_read_as_such_or_from_the_corner(self) -> None:
        maps = np.random.default_rng(6).random((2, 9, 9), np.float32)
        for far in (1e9, -1e9):
            assert np.isfinite(native.read_cells(maps, 1, complex(far, far))).all()
        maps[0, 4, 4] = np.nan
        read = native.read_cells(maps, 1, 0)
        assert np.isnan(read[0, 4, 4])
        np.testing.assert_allclose(read[1], maps[1], atol=2e-3)

    def test_refuses_what_does_not_fit(self) -> None:
        planes = np.zeros((3, 8, 8), np.float32)
        with pytest.raises(ValueError, match="of a size that divides theirs"):
            native.cell_means(planes, 3)
        with pytest.raises(ValueError, match="planes must be square"):
            native.cell_means(planes[:, :4].copy(), 4)
        with pytest.raises(TypeError, match="planes"):
            native.cell_means(planes.astype(np.float64), 4)
        with pytest.raises(ValueError, match="2 x 2 or larger"):
            native.read_cells(planes[:, :1, :1].copy(), 1, 0)
        with pytest.raises(TypeError, match="maps"):
            native.read_cells(planes.astype(np.float64), 1, 0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestKnowFace:
    @pytest.fixture(autouse=True)
    def _only(self, implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if implementation == "numpy":
            monkeypatch.setattr(native.loading, "kernels", None)

    def test_slopes_are_those_of_the_picture(self) -> None:
        picture, places, known, slopes, _ = face()
        x, y = np.round((places + 0.5) * SIZE - 0.5).astype(np.int32)
        told, changes = native.know_face(picture, y * SIZE + x, places)
        np.testing.assert_allclose(told, known, atol=1e-6)
        np.testing.assert_allclose(changes, slopes, atol=0.05)  # of 4; neighbors are two steps apart

    @pytest.mark.parametrize("count", [0, 1, 7, 8, 81])
    def test_both_ways_agree_to_the_last_corner(self, count: int) -> None:
        rng = np.random.default_rng(9)
        picture, places = rng.random((9, 9), np.float32), rng.random((2, count), np.float32)
        cells = rng.permutation(81)[:count].astype(np.int32)
        known, slopes = np.empty(count, np.float32), np.empty((6, count), np.float32)
        reference.know_face(known, slopes, picture, cells, places)
        told, changes = native.know_face(picture, cells, places)
        np.testing.assert_array_equal(told, known)
        np.testing.assert_allclose(changes, slopes, atol=1e-5)
        assert told.dtype == changes.dtype == np.float32

    def test_refuses_what_does_not_fit(self) -> None:
        picture, places = np.zeros((9, 9), np.float32), np.zeros((2, 1), np.float32)
        for cell in (-1, 81, 2**31 - 1):
            with pytest.raises(ValueError, match="those of the picture"):
                native.know_face(picture, np.array([cell], np.int32), places)
        with pytest.raises(ValueError, match="as long as cells"):
            native.know_face(picture, np.zeros(2, np.int32), places)
        with pytest.raises(ValueError, match="picture must be square"):
            native.know_face(picture[:4], np.zeros(1, np.int32), places)
        with pytest.raises(TypeError, match=r"cells: expected int32 \["):
            native.know_face(picture, np.zeros(1, np.int64), places)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestFindFace:
    def find(self, implementation: str, *arguments: Any, **search: Any) -> tuple[complex, complex] | None:
        found: tuple[complex, complex] | None = kernel(implementation, "find_face")(
            *arguments, FaceSearch(**search)
        )
        return found

    @pytest.mark.parametrize(
        ("turn", "shift"),
        [(1, 0), (1.01, 0), (1 + 0.02j, 0), (1, 0.01), (1, -0.01j), (0.99 - 0.01j, 0.005 + 0.01j)],
    )
    @pytest.mark.parametrize(("gain", "haze"), [(1, 0), (1.1, -0.05)])
    def test_a_movement_is_told_whatever_the_light(
        self, implementation: str, turn: complex, shift: complex, gain: float, haze: float
    ) -> None:
        found = self.find(implementation, *face(turn, shift, gain, haze), noise=0.0, steps=8)
        assert found is not None
        assert abs(found[0] - turn) < 1e-3
        assert abs(found[1] - shift) < 3e-4

    def test_what_is_covered_does_not_pull(self, implementation: str) -> None:
        picture, *known = face(1, 0.01)
        picture[:, 40:] = 0.1
        found = self.find(implementation, picture, *known)
        assert found is not None
        assert abs(found[1] - 0.01) < 1e-3

    def test_no_face_is_none(self, implementation: str) -> None:
        picture, *known = face()
        assert self.find(implementation, np.zeros_like(picture), *known, unlike=0.05) is None
        assert self.find(implementation, *face(1, 0.02), large=0.01) is None

    def test_pictures_that_are_no_numbers_have_no_face(self, implementation: str) -> None:
        picture, *known = face()
        for share in (0.01, 0.4, 1.0):
            broken = np.where(np.random.default_rng(3).random(picture.shape) < share, np.nan, picture)
            assert self.find(implementation, broken.astype(np.float32), *known) is None

    def test_still_light_and_few_cells_hold_back(self, implementation: str) -> None:
        near = self.find(implementation, *face(1, 0.02), noise=1e4)
        assert near is not None
        assert abs(near[1]) < 0.015, "what is not expected needs more than noise to be believed"

    def test_refuses_what_does_not_fit(self, implementation: str) -> None:
        picture, places, known, slopes, weight = face()
        with pytest.raises(ValueError, match="known must not be empty"):
            self.find(
                implementation, picture, places[:, :0].copy(), known[:0], slopes[:, :0].copy(), weight[:0]
            )
        with pytest.raises(ValueError, match="as long as known"):
            self.find(implementation, picture, places, known[:-1], slopes, weight)
        with pytest.raises(ValueError, match="2 x 2 or larger"):
            self.find(implementation, picture[:1, :1].copy(), places, known, slopes, weight)
        with pytest.raises(ValueError, match="picture must be square"):
            self.find(implementation, picture[:5], places, known, slopes, weight)
