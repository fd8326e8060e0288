"""The square of the frame that a network looks at, and the way back from what it saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from .types import Floats, Image, Matrix

_EYE_CORNERS: Final = (33, 263)
_FOREHEAD_CHIN: Final = (10, 152)
MARGIN: Final = 1.5  # side of a region over the extent of the face in it, as the network was trained
_SMALLEST_PX: Final = 12.0  # a region below this holds no face that landmarks could follow
_TO_SIGNED: Final = (np.arange(256) / 127.5 - 1).astype(np.float32)  # uint8 -> -1..1


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
        xy = points[:, :2].astype(np.float64)
        # Eye line and turned face height add up: in profile the first shrinks and the second leads.
        across = xy[_EYE_CORNERS[1]] - xy[_EYE_CORNERS[0]]
        down = xy[_FOREHEAD_CHIN[1]] - xy[_FOREHEAD_CHIN[0]]
        angle = math.atan2(across[1] - down[0], across[0] + down[1])
        axes = _axes(angle)
        turned = xy @ axes.T
        low, high = turned.min(0), turned.max(0)
        x, y = (low + high) / 2 @ axes
        return cls(float(x), float(y), MARGIN * float((high - low).max()), angle)

    def matrix(self, size: int) -> Matrix:
        """float64 [2,3]: pixel of a size x size look at this region -> frame pixel (centers at integers)."""
        scale = self.side / size
        turn = _axes(self.angle).T * scale
        corner = np.array([self.x, self.y]) + turn @ np.full(2, 0.5 - size / 2)
        return np.column_stack([turn, corner])

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


def _axes(angle: float) -> Matrix:
    """[2,2]: rows are the right and down directions of a region at that angle."""
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def look(image: Image, region: Region, size: int, border: int = cv2.BORDER_REPLICATE) -> Floats:
    """The region as network input: RGB float32 [1,3,size,size], -1..1."""
    matrix = region.matrix(size)
    shrink = min(int(region.side / size), *image.shape[:2])
    if shrink >= 2:
        image, matrix = _shrunk(image, region, matrix, shrink)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=border)
    planes = np.empty((1, 3, size, size), np.float32)
    for plane, channel in zip(planes[0], cv2.split(crop)[::-1], strict=True):
        cv2.LUT(channel, _TO_SIGNED, plane)
    return planes


def _shrunk(image: Image, region: Region, matrix: Matrix, shrink: int) -> tuple[Image, Matrix]:
    """The part of the frame around a region, averaged over shrink x shrink pixels, and the matrix into it."""
    reach = region.side / 2 * (abs(math.cos(region.angle)) + abs(math.sin(region.angle))) + shrink
    corner, cells = [], []
    for middle, length in zip((region.x, region.y), image.shape[1::-1], strict=True):
        first = min(max(int(middle - reach), 0), length - shrink)
        last = min(max(int(middle + reach) + 1, first + shrink), length)
        corner.append(first)
        # Whole cells only, several times as fast; at most a cell less at the end.
        cells.append((last - first) // shrink)
    (x0, y0), (columns, rows) = corner, cells
    part = image[y0 : y0 + rows * shrink, x0 : x0 + columns * shrink]
    small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    matrix = matrix.copy()
    matrix[:, 2] += 0.5 - np.array(corner)
    matrix /= shrink
    matrix[:, 2] -= 0.5
    return np.asarray(small, np.uint8), matrix


def place(points: Floats, region: Region, size: int) -> Floats:
    """Points [..., 2 or 3] of a size x size look at ``region`` -> frame pixels; z is scaled as x and y."""
    offsets = (points[..., :2] / size - 0.5) * region.side
    xy = offsets @ _axes(region.angle) + (region.x, region.y)
    return np.concatenate([xy, points[..., 2:] * (region.side / size)], axis=-1).astype(np.float32)
