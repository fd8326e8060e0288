"""Painted faces, and fake networks that read a red and a green dot: the person's right and left eye."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from doppelgan.runtime.backends.base import TensorSpec
from doppelgan.runtime.track import OneEuro, Tracker
from doppelgan.runtime.types import Face
from numpy.typing import NDArray

from tests.fake_session import FakeSession

SIZE = 96  # of what the fake networks see


def template() -> NDArray[np.float64]:
    """468 points of a made-up head: outer eye corners at x = -1 and 1, y = 0, some depth, mirrored pairs."""
    points = np.random.default_rng(7).uniform(-0.8, 0.8, (468, 3))
    points[:, 2] *= 0.3
    for right, left, x, y, z in [
        (33, 263, 1.0, 0.0, 0.0),
        (133, 362, 0.35, 0.0, -0.1),
        (127, 356, 1.6, -0.1, 0.9),
        (234, 454, 1.6, 0.3, 1.0),
        (162, 389, 1.5, -0.5, 0.8),
        (21, 251, 1.3, -0.8, 0.6),
        (54, 284, 1.1, -1.1, 0.4),
        (93, 323, 1.5, 0.7, 0.9),
        (109, 338, 0.5, -1.3, 0.0),
        (98, 327, 0.3, 0.9, 0.0),
        (61, 291, 0.55, 1.4, 0.0),
        *((r, f, 0.65, -0.1, 0.0) for r, f in [(160, 387), (159, 386), (158, 385)]),
        *((r, f, 0.65, 0.1, 0.0) for r, f in [(144, 373), (145, 374), (153, 380)]),
        *((r, f, 0.65, -0.5, 0.0) for r, f in [(70, 300), (63, 293), (105, 334), (66, 296), (107, 336)]),
        *((r, f, 0.1, 1.4, 0.0) for r, f in [(82, 312), (87, 317)]),
    ]:
        points[right], points[left] = (-x, y, z), (x, y, z)
    for middle, y in [
        (10, -1.5),
        (152, 2.0),
        (151, -1.1),
        (168, 0.0),
        (2, 0.9),
        (94, 0.9),
        (0, 1.3),
        (13, 1.4),
        (14, 1.4),
    ]:
        points[middle] = (0.0, y, 0.0)
    points[1] = (0.0, 0.6, -0.9)
    return points


TEMPLATE = template()


class Painted:
    """A face to paint: eye corners ``reach`` px either side of (x, y), turned by ``roll``."""

    def __init__(self, x: float, y: float, reach: float = 20.0, roll: float = 0.0) -> None:
        self.x, self.y, self.reach, self.roll = x, y, reach, roll

    def landmarks(self) -> NDArray[np.float64]:
        turn = np.array(
            [[math.cos(self.roll), math.sin(self.roll)], [-math.sin(self.roll), math.cos(self.roll)]]
        )
        xy = TEMPLATE[:, :2] * self.reach @ turn + (self.x, self.y)
        return np.column_stack([xy, TEMPLATE[:, 2] * self.reach])


def paint(
    faces: list[Painted], width: int = 480, height: int = 360, phantom: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """A gray picture; soft dots, so that their centers keep fractions of a pixel. A blue one is a phantom."""
    image = np.full((height, width, 3), 90, np.float64)
    spots = [
        (x, y, 0.2 * face.reach, channel)
        for face in faces
        for (x, y), channel in zip(face.landmarks()[[33, 263], :2], (2, 1), strict=True)
    ]
    spots += [(*phantom, 6.0, 0)] if phantom else []
    if spots:
        for x, y, sigma, channel in spots:
            columns = np.exp(-0.5 * ((np.arange(width) - x) / sigma) ** 2)
            rows = np.exp(-0.5 * ((np.arange(height) - y) / sigma) ** 2)
            image[..., channel] += 160 * np.outer(rows, columns)
    return np.clip(image, 0, 255).round().astype(np.uint8)


def dots(
    picture: NDArray[np.float32], channel: int, threshold: float = 0.15
) -> list[tuple[float, float, float]]:
    """(x, y, area) of the dots of one color in a network input [1,3,S,S], pixel edges at integers."""
    others = [c for c in range(3) if c != channel]
    strength = picture[0, channel] - picture[0, others].max(axis=0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((strength > threshold).astype(np.uint8))
    found = []
    for label in range(1, count):
        rows, columns = np.nonzero(labels == label)
        weights = strength[rows, columns] - threshold
        x, y = np.average(columns, weights=weights) + 0.5, np.average(rows, weights=weights) + 0.5
        found.append((float(x), float(y), float(stats[label, cv2.CC_STAT_AREA])))
    return found


class Networks:
    """A fake detector and a fake landmark network, with switches."""

    def __init__(self, *, smallest_eye_distance: float = 3.0) -> None:
        self.noise = np.random.default_rng(3)
        self.noise_px = 0.0
        self.blind = False
        self.detector_shift = 0.0  # of a box's side, to the right
        self.pull = 0.0  # landmarks run after a face that is off the middle of the look, by this share
        self.smallest = smallest_eye_distance
        self.fooled = False  # both see an upright face in an upside-down one; the detector less surely
        image = [TensorSpec("image", "float32", (1, 3, SIZE, SIZE))]
        boxes = [TensorSpec("boxes", "float32", (1, 12, 16)), TensorSpec("scores", "float32", (1, 12))]
        points = [TensorSpec("points", "float32", (1, 468, 3)), TensorSpec("score", "float32", (1, 1))]
        self.detector = FakeSession(image, boxes, self._detect)
        self.landmarks = FakeSession(image, points, self._measure)

    def _detect(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        boxes, scores = np.zeros((1, 12, 16), np.float32), np.zeros((1, 12), np.float32)
        row = 0
        for rx, ry, _ in dots(feeds["image"], 0):
            candidates = [(math.hypot(gx - rx, gy - ry), gx, gy) for gx, gy, _ in dots(feeds["image"], 1)]
            if not candidates or self.blind:
                continue
            distance, gx, gy = min(candidates)
            roll, surely = math.degrees(abs(math.atan2(gy - ry, gx - rx))), 1.0
            if self.fooled and roll > 130:
                rx, ry, gx, gy, roll, surely = gx, gy, rx, ry, 180 - roll, 0.7
            if distance < self.smallest or roll > 50:
                continue
            side = 1.6 * distance
            center = ((rx + gx) / 2 + self.detector_shift * side, (ry + gy) / 2 + 0.1 * side)
            # Twice, a little apart, as a real detector answers.
            for shift, score in ((0.0, 0.9), (0.05 * side, 0.7)):
                boxes[0, row] = [center[0] + shift, center[1], side, side, rx, ry, gx, gy, *[0.0] * 8]
                scores[0, row] = score * surely
                row += 1
        for rx, ry, gx, gy in self._phantom_eyes(feeds["image"]):
            boxes[0, row] = [
                (rx + gx) / 2,
                (ry + gy) / 2,
                2 * (gx - rx),
                2 * (gx - rx),
                rx,
                ry,
                gx,
                gy,
                *[0.0] * 8,
            ]
            scores[0, row] = 0.95
            row += 1
        return {"boxes": boxes, "scores": scores}

    def _phantom_eyes(self, picture: NDArray[np.float32]) -> list[tuple[float, float, float, float]]:
        """Where a blue dot is: the phantom's eyes, as far apart as the dot is wide."""
        return [(x - a, y, x + a, y) for x, y, area in dots(picture, 2) for a in [0.5 * math.sqrt(area)]]

    def _measure(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        red, green = dots(feeds["image"], 0), dots(feeds["image"], 1)
        middle = SIZE / 2
        for rx, _, gx, y in self._phantom_eyes(feeds["image"]):
            if math.hypot((rx + gx) / 2 - middle, y - middle) < 5:
                points = Painted((rx + gx) / 2, y, (gx - rx) / 2).landmarks()
                return {"points": points[None].astype(np.float32), "score": np.ones((1, 1))}
        if not red or not green or self.blind:
            return {"points": Painted(middle, middle, 15).landmarks()[None], "score": np.full((1, 1), 0.2)}
        (rx, ry, _), (gx, gy, _) = (
            min(found, key=lambda dot: math.hypot(dot[0] - middle, dot[1] - middle)) for found in (red, green)
        )
        reach, roll = math.hypot(gx - rx, gy - ry) / 2, math.atan2(gy - ry, gx - rx)
        if self.fooled and abs(roll) > math.radians(130):
            roll = math.remainder(roll + math.pi, 2 * math.pi)
        x, y = (rx + gx) / 2, (ry + gy) / 2
        face = Painted(x + self.pull * (x - middle), y, reach, roll)
        points = face.landmarks() + self.noise.normal(0, self.noise_px, (468, 3))
        return {
            "points": points[None].astype(np.float32),
            "score": np.full((1, 1), abs(roll) < math.radians(35)),
        }

    def tracker(self, max_faces: int = 1, smoothing: OneEuro | None = None, **settings: float) -> Tracker:
        return Tracker(self.detector, self.landmarks, max_faces, smoothing, **settings)  # type: ignore[arg-type]


def error(face: Face, truth: Painted) -> float:
    """Largest distance of a landmark from the truth, in pixels."""
    return float(np.linalg.norm(face.landmarks[:, :2] - truth.landmarks()[:, :2], axis=1).max())
