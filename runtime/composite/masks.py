"""What is added where: smooth maps of the aligned square, judged in 64 x 64 cells.

``Light``      how much brighter the person is than the reconstruction, per channel
``Agreement``  1 where the camera sees what was reconstructed, 0 where something else is in front of it
``strength``   small differences are leaks: 0 for them, 1 for what the edit is about
``belonging``  beside the face, what a beard or glasses change is a leak as well
``covered``    dark edits hide what is behind them
``reachable``  no more is added than leads to the edited picture's own color
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from .. import native
from ..native.reference_cells import CELLS, ramp, ranked
from ..types import Floats

__all__ = [
    "Agreement",
    "Light",
    "belonging",
    "blurred",
    "cells_of",
    "covered",
    "follow",
    "means",
    "ramp",
    "ranked",
    "reachable",
    "strength",
]

NEAR: Final = 1.0  # cells, within which errors and changes count together

LIGHT_RANGE: Final = (0.35, 1.8)  # the person's light may be this far from the reconstruction's
LIGHT_REACH: Final = 10.0  # cells: how quickly light changes across a face
LIGHT_PRIOR: Final = 0.05  # how much the whole face's light counts beside that of a place
LIGHT_FEWEST: Final = 0.002  # of all cells: with less of them next to nothing agrees, and nothing is told
LIGHT_S: Final = 0.25  # time in which it follows
DOUBTFUL: Final = 0.3  # 0..2: an error from which a cell says little about the light
FOREIGN: Final = (0.38, 0.2)  # 0..2: an error from which something else is seen; once the usual one is known
UNSURE: Final = 0.25  # of FOREIGN: so much less, an edit begins to give way; so much more, it is gone
VARIED: Final = 0.8  # of how much a place's error varies by itself: so much more it takes there
KNOWN_S: Final = 0.5  # time in which a face becomes known
USUAL_S: Final = (
    3.0  # time in which a small, lasting error becomes the usual one; at first the time seen so far
)
COVER_S, UNCOVER_S = 0.03, 0.3  # an edit gives way at once to what comes before the face, and returns slowly
LEAK: Final = (0.03, 0.2)  # 0..2, and of the largest differences: below are leaks
LEAK_NEAR: Final = 0.7  # cells, within which changes count together there
ON_FACE: Final = (0.32, 0.4)  # of an edit, what is inside the face: hair has less, a beard and glasses more
WHOLE: Final = (0.6, 0.8)  # of the face, what an edit changes: a tone of skin, which goes on to ears and neck

DARKEST: Final = 0.05  # 0..2: a tenth of less light is not told from none
MOST: Final = 1.2  # of a change, where the person is brighter than the reconstruction
SHEER: Final = 0.65  # of black on skin: so much of the skin is seen through it
BLACK: Final = (0.6, 0.7)  # 0..1, hidden at most: light brown edits are as dense as drawn, black ones sheer


def cells_of(size: int) -> int:
    """Cells along a side of a picture of ``size`` pixels."""
    return math.gcd(size, CELLS)


def means(planes: Floats, cells: int) -> Floats:
    """[C,S,S] -> [C,cells,cells], averages; single pixels where cells do not divide the picture."""
    size = planes.shape[-1]
    if size % cells:
        index = ((np.arange(cells) + 0.5) * (size / cells)).astype(np.intp)
        return np.ascontiguousarray(planes[:, index[:, None], index])
    return native.cell_means(np.ascontiguousarray(planes, np.float32), cells, native.THREADS)


def blurred(maps: Floats, sigma: float) -> Floats:
    """[...,n,n], by a Gaussian of ``sigma`` cells of 64; borders count what lies inside."""
    several = _ready(maps).reshape(-1, *maps.shape[-2:])
    return native.blurred(several, sigma).reshape(maps.shape)


def _ready(maps: Floats) -> Floats:
    """As the kernels take them."""
    return np.ascontiguousarray(maps, np.float32)


def share_of(step_s: float, time_s: float | Floats) -> Floats:
    """0..1: how far a first-order low-pass goes in ``step_s``."""
    return np.asarray(1 - np.exp(-step_s / np.asarray(time_s, np.float32)))


def follow(old: Floats, new: Floats, step_s: float, time_s: float | Floats) -> Floats:
    """A first-order low-pass: what ``old`` is ``step_s`` later."""
    return np.asarray(old + share_of(step_s, time_s) * (new - old), np.float32)


class Light:
    """The person's light over the reconstruction's: a gain per channel and cell, steady over time.

    Read where both show the face, not from what stands in front of it; continued smoothly elsewhere.
    """

    def __init__(self) -> None:
        self._gain: Floats | None = None

    def __call__(
        self,
        seen: Floats,  # [3,n,n] 0..2: the camera's cells
        drawn: Floats,  # [3,n,n] 0..2: the reconstruction's
        face: Floats,  # [n,n] 0..1
        step_s: float | None,  # since the frame before; None: there was none
    ) -> tuple[Floats, Floats]:
        """Two of [3,n,n]: by what the reconstruction is multiplied in this frame, and steadily."""
        seen, drawn, face = _ready(seen), _ready(drawn), _ready(face)
        known_before = self._gain if step_s is not None else None
        if known_before is not None and known_before.shape == seen.shape:
            gain, rounds = known_before, 1
        else:
            known_before, rounds = None, 2
            gain = _ready(np.broadcast_to(_middle(seen, drawn, face), seen.shape))
        for _ in range(rounds):
            told = native.read_light(
                seen, drawn, face, gain, NEAR, LIGHT_REACH, DOUBTFUL, *LIGHT_RANGE, LIGHT_PRIOR, LIGHT_FEWEST
            )
            if told is None:
                break
            gain = told
        steady = gain
        if step_s is not None and known_before is not None:
            steady = follow(known_before, gain, step_s, LIGHT_S)
        self._gain = steady
        return gain, steady


def _middle(seen: Floats, drawn: Floats, face: Floats) -> Floats:
    """[3,1,1]: the median gain inside the face."""
    inside = face > 0.5
    if not inside.any():
        return np.ones((3, 1, 1), np.float32)
    ratio = ranked(seen[:, inside] / np.maximum(drawn[:, inside], 0.05), 0.5)
    return np.clip(ratio, *LIGHT_RANGE).astype(np.float32)[:, None, None]


class Agreement:
    """Where the camera sees what was reconstructed: the reconstruction error is the map of occlusion.

    A small error that lasts (makeup, a hat's shade, how this person's brows are drawn) becomes the usual one;
    a large one never does, so that a hand that stays is still a hand. The better a face is known, the less of
    a new error is taken for it.
    """

    def __init__(self) -> None:
        self._before: tuple[Floats, Floats, Floats] | None = None  # usual, how it varied, shown
        self._known_s = 0.0

    def __call__(
        self,
        error: Floats,  # [3,n,n] 0..2: camera minus reconstruction, in the same light
        face: Floats,  # [n,n] 0..1
        step_s: float | None,  # since the frame before; None: there was none
    ) -> Floats:
        """[n,n] 0..1"""
        error, face = _ready(error), _ready(face)
        before = self._before
        if step_s is None or before is None or before[0].shape != error.shape:
            nothing = np.zeros_like(face)
            before, self._known_s, step_s = (np.zeros_like(error), nothing, nothing), 0.0, 0.0
            learnt, cover, uncover = 0.0, 1.0, 1.0
        else:
            times = np.array([min(max(self._known_s, 0.1), USUAL_S), COVER_S, UNCOVER_S])
            learnt, cover, uncover = share_of(step_s, times).tolist()
        familiar = float(share_of(self._known_s, KNOWN_S))
        self._before = native.agree(
            error, face, before, familiar, learnt, cover, uncover, NEAR, *FOREIGN, VARIED, UNSURE
        )
        self._known_s += step_s
        return self._before[2]


def strength(amplitude: Floats, sure: float = 1.0) -> Floats:
    """[n,n] 0..1 from the largest change in each cell, [n,n] 0..2; sure: share of a leak that is one."""
    return native.strength(_ready(amplitude), LEAK_NEAR, *LEAK, sure)


def belonging(
    strong: Floats,  # [n,n] 0..1, as of :func:`strength`
    amplitude: Floats,  # [n,n] 0..2
    face: Floats,  # [n,n] 0..1
    near: Floats,  # [n,n] 0..1: the face, and where what is on it may reach
) -> Floats:
    """[n,n] 0..1: ``near`` for an edit of something on the face, 1 for one of hair, skin or all there is.

    A beard often comes with other hair, which would hang as a veil before the wall beside the head.
    """
    return native.belonging(_ready(strong), _ready(amplitude), _ready(face), _ready(near), *ON_FACE, *WHOLE)


def covered(
    change: Floats,  # [3,n,n]: what would be added
    drawn: Floats,  # [3,n,n] 0..2: to what, in the same light
) -> Floats:
    """[n,n] 0..1: how much of what is there an edit hides, at least: whatever leaves a tenth of the light."""
    return native.covered(_ready(change), _ready(drawn), NEAR, DARKEST)


def reachable(
    change: Floats,  # [3,n,n]: what would be added
    missing: Floats,  # [3,n,n]: from the camera's cells to the edited picture's, in the same light
    hidden: Floats,  # [n,n] 0..1, as of :func:`covered`
    near: Floats,  # [n,n] 0..1: where skin shows through
) -> Floats:
    """[3,n,n], as a share of ``change``: a dark face needs less of a dark beard than a bright one.

    And a brighter one more: what is hidden takes along what the reconstruction got wrong about it, or its hue
    would remain as a cast. On skin no hair is as dense as a generator paints it.
    """
    return native.reachable(
        _ready(change), _ready(missing), _ready(hidden), _ready(near), NEAR, MOST, SHEER, *BLACK
    )
