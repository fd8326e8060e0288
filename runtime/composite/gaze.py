"""Another look of a person's own eyes: their pixels move between the lids, and nothing else does."""

from __future__ import annotations

from typing import Final

import numpy as np

from .. import native
from ..face_mesh import LEFT_EYE, RIGHT_EYE
from ..types import Crop, Floats, Image, Matrix
from .masks import ramp
from .regions import rescaled

SIZE: Final = 256  # px of the square's side, in which eyes move
CELLS: Final = 128
OPEN: Final = (0.10, 0.22)  # height of an eye over its width: closed, and nothing moves; open
FARTHEST: Final = 0.3  # of an eye's width: no iris moves further
_CORNERS: Final = (0, 8)  # of an eye's ring


def move_irises(
    frame: Image,  # BGR uint8 [H,W,3]; changed in place
    crop: Crop,  # the aligned square
    by: Floats | Matrix,  # [2]: x, y in shares of the square's side
) -> Image:
    """Shift what is between the lids of both eyes, less towards lids and corners; returns ``frame``."""
    points = (crop.landmarks[:, :2].astype(np.float64) + 0.5) * (CELLS / crop.size) - 0.5
    flow = iris_flow(points, np.asarray(by, np.float64) * CELLS, CELLS) * np.float32(SIZE / CELLS)
    if np.abs(flow).max() < native.reference.STILL:
        return frame
    nothing, none = np.zeros((3, SIZE, SIZE), np.float32), np.zeros((3, CELLS, CELLS), np.float32)
    matrix = rescaled(crop.matrix, crop.size, SIZE)
    native.add_difference(frame, nothing, none, np.ascontiguousarray(flow), matrix, native.THREADS)
    return frame


def iris_flow(points: Matrix, by: Matrix, size: int) -> Floats:
    """float32 [2,size,size]: how far each place between the lids of a mesh [468,2] moves, in its pixels.

    All of ``by`` [2] in an eye's middle, nothing at its corners and lids, so that neither skin nor lashes are
    drawn in; nothing in a closed eye.
    """
    flow = np.zeros((2, size, size), np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    for ring in (RIGHT_EYE, LEFT_EYE):
        eye = points[list(ring)]
        first, last = eye[list(_CORNERS)]
        half = float(np.hypot(*(last - first))) / 2
        if half < 0.5:
            continue
        along = (last - first) / (2 * half)
        across = np.array([-along[1], along[0]])
        middle = (first + last) / 2
        off = (eye - middle) @ across
        over, under = float(off.max()), float(-off.min())
        center, reach = (over - under) / 2, (over + under) / 2
        awake = float(ramp(np.float64((reach / half - OPEN[0]) / (OPEN[1] - OPEN[0]))))
        if awake <= 0:
            continue
        t = ((x - middle[0]) * along[0] + (y - middle[1]) * along[1]) / half
        s = ((x - middle[0]) * across[0] + (y - middle[1]) * across[1] - center) / reach
        inside = np.maximum(1 - t * t, 0)
        lid = np.maximum(inside - s * s, 0)  # the lids' arcs
        step = by * min(1.0, FARTHEST * 2 * half / max(float(np.hypot(*by)), 1e-9)) * awake
        sideways = inside * ramp(lid / 0.25)
        upright = lid
        move = (step @ along) * sideways[..., None] * along + (step @ across) * upright[..., None] * across
        flow += move.transpose(2, 0, 1).astype(np.float32)
    return flow
