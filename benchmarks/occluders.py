"""Things that come before a face: a hand, a mug, a microphone, drawn by rule and pasted over frames."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Drawing = tuple[NDArray[np.float64], NDArray[np.float64]]  # BGR [s,s,3] 0..255 and its opacity [s,s]

SIZE = 300  # px, as drawn


def hand(skin: NDArray[np.float64], rng: np.random.Generator) -> Drawing:
    """Four fingers, a thumb and a palm of round limbs, shaded at their edges; ``skin`` BGR 0..255."""
    x, y = _plane()
    covered, height = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    limbs = [((a, 0.62), (a + (a - 0.5) * 0.15, 0.54 - b), 0.066) for a, b in ((0.28, 0.30), (0.43, 0.40))]
    limbs += [((a, 0.62), (a + (a - 0.5) * 0.15, 0.54 - b), 0.066) for a, b in ((0.58, 0.38), (0.72, 0.28))]
    limbs += [
        ((0.22, 0.75), (0.08, 0.5), 0.07),
        ((0.38, 0.72), (0.62, 0.72), 0.17),
        ((0.5, 0.8), (0.5, 1.1), 0.15),
    ]
    for (x0, y0), (x1, y1), radius in limbs:
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        apart = np.hypot(x - x0 - t * dx, y - y0 - t * dy)
        covered = np.maximum(covered, np.clip((radius - apart) * SIZE, 0, 1))
        height = np.maximum(height, np.sqrt(np.clip(1 - (apart / radius) ** 2, 0, 1)))
    grain = cv2.GaussianBlur(rng.normal(size=(SIZE, SIZE)), (0, 0), 5) * 0.06
    return np.clip(skin * (0.62 + 0.38 * height + grain)[..., None], 0, 255), covered


def mug(color: NDArray[np.float64], rng: np.random.Generator) -> Drawing:
    """A shiny cylinder with a red band and a handle; ``color`` BGR 0..255."""
    x, y = _plane()
    body = (x > 0.18) & (x < 0.7) & (y > 0.15) & (y < 0.9)
    apart = np.hypot(x - 0.7, y - 0.52)
    covered = (body | ((apart > 0.14) & (apart < 0.22) & (x > 0.7))).astype(np.float64)
    across = np.clip((x - 0.44) / 0.26, -1, 1)
    light = 0.55 + 0.45 * np.sqrt(1 - 0.95 * across**2) + 0.25 * np.exp(-(((across + 0.4) / 0.15) ** 2))
    band = ((y > 0.45) & (y < 0.6))[..., None]
    return np.clip(np.where(band, (60.0, 60.0, 190.0), color * light[..., None]), 0, 255), _softened(covered)


def microphone(color: NDArray[np.float64], rng: np.random.Generator) -> Drawing:
    """A ball of wire mesh on a stick, nearly black whatever ``color``."""
    x, y = _plane()
    apart = np.hypot(x - 0.5, y - 0.3)
    ball, stick = apart < 0.24, (np.abs(x - 0.5) < 0.09) & (y > 0.45)
    wires = 0.5 + 0.5 * (np.sin(100 * x) * np.sin(100 * y) > 0)
    grey = np.where(ball, 70 * wires * np.clip(1.1 - apart / 0.37, 0.2, 1) + 20, 45 - 225 * np.abs(x - 0.5))
    return np.repeat(grey[..., None], 3, axis=2), _softened((ball | stick).astype(np.float64))


# What is pasted, how large beside a face's height, how far below the spot its middle lies.
OCCLUDERS: dict[str, tuple[Callable[[NDArray[np.float64], np.random.Generator], Drawing], float, float]] = {
    "hand": (hand, 0.9, 0.25),
    "mug": (mug, 0.9, 0.15),
    "microphone": (microphone, 0.7, 0.2),
}


def paste(
    frame: Image, drawing: Drawing, middle: NDArray[np.float64], side: float
) -> tuple[Image, NDArray[np.bool_]]:
    """The frame with the drawing over it, and where that is opaque: bool [H,W]."""
    color, covered = drawing
    scale = side / SIZE
    x0, y0 = middle - side / 2
    matrix = np.array([[scale, 0, x0], [0, scale, y0]])
    size = frame.shape[1], frame.shape[0]
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    if scale < 1:
        small = max(1, round(side))
        color, covered = (
            np.asarray(cv2.resize(plane, (small, small), interpolation=smooth), np.float64)
            for plane in (color, covered)
        )
        matrix = np.array([[1.0, 0, round(x0)], [0, 1.0, round(y0)]])
    over = cv2.warpAffine(color, matrix, size)
    alpha = cv2.warpAffine(covered, matrix, size)[..., None]
    return np.rint(frame * (1 - alpha) + over * alpha).astype(np.uint8), alpha[..., 0] > 0.99


def _plane() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    place = (np.arange(SIZE) + 0.5) / SIZE
    return np.broadcast_to(place, (SIZE, SIZE)), np.broadcast_to(place[:, None], (SIZE, SIZE))


def _softened(covered: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(covered, (0, 0), 0.7), np.float64)
