"""Values are checked where they are made, and say what was expected."""

from __future__ import annotations

import numpy as np
import pytest
from doppelgan.runtime.face_mesh import LEFT_EYE, MOUTH_CORNERS, N_POINTS, RIGHT_EYE
from doppelgan.runtime.types import Crop, Face, Frame


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4), np.uint8), r"got uint8 \[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"got uint8 \[4, 4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), "got float32"),
        (np.zeros((1, 4, 3), np.uint8), "at least 2x2"),
        ([[0]], "got list"),
    ],
)
def test_frame_takes_bgr_uint8_only(image, words) -> None:
    with pytest.raises(ValueError, match=words):
        Frame(image, 0, 0.0)


def test_face_gives_eye_centers_mouth_corners_and_box() -> None:
    landmarks = np.zeros((N_POINTS, 3), np.float32)
    landmarks[list(RIGHT_EYE)] = [10, 20, 0]
    landmarks[list(LEFT_EYE)] = [30, 22, 0]
    landmarks[MOUTH_CORNERS[0]] = [12, 40, 0]
    landmarks[MOUTH_CORNERS[1]] = [28, 41, 5]
    face = Face(1, landmarks, 1.0)
    np.testing.assert_allclose(face.eyes_mouth, [[10, 20], [30, 22], [12, 40], [28, 41]])
    np.testing.assert_allclose(face.box, [0, 0, 30, 41])


def test_face_and_crop_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"got \[468, 2\]"):
        Face(1, np.zeros((468, 2), np.float32), 1.0)
    with pytest.raises(ValueError, match=r"\[1,3,S,S\]"):
        Crop(np.zeros((3, 8, 8), np.float32), np.zeros((2, 3)), np.zeros((468, 3), np.float32))
    with pytest.raises(ValueError, match=r"\[2,3\]"):
        Crop(np.zeros((1, 3, 8, 8), np.float32), np.zeros((3, 3)), np.zeros((468, 3), np.float32))
