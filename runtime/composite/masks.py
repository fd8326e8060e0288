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
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..types import Floats

CELLS: Final = 64  # along a side; fewer for smaller pictures

LIGHT_RANGE: Final = (0.35, 1.8)  # the person's light may be this far from the reconstruction's
LIGHT_REACH: Final = 10.0  # cells: how quickly light changes across a face
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
    return native.cell_means(np.ascontiguousarray(planes, np.float32), cells)


def blurred(maps: Floats, sigma: float) -> Floats:
    """[...,n,n], by a Gaussian of ``sigma`` cells of 64; borders count what lies inside."""
    down, across = _gaussian(maps.shape[-1], sigma)
    return down @ np.asarray(maps, np.float32) @ across


@lru_cache(maxsize=32)
def _gaussian(cells: int, sigma: float) -> tuple[Floats, Floats]:
    """[cells,cells] each: what a cell takes of those above and below it, and of those beside it."""
    spread = sigma * cells / CELLS
    apart = np.arange(cells) - np.arange(cells)[:, None]
    weights = np.exp(-0.5 * (apart / spread) ** 2)
    weights[np.abs(apart) > math.ceil(4 * spread)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    down = np.asarray(weights, np.float32)
    return down, np.ascontiguousarray(down.T)


def ramp(value: Any) -> Floats:
    """0 up to 0, 1 from 1, smooth between."""
    t = np.minimum(np.maximum(np.asarray(value, np.float32), 0), 1)  # half of what np.clip takes
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def ranked(values: NDArray[np.floating[Any]], share: float) -> Floats:
    """Along the last axis, the value below which so many are: a quantile, in a fraction of NumPy's time."""
    place = int(share * values.shape[-1])
    return np.asarray(np.partition(values, place, axis=-1)[..., place], np.float32)


def _nearly_most(cells: Floats) -> float:
    """What 98 % of a smooth map's cells are below; every fourth of them tells it."""
    return float(ranked(cells[::2, ::2].ravel(), 0.98))


def follow(old: Floats, new: Floats, step_s: float, time_s: float | Floats) -> Floats:
    """A first-order low-pass: what ``old`` is ``step_s`` later."""
    share = 1 - np.exp(-step_s / np.asarray(time_s, np.float32))
    return np.asarray(old + share * (new - old), np.float32)


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
        known_before = self._gain if step_s is not None else None
        if known_before is not None and known_before.shape == seen.shape:
            gain, rounds = known_before, 1
        else:
            known_before, gain, rounds = None, np.broadcast_to(_middle(seen, drawn, face), seen.shape), 2
        for _ in range(rounds):
            error = blurred(np.abs(seen - gain * drawn).max(axis=0), 1.0)
            weight = face * np.exp(-((error / DOUBTFUL) ** 2))
            seen_there, drawn_there = weight * seen, weight * drawn
            whole = seen_there.sum(axis=(1, 2)) / np.maximum(drawn_there.sum(axis=(1, 2)), 1e-3)
            if weight.sum() < 0.002 * weight.size:  # next to nothing agrees
                break
            prior = np.float32(0.05)
            known = prior * np.clip(whole, *LIGHT_RANGE)[:, None, None]
            near = (blurred(seen_there, LIGHT_REACH) + known) / (blurred(drawn_there, LIGHT_REACH) + prior)
            gain = np.clip(near, *LIGHT_RANGE)
        gain = np.asarray(gain, np.float32)
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
        self._usual: Floats | None = None
        self._shown: Floats | None = None
        self._varied: Floats = np.zeros((1, 1), np.float32)  # [n,n]: mean square of what is not usual
        self._known_s = 0.0

    def __call__(
        self,
        error: Floats,  # [3,n,n] 0..2: camera minus reconstruction, in the same light
        face: Floats,  # [n,n] 0..1
        step_s: float | None,  # since the frame before; None: there was none
    ) -> Floats:
        """[n,n] 0..1"""
        known = step_s is not None and self._usual is not None and self._usual.shape == error.shape
        usual = self._usual if known and self._usual is not None else np.zeros_like(error)
        apart = blurred(np.abs(error - usual).max(axis=0), 1.0)
        unknown, all_known = FOREIGN
        seen_s = self._known_s if known else 0.0
        self._varied = self._varied if known else np.zeros(error.shape[1:], np.float32)
        least = np.minimum(all_known + VARIED * np.sqrt(self._varied), unknown)
        foreign = unknown + (least - unknown) * (1 - math.exp(-seen_s / KNOWN_S)) * face
        agreement = 1 - ramp((apart / foreign - (1 - UNSURE)) / (2 * UNSURE))
        self._known_s = seen_s
        if known and step_s is not None and self._shown is not None:
            time_s = float(np.clip(seen_s, 0.1, USUAL_S))
            learnt = follow(usual, error, step_s, time_s)
            self._varied = self._varied + agreement * (
                follow(self._varied, apart * apart, step_s, time_s) - self._varied
            )
            usual = usual + agreement * (learnt - usual)
            hidden = agreement < np.minimum(self._shown, 0.5)
            times = np.where(hidden, COVER_S, UNCOVER_S).astype(np.float32)
            agreement = follow(self._shown, agreement, step_s, times)
            self._known_s += step_s
        self._usual, self._shown = usual, agreement
        return agreement


def strength(amplitude: Floats, sure: float = 1.0) -> Floats:
    """[n,n] 0..1 from the largest change in each cell, [n,n] 0..2; sure: share of a leak that is one."""
    near = blurred(amplitude, 0.7)
    least, share = LEAK
    leak = sure * max(least, share * _nearly_most(near))
    return ramp((near - leak) / leak)


def belonging(
    strong: Floats,  # [n,n] 0..1, as of :func:`strength`
    amplitude: Floats,  # [n,n] 0..2
    face: Floats,  # [n,n] 0..1
    near: Floats,  # [n,n] 0..1: the face, and where what is on it may reach
) -> Floats:
    """[n,n] 0..1: ``near`` for an edit of something on the face, 1 for one of hair, skin or all there is.

    A beard often comes with other hair, which would hang as a veil before the wall beside the head.
    """
    changed = amplitude * strong
    inside = float((changed * face).sum() / max(float(changed.sum()), 1e-6))
    whole = float((strong * face).sum() / max(float(face.sum()), 1e-6))
    on_face = ramp((inside - ON_FACE[0]) / (ON_FACE[1] - ON_FACE[0]))
    part = 1 - ramp((whole - WHOLE[0]) / (WHOLE[1] - WHOLE[0]))
    return np.asarray(1 - on_face * part * (1 - near), np.float32)


def covered(
    change: Floats,  # [3,n,n]: what would be added
    drawn: Floats,  # [3,n,n] 0..2: to what, in the same light
) -> Floats:
    """[n,n] 0..1: how much of what is there an edit hides, at least: whatever leaves a tenth of the light."""
    left = blurred(change, 1.0) / np.maximum(drawn, DARKEST)
    return np.asarray(np.minimum(np.maximum((-left).max(axis=0), 0), 1), np.float32)


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
    known = np.float32(1e-3)  # where nothing changes, all of it
    share = (blurred(change * missing, 1.0) + known) / (blurred(change * change, 1.0) + known)
    share = np.where(share < 1, share, np.minimum(1 + hidden * (share - 1), MOST))
    np.maximum(share, 0, out=share)
    on_skin = hidden * near
    begins, ends = BLACK
    sheer = SHEER * float(ramp((_nearly_most(on_skin) - begins) / (ends - begins)))
    return np.asarray(share * (1 - sheer * on_skin) if sheer else share, np.float32)
