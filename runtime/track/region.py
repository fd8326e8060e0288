"""The square of the frame that a network looks at, and the way back from what it saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from .. import native
from ..types import Floats, Image, Matrix

_EYE_CORNERS: Final = (33, 263)
_FOREHEAD_CHIN: Final = (10, 152)
MARGIN: Final = 1.5  # side of a region over the extent of the face in it, as the network was trained
_SMALLEST_PX: Final = 12.0  # a region below this holds no face that landmarks could follow


@dataclass(frozen=True, slots=True)
class Region:
    """A square in the frame: center (px), side (px), angle (radians, clockwise as seen)."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    @classmethod
    def around(cls, points: Floats) -> Region:
        """The region of landmarks [P,3]: square around them in the head's own axes, with margin."""
        # Eye line and turned face height add up: in profile the first shrinks and the second leads.
        (x0, y0), (x1, y1) = points[_EYE_CORNERS, :2].tolist()
        (x2, y2), (x3, y3) = points[_FOREHEAD_CHIN, :2].tolist()
        angle = math.atan2((y1 - y0) - (x3 - x2), (x1 - x0) + (y3 - y2))
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = points[:, :2].T.astype(np.float64)
        across, down = x * cos + y * sin, y * cos - x * sin
        left, right, top, bottom = (float(v) for v in (across.min(), across.max(), down.min(), down.max()))
        u, v = (left + right) / 2, (top + bottom) / 2
        side = MARGIN * max(right - left, bottom - top)
        return cls(u * cos - v * sin, u * sin + v * cos, side, angle)

    def matrix(self, size: int) -> Matrix:
        """float64 [2,3]: pixel of a size x size look at this region -> frame pixel (centers at integers)."""
        cos, sin = (self.side / size * v for v in (math.cos(self.angle), math.sin(self.angle)))
        middle = 0.5 - size / 2
        x, y = self.x + middle * (cos - sin), self.y + middle * (sin + cos)
        return np.array([[cos, -sin, x], [sin, cos, y]])

    def usable(self, image: Image) -> bool:
        """Big enough, not absurdly big, and its center inside the frame."""
        height, width = image.shape[:2]
        inside = 0 <= self.x < width and 0 <= self.y < height
        return bool(inside and _SMALLEST_PX <= self.side <= 4 * max(height, width))

    def close_to(self, other: Region) -> bool:
        """So alike that a second look would show the same landmarks."""
        turn = math.remainder(self.angle - other.angle, 2 * math.pi)
        shift = math.hypot(self.x - other.x, self.y - other.y)
        return abs(turn) < 0.05 and shift < 0.02 * self.side and 0.95 < self.side / other.side < 1.05


def look(image: Image, region: Region, size: int, border: native.Border = "repeat") -> Floats:
    """The region as network input: RGB float32 [1,3,size,size], -1..1; ``border`` lies around the frame."""
    planes = np.empty((1, 3, size, size), np.float32)
    matrix = region.matrix(size)
    native.warp_crop(np.ascontiguousarray(image), matrix, planes[0], native.THREADS, border)
    return planes


def place(points: Floats, region: Region, size: int) -> Floats:
    """Points [..., 2 or 3] of a size x size look at ``region`` -> frame pixels; z is scaled as x and y."""
    cos, sin = (region.side / size * v for v in (math.cos(region.angle), math.sin(region.angle)))
    u, v = points[..., 0] - size / 2, points[..., 1] - size / 2
    placed = np.empty(points.shape, np.float32)
    placed[..., 0] = u * cos - v * sin + region.x
    placed[..., 1] = u * sin + v * cos + region.y
    placed[..., 2:] = points[..., 2:] * (region.side / size)
    return placed
