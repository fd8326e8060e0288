"""From projected eyes and mouth to a camera that sees exactly the FFHQ square.

The picture plane is at distance 1: u = x / depth to the right, v = y / depth upwards, for a camera at `position` that looks
along -z. The FFHQ square is a similarity in that plane, so roll, focal length and lens shift reproduce it without resampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FACE_DEPTH = 1.3
"""z of the face, in decimetres."""

SAMPLES = 4
"""Light paths per pixel of the natural look. Fewer leave more to the denoiser, which takes strands of hair for noise."""


@dataclass(frozen=True)
class View:
    """A camera looking along -z, rolled by `roll` (counter-clockwise), seeing the square `center` +- `half` in its plane.

    The frame is `2 half` wide and `2 half / aspect` high.
    """

    position: np.ndarray
    center: np.ndarray
    half: float
    roll: float = 0.0
    aspect: float = 1.0

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points [n, 3] -> frame coordinates [n, 2], 0..1, x right, y down."""
        plane = self.plane(points) - self.center
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        across = plane[:, 0] * cos + plane[:, 1] * sin
        up = -plane[:, 0] * sin + plane[:, 1] * cos
        return np.stack([0.5 + across / (2 * self.half), 0.5 - up / (2 * self.half) * self.aspect], 1)

    def plane(self, points: np.ndarray) -> np.ndarray:
        """World points [n, 3] -> picture plane [n, 2], v upwards."""
        relative = np.atleast_2d(points) - self.position
        return relative[:, :2] / -relative[:, 2:]

    @property
    def width_dm(self) -> float:
        """Width of what the frame shows at the distance of the face."""
        return float(2 * self.half * (self.position[2] - _FACE_DEPTH))

    @property
    def shift(self) -> np.ndarray:
        """Blender's lens shift [2]: the frame's center in the rolled camera, in frame widths."""
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        x, y = self.center
        return np.array([x * cos + y * sin, -x * sin + y * cos]) / (2 * self.half)


def ffhq_view(position: np.ndarray, eyes: np.ndarray, mouth_corners: np.ndarray) -> View:
    """The FFHQ crop for eye centres [2, 3] and mouth corners [2, 3], each with the picture's left one first."""
    flat = View(position, np.zeros(2), 1.0)
    flip = np.array([1.0, -1.0])
    eye = flat.plane(eyes) * flip
    mouth = flat.plane(mouth_corners) * flip
    middle = eye.mean(0)
    eye_to_eye = eye[1] - eye[0]
    eye_to_mouth = mouth.mean(0) - middle
    x = eye_to_eye - np.array([-eye_to_mouth[1], eye_to_mouth[0]])
    x /= np.linalg.norm(x)
    half = max(2 * np.linalg.norm(eye_to_eye), 1.8 * np.linalg.norm(eye_to_mouth))
    center = middle + 0.1 * eye_to_mouth
    return View(position, center * flip, float(half), roll=float(np.arctan2(-x[1], x[0])))
