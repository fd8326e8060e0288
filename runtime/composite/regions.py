"""Soft convex regions of the aligned square, and the square itself at another size."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np

from .. import native
from ..types import Floats, Matrix

_ANGLES: Final = np.arange(32) * (2 * math.pi / 32)
DIRECTIONS: Final = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)])  # [2,32]
DOWN, UP = 8, 24  # of DIRECTIONS; y grows downward


def reach_of(points: Matrix) -> Matrix:
    """[32]: how far points [n,2] reach from the origin in each of DIRECTIONS."""
    return np.asarray((points @ DIRECTIONS).max(axis=0))


def draw_region(
    size: int,
    middle: Matrix,  # [2] px
    reach: Matrix,  # [32] px, from the middle to the edge's tangent
    width: float,  # px, half of the edge's
    fade: Floats,  # [size], of each column and row
) -> Floats:
    """float32 [size,size]: 1 inside, falling smoothly to 0 around the edge."""
    lines = np.empty((len(reach), 3), np.float32)
    lines[:, :2] = DIRECTIONS.T
    lines[:, 2] = reach + middle @ DIRECTIONS
    mask = np.empty((size, size), np.float32)
    native.soft_region(mask, lines, fade, width, native.THREADS)
    return mask


@lru_cache(maxsize=16)
def fade_of(share: float, size: int) -> Floats:
    """[size]: 1, falling smoothly to 0 over the outer `share` at both ends; kept, so not to be written to."""
    position = (np.arange(size, dtype=np.float32) + 0.5) / size
    ramp = np.clip(np.minimum(position, 1 - position) / max(share, 1e-6), 0, 1)
    fade: Floats = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    fade.flags.writeable = False
    return fade


@lru_cache(maxsize=16)
def window_of(share: float, size: int) -> Floats:
    """[size,size]: :func:`fade_of` of rows and columns; kept, so not to be written to."""
    window: Floats = np.outer(fade_of(share, size), fade_of(share, size))
    window.flags.writeable = False
    return window


def rescaled(matrix: Matrix, size: int, new_size: int) -> Matrix:
    """The same square for a picture of another size."""
    ratio = size / new_size
    scaled = matrix * (ratio, ratio, 1.0)
    scaled[:, 2] += (0.5 * ratio - 0.5) * (matrix[:, 0] + matrix[:, 1])
    return scaled
