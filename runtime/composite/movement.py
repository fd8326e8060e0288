"""What an edit moves: the mesh's displacement as a flow over the square, and where lids and lips part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np

from .. import native
from ..face_mesh import FACE_OVAL, LEFT_EYE, LIPS, RIGHT_EYE
from ..types import Floats, Matrix
from .masks import blurred, ramp, ranked
from .regions import DOWN, UP, draw_region, fade_of, reach_of

BORDER: Final = 0.2  # of the side, over which movement fades to none
PARTS: Final = tuple(
    (np.array(contour), larger) for contour, larger in ((LEFT_EYE, 1.35), (RIGHT_EYE, 1.35), (LIPS, 1.08))
)  # contour, its hull enlarged by
SETTLED: Final = (0.002, 0.006)  # of the side: a part whose points move apart by less, by more
LEAK: Final = (
    0.3,
    0.1,
)  # of the largest movement: less is none, where the oval rests and where it takes part
RESTS: Final = (0.04, 0.14)  # of the largest movement, that of the oval: it rests, it takes part
FULL: Final = 0.25  # of the largest movement, beyond a leak: all of it is there
LOCAL: Final = (0.15, 0.25)  # of the largest movement, that of the oval: what is outside stays, follows
OUTSIDE: Final = (1.05, 0.03)  # of the oval's reach, and of the side: where staying begins, half of its edge
HARDLY: Final = 0.01  # of what is left: nobody sees it
FAR: Final = 0.006  # of the side: with more movement, what it leaves outside of the parts is ghosts
_OVAL: Final = np.array(FACE_OVAL)
_SOFT: Final = 0.02  # of the side: half of the edge of lids and lips
_SPREADS: Final = ((1.2, 1.0), (3.0, 0.05), (8.0, 0.004), (20.0, 0.0004))  # cells; weight of what lies so far


def flow_of(
    points: Matrix,  # [468,2] px of the picture: where the mesh goes
    shift: Matrix,  # [468,2] px: how far it has come
    size: int,  # of the picture
    cells: int,
    agreement: Floats | None = None,  # [cells,cells] 0..1: 0 where something is before the face
    leaks: bool = False,  # also what is far below the largest movement
) -> Floats:
    """float32 [2,cells,cells] px: that of the nearest points, smoother far from them; 0 at the border.

    Hair, neck, what is behind them and a hand before them go along with the whole head, not with a part of
    the face.
    """
    place = (points + 0.5) * (cells / size) - 0.5
    flow = native.spread(place, np.ascontiguousarray(shift, np.float64), *_blurs(cells), native.THREADS)
    flow *= _fade(cells)
    along = _along(shift)
    least, most = LOCAL
    face = _face(place, cells)
    if agreement is not None:
        face *= agreement
    flow *= np.maximum(face, ramp((along - least) / (most - least)))
    if not leaks:
        far = np.sqrt((flow * flow).sum(axis=0))
        least = float(np.interp(along, RESTS, LEAK))
        flow *= ramp((far / max(float(far.max()), 1e-12) - least) / FULL)
    return np.ascontiguousarray(flow, np.float32)


@lru_cache(maxsize=8)
def _blurs(cells: int) -> tuple[Floats, Floats]:
    """[_SPREADS,cells,cells] each, as :func:`native.spread` takes them; kept, so not to be written to."""
    # What a row gives to others shows where it is ones and the rest nothing.
    rows = np.broadcast_to(np.eye(cells, dtype=np.float32)[..., None], (cells, cells, cells))
    across = np.stack([blurred(rows, sigma)[..., 0] for sigma, _ in _SPREADS])
    strengths = np.array([strength for _, strength in _SPREADS], np.float32)[:, None, None]
    return np.ascontiguousarray(across.swapaxes(1, 2) * strengths), across


@lru_cache(maxsize=8)
def _fade(cells: int) -> Floats:
    """[cells,cells]: 1, falling to 0 at the border; kept, so not to be written to."""
    fade = fade_of(BORDER, cells).copy()
    fade[[0, -1]] = 0
    return np.outer(fade, fade)


def _along(shift: Matrix) -> float:
    """How much of the largest movement half of the oval takes part in: brows 0.03, a smile 0.14, pose 0.5."""
    far = np.hypot(*shift.T)
    return float(ranked(far[_OVAL], 0.5)) / max(float(far.max()), 1e-12)


def _face(place: Matrix, cells: int) -> Floats:
    """[cells,cells] 0..1: the face and what is next to it; hair, ears and neck are outside."""
    contour = place[_OVAL]
    middle = contour.mean(axis=0)
    larger, width = OUTSIDE
    return draw_region(cells, middle, larger * reach_of(contour - middle), width * cells, fade_of(0.0, cells))


def parting(
    points: Matrix,  # [468,2] px of the picture: where the mesh goes
    shift: Matrix,  # [468,2] px: how far it has come
    size: int,
    cells: int,
) -> Floats:
    """float32 [cells,cells] 0..1: eyes and mouth, as far as their own points move apart."""
    inside = np.zeros((cells, cells), np.float32)
    least, most = SETTLED
    for middle, reach, apart in _moving_apart(points, shift, size, cells):
        hull = draw_region(cells, middle, reach, _SOFT * cells, fade_of(0.0, cells))
        inside = np.maximum(inside, hull * ramp((apart - least) / (most - least)))
    return inside


def parting_rows(points: Matrix, shift: Matrix, size: int) -> list[tuple[float, float]]:
    """Of each region of :func:`parting`, between which rows of the picture it lies."""
    soft = 2 * _SOFT * size
    return [
        (middle[1] - reach[UP] - soft, middle[1] + reach[DOWN] + soft)
        for middle, reach, _ in _moving_apart(points, shift, size, size)
    ]


def _moving_apart(
    points: Matrix, shift: Matrix, size: int, cells: int
) -> Iterator[tuple[Matrix, Matrix, float]]:
    """Of eyes and mouth, where their own points move apart: middle and reach in cells, how far apart."""
    for contour, larger in PARTS:
        own = shift[contour]
        apart = float(np.abs(own - own.mean(axis=0)).max()) / size
        if apart > SETTLED[0]:
            place = (points[contour] + 0.5) * (cells / size) - 0.5
            middle = place.mean(axis=0)
            yield middle, larger * reach_of(place - middle), apart


def remains(shift: Matrix, size: int) -> float:
    """0..1: how much of what is left by small movements may be added outside of eyes and mouth."""
    left = float(np.exp(-((np.abs(shift).max() / (FAR * size)) ** 2)))
    return left if left > HARDLY else 0.0
