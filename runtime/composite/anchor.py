"""Where an edit sits on a face: carried along by the face's own motion, drawn back slowly to the square.

The aligned square is built from eyes and mouth, so that it breathes with every word and blink, by a hundredth
of its side in a frame; a generator's picture does not follow that, and what is added would swim on the skin.
Two squares in a row show the same face: registering them (a similarity, by Gauss and Newton, the inverse
compositional way of Baker and Matthews 2004, with weights against what moves otherwise) tells how the face
has moved within them. That movement is followed at once; the square, which is right in the long run, slowly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..types import Floats, Matrix
from .regions import draw_region, fade_of, reach_of

# Points of the mesh around what moves as one; jaw and lips are below.
_FOREHEAD: Final = (10, 67, 109, 338, 297, 103, 332, 54, 284, 21, 251)
_TEMPLES: Final = (162, 389, 127, 356, 234, 454)
_CHEEKS: Final = (50, 280, 205, 425)
RIGID: Final = (*_FOREHEAD, *_TEMPLES, *_CHEEKS)
WITHIN: Final = 0.95  # of their reach
RETURN_S: Final = 2.0  # time in which the square's own place is taken again ...
FAR: Final = 0.012  # of the side: ... and sooner from so far away
STEPS: Final = 4  # of Gauss and Newton
SMALL: Final = 0.003  # cells: a last step
LARGE: Final = 0.08  # of the side, between two frames: no face moves so within its square
UNLIKE: Final = 0.3  # 0..2: with such an error half of the face is hidden, or another one
NOISE: Final = 4.0  # neighbors err alike: so much less a cell tells
# How far a face moves within its square from frame to frame: growth, turn, shift across and down in shares of
# the side; then light and haze.
_EXPECTED: Final = np.array([0.006, 0.006, 0.006, 0.006, 0.1, 0.1])
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Similarity:
    """``z -> turn * z + shift`` of complex x + iy, in shares of the square's side from its middle."""

    turn: complex = 1.0 + 0.0j
    shift: complex = 0.0j

    def after(self, first: Similarity) -> Similarity:
        """``first``, then this one."""
        return Similarity(self.turn * first.turn, self.turn * first.shift + self.shift)

    def inverse(self) -> Similarity:
        return Similarity(1 / self.turn, -self.shift / self.turn)

    def weaker(self, share: float) -> Similarity:
        """So much of it; small ones only."""
        return Similarity(1 + share * (self.turn - 1), share * self.shift)

    @property
    def size(self) -> float:
        """How far it moves what lies a third of the side from the middle, at most; shares of the side."""
        return abs(self.shift) + abs(self.turn - 1) / 3

    def matrix(self, size: int) -> Matrix:
        """float64 [2,3]: pixels of a size x size picture -> its pixels."""
        real, imag = self.turn.real, self.turn.imag
        middle = (size - 1) / 2
        shift = size * self.shift + middle * (1 + 1j) * (1 - self.turn)
        return np.array([[real, -imag, shift.real], [imag, real, shift.imag]])

    def read(self, maps: Floats) -> Floats:
        """[C,n,n]: what lies where each cell of [C,n,n] comes to."""
        size = maps.shape[-1]
        y, x = np.mgrid[:size, :size]
        (a, b, dx), (c, d, dy) = self.matrix(size).tolist()
        return _read(maps, a * x + b * y + dx, c * x + d * y + dy)


class Anchor:
    """One face's, over time."""

    def __init__(self) -> None:
        self._luma: tuple[Floats, Floats] | None = None
        self._points: Matrix | None = None
        self._place = Similarity()

    def __call__(
        self,
        seen: Floats,  # [3,n,n] RGB 0..2: the square's cells
        drawn: Floats,  # [3,n,n] 0..2: those of the generator's picture
        points: Matrix,  # [468,2] cells: the mesh
        step_s: float | None,  # since the frame before; None: there was none
    ) -> Similarity:
        """From the square where the generator's picture lies steadily, to the square of this frame."""
        luma = _luma(seen), _luma(drawn)
        if (
            step_s is None
            or self._luma is None
            or self._points is None
            or self._luma[0].shape != luma[0].shape
        ):
            self._place = Similarity()
        else:
            face = register(self._luma[0], luma[0], self._points)
            picture = register(self._luma[1], luma[1], self._points)
            place = face.after(self._place).after(picture.inverse())
            share = math.exp(-step_s / RETURN_S * (1 + (place.size / FAR) ** 2))
            self._place = place.weaker(share)
        self._luma, self._points = luma, points
        return self._place


def _luma(cells: Floats) -> Floats:
    return np.asarray(np.tensordot(_LUMA, cells, 1), np.float32)


def register(before: Floats, after: Floats, points: Matrix) -> Similarity:
    """How a face has moved between two pictures [n,n]; none where it cannot be told.

    points: [468,2] px, the mesh in ``before``.
    """
    size = len(before)
    outline = points[list(RIGID)]
    middle = outline.mean(axis=0)
    reach = WITHIN * reach_of(outline - middle)
    weight = draw_region(size, middle, reach, 0.02 * size, fade_of(0.03, size))
    place = np.flatnonzero(weight > 0.05)
    if len(place) < 32:
        return Similarity()
    rows, columns = np.divmod(place, size)
    weight = weight.ravel()[place]
    x, y = ((columns + 0.5) / size - 0.5), ((rows + 0.5) / size - 0.5)
    down, across = (slope.ravel()[place] * size for slope in np.gradient(before))
    known = before.ravel()[place]
    # What turning, growing, shifting, more light and more haze change.
    slopes = np.stack(
        [across * x + down * y, down * x - across * y, across, down, known, np.ones_like(known)]
    )

    start = x + 1j * y
    moved, gain, haze = Similarity(), 0.0, 0.0
    for _ in range(STEPS):
        where = (moved.turn * start + moved.shift + (0.5 + 0.5j)) * size
        error = _read(after, where.real - 0.5, where.imag - 0.5) - (1 + gain) * known - haze
        usual = 1.5 * float(np.median(np.abs(error))) + 1e-3
        weighted = slopes * (weight / (1 + (error / usual) ** 2))
        sure = NOISE * usual**2 / _EXPECTED**2
        so_far = np.array([moved.turn.real - 1, moved.turn.imag, moved.shift.real, moved.shift.imag, 0, 0])
        grow, turn, right, below, light, fog = np.linalg.solve(
            weighted @ slopes.T + np.diag(sure), weighted @ error + sure * so_far
        )
        step = Similarity(complex(1 + grow, turn), complex(right, below))
        moved = moved.after(step.inverse())
        gain, haze = gain + light, haze + fog
        if not moved.size < LARGE or usual > UNLIKE:
            return Similarity()
        if step.size * size < SMALL:
            break
    return moved


def _read(maps: Floats, x: Matrix, y: Matrix) -> Floats:
    """[...,n,n] between its cells, linearly; its edges go on."""
    size = maps.shape[-1]
    x, y = np.clip(x, 0, size - 1.001), np.clip(y, 0, size - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    x, y = (x - column).astype(np.float32), (y - row).astype(np.float32)
    flat, first = maps.reshape(*maps.shape[:-2], -1), row * size + column
    upper = flat[..., first] * (1 - x) + flat[..., first + 1] * x
    lower = flat[..., first + size] * (1 - x) + flat[..., first + size + 1] * x
    return np.asarray(upper * (1 - y) + lower * y)
