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
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..types import Floats, Matrix
from .hues import luma_of
from .regions import draw_region, fade_of, reach_of

# Points of the mesh around what moves as one; jaw and lips are below.
_FOREHEAD: Final = (10, 67, 109, 338, 297, 103, 332, 54, 284, 21, 251)
_TEMPLES: Final = (162, 389, 127, 356, 234, 454)
_CHEEKS: Final = (50, 280, 205, 425)
RIGID: Final = np.array([*_FOREHEAD, *_TEMPLES, *_CHEEKS])
WITHIN: Final = 0.95  # of their reach
RETURN_S: Final = 2.0  # time in which the square's own place is taken again ...
FAR: Final = 0.012  # of the side: ... and sooner from so far away

FEWEST: Final = 32  # cells


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
        real, imag, shift = self.turn.real, self.turn.imag, self._shift_in(size)
        return np.array([[real, -imag, shift.real], [imag, real, shift.imag]])

    def before(self, matrix: Matrix, size: int) -> Matrix:
        """float64 [2,3]: this one of a size x size picture, then ``matrix``."""
        turn, shift = self.turn, self._shift_in(size)
        return np.array(
            [
                (
                    a * turn.real + b * turn.imag,
                    b * turn.real - a * turn.imag,
                    a * shift.real + b * shift.imag + c,
                )
                for a, b, c in matrix.tolist()  # so few numbers that arrays take longer
            ]
        )

    def moved(self, points: Matrix, size: int) -> Matrix:
        """float64 [k,2]: where pixels of a size x size picture come to."""
        places = np.ascontiguousarray(points, np.float64).view(np.complex128)
        return (self.turn * places + self._shift_in(size)).view(np.float64)

    def _shift_in(self, size: int) -> complex:
        """In pixels, of the first one's center."""
        return size * self.shift + (size - 1) / 2 * (1 + 1j) * (1 - self.turn)

    def read(self, maps: Floats) -> Floats:
        """[C,n,n]: what lies where each cell of [C,n,n] comes to."""
        return native.read_cells(maps, self.turn, self.shift)


class Anchor:
    """One face's, over time."""

    def __init__(self) -> None:
        self._before: tuple[Known, Known] | None = None  # the person's face and the generator's
        self._place = Similarity()

    def __call__(
        self,
        seen: Floats,  # [3,n,n] RGB 0..2: the square's cells
        drawn: Floats,  # [3,n,n] 0..2: those of the generator's picture
        points: Matrix,  # [468,2] cells: the mesh
        step_s: float | None,  # since the frame before; None: there was none
    ) -> Similarity:
        """From the square where the generator's picture lies steadily, to the square of this frame."""
        luma = luma_of(seen), luma_of(drawn)
        before = self._before
        if step_s is None or before is None or before[0].size != len(luma[0]):
            self._place = Similarity()
        else:
            face, picture = (known.register(now) for known, now in zip(before, luma, strict=True))
            place = face.after(self._place).after(picture.inverse())
            share = math.exp(-step_s / RETURN_S * (1 + (place.size / FAR) ** 2))
            self._place = place.weaker(share)
        region = None if before is None else before[0].region
        if region is None or not region.fits(points, len(luma[0])):
            region = Region(points, len(luma[0]))
        self._before = Known(luma[0], region), Known(luma[1], region)
        return self._place


class Region:
    """The cells of a size x size picture within the outline of what moves as one."""

    def __init__(self, points: Matrix, size: int) -> None:
        self._outline = outline = points[RIGID]
        middle = outline.mean(axis=0)
        reach = WITHIN * reach_of(outline - middle)
        weight = draw_region(size, middle, reach, 0.02 * size, fade_of(0.03, size)).ravel()
        self.size = size
        self.cells = cells = np.flatnonzero(weight > 0.05).astype(np.int32)
        self.weight = weight[cells]  # 0..1
        start = _places(size)[cells]
        self.places = np.stack([start.real, start.imag])  # [2,k]

    def fits(self, points: Matrix, size: int) -> bool:
        """Whether it is still that of this mesh, give or take a cell."""
        return size == self.size and bool(np.abs(points[RIGID] - self._outline).max() < 1)


class Known:
    """A face in one picture, ready to be found in the next."""

    def __init__(self, picture: Floats, region: Region) -> None:
        self.size, self.region = region.size, region
        self._known, self._slopes = native.know_face(picture, region.cells, region.places)

    def register(self, after: Floats) -> Similarity:
        """How the face has moved in ``after`` [n,n]; not at all where that cannot be told."""
        if len(self._known) < FEWEST:
            return Similarity()
        region = self.region
        found = native.find_face(after, region.places, self._known, self._slopes, region.weight)
        return Similarity() if found is None else Similarity(*found)


def register(before: Floats, after: Floats, points: Matrix) -> Similarity:
    """How a face has moved between two pictures [n,n]; points: [468,2] px, the mesh in ``before``."""
    return Known(before, Region(points, len(before))).register(after)


@lru_cache(maxsize=8)
def _places(size: int) -> NDArray[np.complex64]:
    """[size*size]: x + iy of the cells, in shares of the side from the middle; not to be written to."""
    along = (np.arange(size) + 0.5) / size - 0.5
    places = np.asarray(along + 1j * along[:, None], np.complex64).ravel()
    places.flags.writeable = False
    return places
