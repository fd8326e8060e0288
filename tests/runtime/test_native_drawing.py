"""Stretched pictures and soft regions: the C++ against its NumPy twin, both against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from doppelgan.runtime import native
from doppelgan.runtime.native import reference
from numpy.typing import NDArray

from .kernels import IMPLEMENTATIONS, kernel, needs_native, noise


def region(rng: np.random.Generator, size: int, count: int = 9) -> NDArray[np.float32]:
    """Lines around a point of a size x size picture, at different distances."""
    angles = rng.uniform(0, 2 * np.pi, count)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    offsets = directions @ rng.uniform(0.3, 0.7, 2) * size + rng.uniform(0.1, 0.6, count) * size
    return np.column_stack([directions, offsets]).astype(np.float32)


@needs_native
@pytest.mark.usefixtures("instructions")
class TestAgainstTheTwin:
    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize(
        ("height", "width", "rows", "columns"),
        [
            (72, 50, 72, 50),
            (720, 333, 48, 22),
            (45, 17, 8, 1),
            (9, 5, 1, 3),
            (1, 1, 1, 1),
            (10, 7, 40, 30),
            (2160, 2100, 31, 45),
        ],
    )
    def test_stretched_frames_are_equal(
        self, height: int, width: int, rows: int, columns: int, threads: int
    ) -> None:
        rng = np.random.default_rng(6)
        expected, got = np.zeros((2, height, width, 3), np.uint8)
        small = noise(rng, rows, columns, 3)
        reference.stretch(expected, small)
        native.stretch(got, small, threads)
        np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("size", [1, 31, 96, 256, 700])
    def test_soft_regions_agree(self, size: int, threads: int) -> None:
        rng = np.random.default_rng(8)
        for width in (0.7, 0.07 * size + 1, 3.0 * size):
            lines, fade = region(rng, size), rng.random(size, np.float32)
            expected, got = np.full((2, size, size), np.nan, np.float32)
            reference.soft_region(expected, lines, fade, width)
            native.soft_region(got, lines, fade, width, threads)
            np.testing.assert_allclose(got, expected, atol=2e-4)  # single against double precision


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestStretch:
    @pytest.mark.parametrize("down", [True, False], ids=["rows", "columns"])
    def test_pixels_keep_their_places_and_values_between_are_linear(
        self, implementation: str, down: bool
    ) -> None:
        small = np.repeat(np.array([0, 100, 200], np.uint8)[:, None, None], 3, axis=2)
        frame = np.empty((30, 2, 3), np.uint8)
        if not down:
            small, frame = small.swapaxes(0, 1).copy(), frame.swapaxes(0, 1).copy()
        kernel(implementation, "stretch")(frame, small)
        expected = np.clip((np.arange(30) + 0.5) / 10 - 0.5, 0, 2) * 100
        got = frame[:, 0, 0] if down else frame[0, :, 0]
        assert np.abs(got - expected).max() <= 0.5 + 100 / 256

    def test_one_row_fills_the_frame(self, implementation: str) -> None:
        rows, frame = noise(np.random.default_rng(0), 1, 9, 3), np.empty((5, 9, 3), np.uint8)
        kernel(implementation, "stretch")(frame, rows)
        np.testing.assert_array_equal(frame, np.repeat(rows, 5, axis=0))

    def test_refuses_empty_pictures(self, implementation: str) -> None:
        stretch, frame = kernel(implementation, "stretch"), np.empty((5, 9, 3), np.uint8)
        with pytest.raises(ValueError, match="small must not be empty"):
            stretch(frame, np.zeros((0, 9, 3), np.uint8))
        with pytest.raises(ValueError, match="frame must not be empty"):
            stretch(frame[:0], np.zeros((2, 9, 3), np.uint8))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestSoftRegion:
    def draw(self, implementation: str, lines: Any, size: int, width: float, fade: Any = None) -> Any:
        out = np.empty((size, size), np.float32)
        fade = np.ones(size, np.float32) if fade is None else fade
        kernel(implementation, "soft_region")(out, np.array(lines, np.float32), fade, width)
        return out

    def test_ramp_is_a_half_on_the_line_and_as_wide_as_asked_for(self, implementation: str) -> None:
        out = self.draw(implementation, [(1, 0, 50)], 100, 8)  # left of x = 50
        np.testing.assert_array_equal(out, np.repeat(out[:1], 100, axis=0))
        assert out[0, 50] == 0.5
        assert out[0, :42].min() == 1
        assert out[0, 58:].max() == 0
        assert np.diff(out[0, 42:59]).max() < 0  # falls all the way
        np.testing.assert_allclose(out[0, 42:51] + out[0, 58:49:-1], 1, atol=1e-6)

    def test_is_what_two_box_filters_make_of_an_edge(self, implementation: str) -> None:
        edge = (np.arange(200) < 100).astype(float)
        box = np.ones(41) / 41
        blurred = np.convolve(np.convolve(edge, box, "same"), box, "same")[50:150]
        out = self.draw(implementation, [(1, 0, 49.5)], 100, 41)
        np.testing.assert_allclose(out[0], blurred, atol=1e-3)

    def test_is_the_part_that_all_lines_share_times_the_fade(self, implementation: str) -> None:
        fade = np.linspace(0, 1, 40, dtype=np.float32)
        out = self.draw(implementation, [(1, 0, 30), (-1, 0, -10), (0, 1, 25), (0, -1, -5)], 40, 0.5, fade)
        expected = np.zeros((40, 40))
        expected[5:26, 10:31] = 1
        expected[[5, 25], 10:31] *= 0.5
        expected[5:26, [10, 30]] = 0.5
        np.testing.assert_allclose(out, expected * np.outer(fade, fade), atol=1e-6)

    def test_refuses_what_draws_nothing(self, implementation: str) -> None:
        with pytest.raises(ValueError, match="lines must not be empty"):
            self.draw(implementation, np.zeros((0, 3)), 8, 1)
        with pytest.raises(ValueError, match="width must be above 0"):
            self.draw(implementation, [(1, 0, 0)], 8, 0)
        with pytest.raises(ValueError, match="fade must be as long as out"):
            self.draw(implementation, [(1, 0, 0)], 8, 1, np.ones(7, np.float32))


def test_drawing_refuses_what_it_would_have_to_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    read_only = frame.copy()
    read_only.flags.writeable = False
    mask, lines = np.zeros((8, 8), np.float32), np.array([[1, 0, 3]], np.float32)
    fade = np.ones(8, np.float32)
    for kernels in (native.loading.kernels, None):
        monkeypatch.setattr(native.loading, "kernels", kernels)
        with pytest.raises(TypeError, match="frame: expected a writable array"):
            native.stretch(read_only, frame)
        with pytest.raises(TypeError, match=r"small: expected uint8 \[\?,\?,3\], got uint8 \[20, 30\]"):
            native.stretch(frame, frame[..., 0])
        with pytest.raises(TypeError, match=r"lines: expected float32 \[\?,3\], got float64 \[1, 3\]"):
            native.soft_region(mask, lines.astype(np.float64), fade, 1.0)
        with pytest.raises(TypeError, match=r"out: expected float32 \[\?,\?\], got uint8"):
            native.soft_region(mask.astype(np.uint8), lines, fade, 1.0)
