"""Head pose and the main movements of a face, from its landmarks alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..types import Face

# Pairs (person's right, person's left) on parts of the head that expressions hardly move.
_SYMMETRIC: Final = np.array(
    [(33, 263), (133, 362), (127, 356), (234, 454), (162, 389), (21, 251), (54, 284), (93, 323), (168, 168)]
)
_TOP: Final = (10, 109, 338, 151)  # forehead
_BASE: Final = (2, 98, 327, 94)  # under the nose
_SMILE_AT_REST: Final = 0.5  # width of a relaxed mouth and height of its corners, summed


@dataclass(frozen=True, slots=True)
class Expression:
    """What a face does; right and left are the person's own.

    Radians. yaw: > 0 toward the right of the picture. pitch: > 0 up. roll: > 0 clockwise as seen.
    The rest is in distances between the outer eye corners (about 9 cm), freed of size and pose:
    mouth_open: gap between the lips, 0 closed. smile: corners wide and raised, near 0 at rest.
    eye_open_*: gap between the lids, near 0 closed. brow_*: height of the brow above the eye.
    """

    yaw: float
    pitch: float
    roll: float
    mouth_open: float
    smile: float
    eye_open_right: float
    eye_open_left: float
    brow_right: float
    brow_left: float


def head_axes(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """float64 [3,3]: rows are the head's own left, down and back, in frame axes (x right, y down, z away)."""
    points = points.astype(np.float64)
    across = (points[_SYMMETRIC[:, 1]] - points[_SYMMETRIC[:, 0]]).sum(axis=0)
    down = points[list(_BASE)].mean(axis=0) - points[list(_TOP)].mean(axis=0)
    x = across / max(float(np.linalg.norm(across)), 1e-9)
    down = down - x * (down @ x)
    y = down / max(float(np.linalg.norm(down)), 1e-9)
    axes: NDArray[np.float64] = np.stack([x, y, np.cross(x, y)])
    return axes


def expression(face: Face) -> Expression:
    """Pose and movements of a face."""
    axes = head_axes(face.landmarks)
    x, z = axes[0], axes[2]
    turned = face.landmarks.astype(np.float64) @ axes.T
    turned /= max(float(np.linalg.norm(turned[263] - turned[33])), 1e-6)

    def at(*indices: int) -> NDArray[np.float64]:
        return np.asarray(turned[list(indices)].mean(axis=0))

    corners = at(61, 291)
    width = float(np.linalg.norm(turned[291, :2] - turned[61, :2]))
    lift = float(at(0, 13)[1] - corners[1])
    return Expression(
        # The head's front points along -z: its picture-right share is yaw, its upward share pitch.
        yaw=math.atan2(-z[0], z[2]),
        pitch=math.asin(max(-1.0, min(1.0, z[1]))),
        roll=math.atan2(x[1], x[0]),
        mouth_open=float(at(14, 87, 317)[1] - at(13, 82, 312)[1]),
        smile=width + lift - _SMILE_AT_REST,
        eye_open_right=float(at(144, 145, 153)[1] - at(160, 159, 158)[1]),
        eye_open_left=float(at(373, 374, 380)[1] - at(387, 386, 385)[1]),
        brow_right=float(at(33, 133)[1] - at(70, 63, 105, 66, 107)[1]),
        brow_left=float(at(263, 362)[1] - at(300, 293, 334, 296, 336)[1]),
    )
