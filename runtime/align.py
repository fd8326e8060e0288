"""Face points -> the FFHQ square -> the crop that the encoders were trained on, and the way back.

The square is FFHQ's: built from the eye centers and mouth corners, it turns with the head and grows with
the larger of the distances eye-eye and eye-mouth. It maps to the crop by an exact similarity, so its inverse
is exact too. Steadiness over time is the tracker's job: nothing is smoothed here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from . import native
from .types import Crop, Face, Floats, Image, Matrix


def ffhq_square(
    eyes_mouth: ArrayLike,  # [4,2] px: eye centers (image left, right), mouth corners (left, right)
) -> Matrix:
    """float64 [4,2]: the corners top left, bottom left, bottom right, top right as the *face* sees them.

    Raises ValueError when the points coincide or are not finite: no square can be built from them.
    """
    points = np.asarray(eyes_mouth, np.float64)
    if points.shape != (4, 2):
        raise ValueError(f"eyes_mouth: expected [4,2] (two eyes, mouth corners), got {list(points.shape)}")
    # Complex numbers: a quarter turn is a factor of i.
    left_eye, right_eye, left_mouth, right_mouth = (complex(x, y) for x, y in points.tolist())

    # From eye to eye and from the eyes to the mouth; either may be foreshortened: the longer sets the size.
    eyes = (left_eye + right_eye) / 2
    eye_to_eye = right_eye - left_eye
    eye_to_mouth = (left_mouth + right_mouth) / 2 - eyes
    x = eye_to_eye - 1j * eye_to_mouth
    length = abs(x)
    if not 1e-6 < length < math.inf:
        raise ValueError("eyes_mouth: expected four distinct, finite points, got none that span a face")
    x *= max(2.0 * abs(eye_to_eye), 1.8 * abs(eye_to_mouth)) / length
    y = 1j * x

    center = eyes + 0.1 * eye_to_mouth
    corners = (center - x - y, center - x + y, center + x + y, center + x - y)
    return np.array([(corner.real, corner.imag) for corner in corners])


def crop_matrix(
    square: ArrayLike,  # [4,2] px, as from ffhq_square
    size: int,  # of the crop
) -> Matrix:
    """float64 [2,3]: crop pixel -> frame pixel.

    The center of crop pixel (row i, column j) sits at ((j+.5)/size, (i+.5)/size) of the square.
    """
    top_left, bottom_left, _, top_right = np.asarray(square, np.float64)
    x, y = (top_right - top_left) / size, (bottom_left - top_left) / size
    return np.stack([x, y, top_left + 0.5 * (x + y)], axis=1)


def invert(matrix: Matrix) -> Matrix:
    """The inverse of an affine map, float64 [2,3]."""
    (a, b, x), (c, d, y) = matrix.tolist()
    det = a * d - b * c
    if det == 0:
        raise ValueError("matrix: expected an invertible affine map, got one that flattens the plane")
    a, b, c, d = d / det, -b / det, -c / det, a / det
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def align(
    image: Image,  # BGR uint8 [H,W,3]
    face: Face,
    size: int,  # of the crop, px
) -> Crop:
    """Cut the face out of the picture: upright, FFHQ-framed, reflected where its square leaves the picture.

    ``crop.landmarks`` are the face's in crop pixels, depth in the same scale.
    """
    matrix = crop_matrix(ffhq_square(face.eyes_mouth), size)
    pixels = np.empty((1, 3, size, size), np.float32)
    native.warp_crop(np.ascontiguousarray(image), matrix, pixels[0], native.THREADS)
    return Crop(pixels=pixels, matrix=matrix, landmarks=_into_crop(face.landmarks, matrix))


def _into_crop(landmarks: Floats, matrix: Matrix) -> Floats:
    inverse = invert(matrix)
    scale = math.hypot(inverse[0, 0], inverse[1, 0])
    moved = np.empty_like(landmarks, dtype=np.float32)
    moved[:, :2] = landmarks[:, :2] @ inverse[:, :2].T + inverse[:, 2]
    moved[:, 2] = landmarks[:, 2] * scale
    return moved
