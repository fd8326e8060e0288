"""Pose and movements as read from landmarks, on a made-up head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from doppelgan.runtime.track import expression
from doppelgan.runtime.types import Face

from .painted_faces import TEMPLATE


def head(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, size: float = 50.0) -> Face:
    """The template turned: first up by pitch, then toward picture right by yaw, then clockwise by roll."""
    points = TEMPLATE.copy()
    c, s = math.cos(pitch), math.sin(pitch)
    points = points @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = math.cos(yaw), math.sin(yaw)
    points = points @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = math.cos(roll), math.sin(roll)
    points = points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return Face(0, (points * size + (300, 200, 0)).astype(np.float32), 1.0)


def test_pose_is_read_from_landmarks() -> None:
    rest = expression(head())
    assert abs(rest.yaw) < 1e-6
    assert abs(rest.roll) < 1e-6
    for name in ("yaw", "pitch", "roll"):
        for angle in (-0.5, 0.3):
            pose = expression(head(**{name: angle}))
            assert getattr(pose, name) - getattr(rest, name) == pytest.approx(angle, abs=1e-4)


def test_signs_of_pose() -> None:
    nose = head().landmarks[1]
    assert head(yaw=0.4).landmarks[1, 0] > nose[0], "yaw > 0 points the nose to the right of the picture"
    assert head(pitch=0.4).landmarks[1, 1] < nose[1], "pitch > 0 points it up"
    eyes = head(roll=0.4).landmarks[[33, 263]]
    assert eyes[1, 1] > eyes[0, 1], "roll > 0 is clockwise as seen"


def test_movements_do_not_depend_on_size_or_pose() -> None:
    rest = expression(head())
    turned = expression(head(yaw=0.4, pitch=-0.2, roll=0.7, size=13.0))
    for name in ("mouth_open", "smile", "eye_open_right", "eye_open_left", "brow_right", "brow_left"):
        assert getattr(turned, name) == pytest.approx(getattr(rest, name), abs=1e-4), name


def test_movements_are_told_apart() -> None:
    rest = expression(head())

    def moved(changes: Mapping[tuple[int, ...], tuple[float, float]]) -> Any:
        face = head()
        for indices, (dx, dy) in changes.items():
            face.landmarks[list(indices), :2] += np.array([dx, dy], np.float32)
        return expression(face)

    assert moved({(14, 87, 317): (0, 20)}).mouth_open == pytest.approx(rest.mouth_open + 0.2, abs=1e-4)
    assert moved({(61,): (-5, -5), (291,): (5, -5)}).smile > rest.smile + 0.1
    blink = moved({(160, 159, 158): (0, 10)})
    assert blink.eye_open_right == pytest.approx(0.0, abs=1e-4)
    assert blink.eye_open_left == rest.eye_open_left
    blink = moved({(373, 374, 380): (0, -10)})
    assert blink.eye_open_left == pytest.approx(0.0, abs=1e-4)
    assert blink.eye_open_right == rest.eye_open_right
    brow = moved({(300, 293, 334, 296, 336): (0, -10)})
    assert brow.brow_left == pytest.approx(rest.brow_left + 0.1, abs=1e-4)
    assert brow.brow_right == rest.brow_right
