"""Codes to pictures: what the generator is asked, how often, and where its pictures lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from doppelgan.runtime.backends.base import ChooseRows, TensorSpec
from doppelgan.runtime.synthesize import Synthesizer

from ..fake_session import FakeSession

SIDE, STYLES, W_DIM = 32, 2, 3
INPUTS = [TensorSpec("codes", "float32", (1, STYLES, W_DIM))]
OUTPUTS = [TensorSpec("image", "float32", (1, 3, SIDE, SIDE))]


def codes(value: float) -> np.ndarray:
    return np.full((1, STYLES, W_DIM), value, np.float32)


def drawn(value: float) -> np.ndarray:
    """A ramp over rows and columns, raised by the code."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.stack([value + rows, value + columns, value + rows * columns]).astype(np.float32)


class Plain(FakeSession):
    """Draws one picture a call."""

    def __init__(self) -> None:
        super().__init__(
            INPUTS, OUTPUTS, lambda feeds: {"image": drawn(float(feeds["codes"][0, 0, 0]))[None]}
        )


class Together(Plain):
    """Draws up to three pictures of 8 or 32 px in one pass."""

    sizes = (32, 8)
    most_pictures = 3

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[list[float]] = []
        self.rows: list[ChooseRows | None] = []

    def run_together(
        self, given: Sequence[np.ndarray], pictures: Sequence[np.ndarray], rows: ChooseRows | None = None
    ) -> None:
        self.rows.append(rows)
        assert len(given) == len(pictures) <= self.most_pictures
        assert all(one.dtype == np.float32 and one.flags.c_contiguous for one in given)
        self.passes.append([float(one[0, 0, 0]) for one in given])
        for one, picture in zip(given, pictures, strict=True):
            assert picture.shape in [(1, 3, side, side) for side in self.sizes]
            picture[:] = one[0, 0, 0]


def averaged(value: float, size: int) -> np.ndarray:
    block = SIDE // size
    return drawn(value).reshape(3, size, block, size, block).mean(axis=(2, 4))


def test_one_picture_is_that_of_its_code_in_a_buffer_that_is_used_again() -> None:
    synthesizer = Synthesizer(Plain())
    assert synthesizer.size == SIDE
    first = synthesizer(codes(1).astype(np.float64))
    np.testing.assert_array_equal(first, drawn(1))
    second = synthesizer(codes(2))
    np.testing.assert_array_equal(second, drawn(2))
    assert np.shares_memory(first, second)


@pytest.mark.parametrize("size", [32, 16, 8, 4])
def test_smaller_pictures_are_means_of_whole_ones(size: int) -> None:
    pictures = Synthesizer(Plain()).together([codes(1), codes(5)], size)
    assert [picture.shape for picture in pictures] == [(3, size, size)] * 2
    for picture, value in zip(pictures, (1, 5), strict=True):
        np.testing.assert_allclose(picture, averaged(value, size), rtol=1e-6)


def test_without_a_size_pictures_are_whole() -> None:
    plain, edited = Synthesizer(Plain()).pair(codes(1), codes(5))
    np.testing.assert_array_equal(plain, drawn(1))
    np.testing.assert_array_equal(edited, drawn(5))
    plain, edited = Synthesizer(Plain()).pair(codes(1), codes(5), 8)
    np.testing.assert_allclose(edited, averaged(5, 8), rtol=1e-6)
    np.testing.assert_allclose(plain, averaged(1, 8), rtol=1e-6)


def test_what_can_be_drawn_together_is_up_to_three_a_pass() -> None:
    session = Together()
    synthesizer = Synthesizer(session)
    pictures = synthesizer.together([codes(k).astype(np.float64) for k in range(7)], 8)
    assert session.passes == [[0, 1, 2], [3, 4, 5], [6]]
    assert session.calls == 0
    assert [float(picture.mean()) for picture in pictures] == list(range(7))
    synthesizer.together([codes(9)])
    assert session.passes[3:] == [[9]]


def test_a_session_that_draws_all_codes_at_once_may_ask_for_rows() -> None:
    session = Together()

    def choose(_: Sequence[np.ndarray]) -> tuple[int, int]:
        return 0, 0

    synthesizer = Synthesizer(session)
    synthesizer.together([codes(1), codes(2), codes(3)], 8, choose)
    synthesizer.together([codes(k) for k in range(4)], 8, choose)  # no pass sees all of them
    assert session.rows == [choose, None, None]
    Synthesizer(Plain()).together([codes(1)], 8, choose)  # draws all rows


def test_a_size_that_the_session_does_not_stop_at_is_averaged() -> None:
    session = Together()
    (picture,) = Synthesizer(session).together([codes(3)], 16)
    assert session.passes == []
    np.testing.assert_allclose(picture, averaged(3, 16), rtol=1e-6)


def test_buffers_of_a_size_are_used_again_and_are_of_each_picture_alone() -> None:
    synthesizer = Synthesizer(Plain())
    first = synthesizer.together([codes(1), codes(2)], 8)
    again = synthesizer.together([codes(3), codes(4), codes(5)], 8)
    assert all(np.shares_memory(a, b) for a, b in zip(first, again, strict=False))
    assert not np.shares_memory(again[0], again[1])
    assert [float(one[0].min()) for one in again] == pytest.approx([3 + 1.5, 4 + 1.5, 5 + 1.5])
    other = synthesizer.together([codes(1)], 16)
    assert not np.shares_memory(other[0], again[0])
    assert len(synthesizer.together([codes(1)], 8)) == 1


@pytest.mark.parametrize("size", [2, 0, 12, 24, 33, 64])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size: expected 32 px, its half, .* at least 4; got {size}"):
        Synthesizer(Plain()).together([codes(1)], size)


def test_sessions_that_draw_one_picture_are_asked_for_one() -> None:
    seen: list[Mapping[str, np.ndarray]] = []
    session = Plain()
    real = session._function
    session._function = lambda feeds: seen.append(feeds) or real(feeds)  # type: ignore[func-returns-value]
    Synthesizer(session).together([codes(1), codes(2)], 16)
    assert [float(feeds["codes"][0, 0, 0]) for feeds in seen] == [1, 2]
