"""The kernels on smooth maps of the aligned square in plain NumPy: the definition of what the C++ computes.

Maps are float32 [n,n], or several of them, whatever each cell of the square is judged by; widths of blurs are
in cells of a map of 64, so that a coarser one is blurred as far. What the numbers are that are passed, says
``composite/masks.py``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_Maps = NDArray[np.float32]

CELLS: Final = 64  # along the side of the map in whose cells a width is given


def ramp(value: Any) -> _Maps:
    """0 up to 0, 1 from 1, smooth between."""
    t = np.minimum(np.maximum(np.asarray(value, np.float32), 0), 1)  # half of what np.clip takes
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def ranked(values: NDArray[np.floating[Any]], share: float) -> _Maps:
    """Along the last axis, the value below which so many are: a quantile, in a fraction of NumPy's time."""
    place = int(share * values.shape[-1])
    return np.asarray(np.partition(values, place, axis=-1)[..., place], np.float32)


def blurred(out: _Maps, maps: _Maps, sigma: float) -> None:
    """[C,n,n], by a Gaussian of ``sigma``; borders count what lies inside."""
    _check_sizes(out, maps)
    if out.shape != maps.shape:
        raise ValueError("out must have as many maps")
    out[:] = _blur(maps, sigma)


def read_light(
    out: _Maps,  # [3,n,n], written: the gain as told with the one so far
    seen: _Maps,  # [3,n,n] 0..2: the camera's cells
    drawn: _Maps,  # [3,n,n] 0..2: the reconstruction's
    face: _Maps,  # [n,n] 0..1
    gain: _Maps,  # [3,n,n]: so far
    near: float,  # width over which errors count together
    reach: float,  # width over which light changes
    doubtful: float,  # an error from which a cell says little about the light
    least: float,  # a gain
    most: float,
    prior: float,  # how much the whole face's gain counts
    fewest: float,  # share of the cells: with less of them next to nothing agrees
) -> bool:
    """One round of telling the person's light over the reconstruction's; False where nothing is written."""
    _check_sizes(out, seen, drawn, face, gain)
    error = _blur(np.abs(seen - gain * drawn).max(axis=0), near)
    weight = face * np.exp(-((error / np.float32(doubtful)) ** 2))
    if weight.sum() < fewest * weight.size:
        return False
    seen_there, drawn_there = weight * seen, weight * drawn
    whole = seen_there.sum(axis=(1, 2)) / np.maximum(drawn_there.sum(axis=(1, 2)), 1e-3)
    known = np.float32(prior) * np.clip(whole, least, most)[:, None, None]
    told = (_blur(seen_there, reach) + known) / (_blur(drawn_there, reach) + np.float32(prior))
    out[:] = np.clip(told, least, most)
    return True


def agree(
    usual: _Maps,  # [3,n,n], written: the error that lasts
    varied: _Maps,  # [n,n], written: mean square of what is not usual
    shown: _Maps,  # [n,n], written, 0..1: how much agrees, steadily
    error: _Maps,  # [3,n,n]: camera minus reconstruction
    face: _Maps,  # [n,n] 0..1
    usual_before: _Maps,
    varied_before: _Maps,
    shown_before: _Maps,
    familiar: float,  # 0..1: how well the face is known
    learnt: float,  # 0..1: how far what is usual goes towards this error, where it agrees
    cover: float,  # 0..1: how far what is shown goes towards what agrees, where that is little
    uncover: float,  # 0..1: and elsewhere
    near: float,  # width over which errors count together
    unknown: float,  # an error from which something else is seen
    known: float,  # the same once the usual one is known
    varied_share: float,  # of how much the error varies there, so much more
    unsure: float,  # of such an error: so much less, agreement begins to fade; so much more, it is gone
) -> None:
    """Where the camera sees what was reconstructed, and what is learnt from it."""
    _check_sizes(usual, varied, shown, error, face, usual_before, varied_before, shown_before)
    apart = _blur(np.abs(error - usual_before).max(axis=0), near)
    least = np.minimum(known + varied_share * np.sqrt(varied_before), unknown)
    foreign = unknown + (least - unknown) * familiar * face
    agreement = 1 - ramp((apart / foreign - (1 - unsure)) / (2 * unsure))
    learning = agreement * learnt
    usual[:] = usual_before + learning * (error - usual_before)
    varied[:] = varied_before + learning * (apart * apart - varied_before)
    share = np.where(agreement < np.minimum(shown_before, 0.5), np.float32(cover), np.float32(uncover))
    shown[:] = shown_before + share * (agreement - shown_before)


def covered(
    out: _Maps,  # [n,n], written, 0..1
    change: _Maps,  # [3,n,n]: what would be added
    drawn: _Maps,  # [3,n,n] 0..2: to what
    near: float,  # width over which changes count together
    darkest: float,  # less light is not told from none
) -> None:
    """How much of what is there a change hides, at least: what it takes of any channel's light."""
    _check_sizes(out, change, drawn)
    left = _blur(change, near) / np.maximum(drawn, np.float32(darkest))
    out[:] = np.minimum(np.maximum((-left).max(axis=0), 0), 1)


