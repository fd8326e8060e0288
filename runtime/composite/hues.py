"""Edits that take color away and bring none, as grey does: a person's own hue fades, and no other one comes.

A generator's grey is a step from its own color of hair. Added to somebody else's it would leave what is
between the two: blue on black hair, purple on brown. So of such an edit only the light is added, and each of
the person's pixels loses as much of its own hue as the picture loses of its own there.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .. import native
from ..types import Floats

TINT: Final = 0.25  # of the light's color, which is read from skin: all of it looks dyed
_NO_HUE: Final = np.float32(1e-3)  # squared: a hue so small is as good as none


def paler(light: Floats) -> Floats:
    """Light [3,n,n] with less of its color."""
    return np.asarray(light - (1 - TINT) * hue_of(light), np.float32)


def gone(before: Floats, after: Floats) -> Floats:
    """float32 [n,n] 0..1: how much of its hue a color [3,n,n] has lost; another hue than it had is none."""
    own, left = hue_of(before), hue_of(after)
    kept = ((own * left).sum(axis=0) + _NO_HUE) / ((own * own).sum(axis=0) + _NO_HUE)
    return np.asarray(1 - np.minimum(np.maximum(kept, 0), 1), np.float32)


def hue_of(cells: Floats) -> Floats:
    """[3,n,n]: what colors differ by from their luma."""
    return np.asarray(cells - luma_of(cells), np.float32)


def luma_of(cells: Floats) -> Floats:
    """[n,n] of RGB [3,n,n]."""
    return np.asarray((native.reference.LUMA @ cells.reshape(3, -1)).reshape(cells.shape[1:]), np.float32)
