"""Edits that take color away and bring none, as grey does: a person's own hue fades, and no other one comes.

A generator's grey is a step from its own color of hair. Added to somebody else's it would leave what is
between the two: blue on black hair, purple on brown. So of such an edit only the light is added, and as much
of the person's hue is taken away as the picture loses of its own.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .. import native
from ..types import Floats

TINT: Final = 0.25  # of the light's color, which is read from skin: all of it looks dyed
_DARKEST: Final = 0.2  # of the light: what is less tells no color


def paler(light: Floats) -> Floats:
    """Light [3,n,n] with less of its color."""
    return np.asarray(light - (1 - TINT) * hue_of(light), np.float32)


def own_hue(seen: Floats, light: Floats) -> Floats:
    """float32 [3,n,n]: the person's hue in the generator's light, of the camera's cells [3,n,n] 0..2."""
    color = np.minimum(seen / np.maximum(light, _DARKEST), 2)
    return np.ascontiguousarray(hue_of(color), np.float32)


def hue_of(cells: Floats) -> Floats:
    """[3,n,n]: what colors differ by from their luma."""
    return np.asarray(cells - np.tensordot(native.reference.LUMA, cells, 1), np.float32)