def reachable(
    out: _Maps,  # [3,n,n], written: as a share of ``change``
    change: _Maps,  # [3,n,n]: what would be added
    missing: _Maps,  # [3,n,n]: from the camera's cells to the edited picture's
    hidden: _Maps,  # [n,n] 0..1
    skin: _Maps,  # [n,n] 0..1: where it shows through
    near: float,  # width over which changes count together
    most: float,
    sheer: float,  # of what is hidden on skin: so much of the skin is seen through the darkest changes
    begins: float,  # 0..1, hidden at most: from where on a change is sheer ...
    ends: float,  # ... and from where on it is so entirely
) -> None:
    """What of a change leads to the edited picture's color; what is hidden takes its own error along."""
    _check_sizes(out, change, missing, hidden, skin)
    known = np.float32(1e-3)  # where nothing changes, all of it
    share = (_blur(change * missing, near) + known) / (_blur(change * change, near) + known)
    share = np.where(share < 1, share, np.minimum(1 + hidden * (share - 1), np.float32(most)))
    on_skin = hidden * skin
    through = np.float32(sheer * float(ramp((_nearly_most(on_skin) - begins) / (ends - begins))))
    out[:] = np.maximum(share, 0) * (1 - through * on_skin)


def strength(
    out: _Maps,  # [n,n], written, 0..1
    amplitude: _Maps,  # [n,n] 0..2: the largest change in each cell
    near: float,  # width over which changes count together
    least: float,  # 0..2: below are leaks
    share: float,  # of the largest changes: below are leaks
    sure: float,  # share of a leak that is one
) -> None:
    """0 for small differences, 1 from twice a leak on."""
    _check_sizes(out, amplitude)
    smooth = _blur(amplitude, near)
    leak = sure * max(least, share * _nearly_most(smooth))
    out[:] = ramp((smooth - leak) / leak)


def belonging(
    out: _Maps,  # [n,n], written, 0..1
    strong: _Maps,  # [n,n] 0..1, as of :func:`strength`
    amplitude: _Maps,  # [n,n] 0..2
    face: _Maps,  # [n,n] 0..1
    near: _Maps,  # [n,n] 0..1: the face, and where what is on it may reach
    inside_from: float,  # of the change, what is inside the face: an edit begins to be of something on it ...
    inside_to: float,  # ... and is
    whole_from: float,  # of the face, what changes: an edit begins to be of all of it ...
    whole_to: float,  # ... and is
) -> None:
    """``near`` for an edit of something on the face, 1 for one of hair, skin or all there is."""
    _check_sizes(out, strong, amplitude, face, near)
    changed = amplitude * strong
    inside = float((changed * face).sum() / max(float(changed.sum()), 1e-6))
    whole = float((strong * face).sum() / max(float(face.sum()), 1e-6))
    on_face = ramp((inside - inside_from) / (inside_to - inside_from))
    part = 1 - ramp((whole - whole_from) / (whole_to - whole_from))
    out[:] = 1 - on_face * part * (1 - near)


def amounts(
    out: _Maps,  # [3,n,n], written: by which a change is multiplied
    gain: _Maps,  # [3,n,n]
    limit: _Maps,  # [3,n,n], as of :func:`reachable`
    strong: _Maps,  # [n,n] 0..1, as of :func:`strength`
    belonging: _Maps,  # [n,n] 0..1
    agreement: _Maps,  # [n,n] 0..1
    window: _Maps,  # [n,n] 0..1: the square, fading at its edges
    flow: _Maps | None,  # [2,n,n] x, y: how far what is shown has come; None: nowhere
    inside: _Maps | None,  # [n,n] 0..1: where nothing of the person's is to be reached; with a flow
    far: float,  # from half of it on such a movement leaves the limit behind
) -> None:
    """``gain * limit`` as far as all maps say; what has moved away from what was there has no limit."""
    _check_sizes(out, gain, limit, strong, belonging, agreement, window)
    if (flow is None) != (inside is None):
        raise ValueError("expected flow and inside together, or none of them")
    if flow is not None and inside is not None:
        _check_sizes(out, flow, inside)
        gone = ramp(np.sqrt((flow * flow).sum(axis=0)) / np.float32(far) - np.float32(0.5))
        limit = limit + (1 - limit) * np.maximum(inside, gone)
    out[:] = gain * limit * (strong * belonging * agreement * window)


def _check_sizes(*maps: _Maps) -> None:
    for one in maps:
        if one.shape[-1] != one.shape[-2] or one.shape[-1] == 0:
            raise ValueError("maps must be square and not empty")
        if one.shape[-1] != maps[0].shape[-1]:
            raise ValueError("maps must be of one size")


def _blur(maps: _Maps, sigma: float) -> _Maps:
    if not sigma > 0:
        raise ValueError("a blur's width must be above 0")
    down, across = _gaussian(maps.shape[-1], sigma)
    return np.asarray(down @ maps @ across, np.float32)


@lru_cache(maxsize=32)
def _gaussian(cells: int, sigma: float) -> tuple[_Maps, _Maps]:
    """[cells,cells] each: what a cell takes of those above and below it, and of those beside it."""
    spread = sigma * cells / CELLS
    apart = np.arange(cells) - np.arange(cells)[:, None]
    weights = np.exp(-0.5 * (apart / spread) ** 2)
    weights[np.abs(apart) > math.ceil(4 * spread)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    down = np.asarray(weights, np.float32)
    return down, np.ascontiguousarray(down.T)


def _nearly_most(cells: _Maps) -> float:
    """What 98 % of a smooth map's cells are below; every fourth of them tells it."""
    return float(ranked(cells[::2, ::2].ravel(), 0.98))
