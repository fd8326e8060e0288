"""The one-euro filter (Casiez et al., CHI 2012): calm at rest, quick in motion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..types import Floats


@dataclass(frozen=True, slots=True)
class OneEuro:
    """Smoothing that grows weaker the faster a point moves (one-euro filter).

    min_cutoff_hz: cut-off at rest; lower is calmer. beta: Hz gained per face size a second; higher lags less.
    d_cutoff_hz: cut-off of the speed estimate. Speed counts in face sizes: near and far faces behave alike.
    """

    min_cutoff_hz: float = 1.2
    beta: float = 30.0
    d_cutoff_hz: float = 1.5

    def __post_init__(self) -> None:
        if self.min_cutoff_hz <= 0 or self.d_cutoff_hz <= 0 or self.beta < 0:
            raise ValueError(f"OneEuro: expected cut-offs > 0 and beta >= 0, got {self}")


class Smoother:
    """One-euro filter over all points of one face."""

    def __init__(self, settings: OneEuro) -> None:
        self._settings = settings
        self._points: Floats | None = None
        self._speed: Floats | None = None
        self._time_s = 0.0

    def __call__(self, points: Floats, size_px: float, time_s: float) -> Floats:
        """points: float32 [P,3] px. size_px: of the face. time_s: not later than before: no smoothing."""
        step_s = time_s - self._time_s
        self._time_s = time_s
        if self._points is None or self._speed is None or not 0.0 < step_s < 0.5:
            self._points, self._speed = points, np.zeros_like(points)
            return points
        settings = self._settings
        velocity = (points - self._points) / np.float32(step_s * size_px)
        self._speed = self._speed + low_pass_gain(settings.d_cutoff_hz, step_s) * (velocity - self._speed)
        pace = np.sqrt(np.einsum("ij,ij->i", self._speed, self._speed))[:, None]
        gain = low_pass_gain(settings.min_cutoff_hz + settings.beta * pace, step_s)
        self._points = (self._points + gain * (points - self._points)).astype(np.float32)
        return self._points


def low_pass_gain(cutoff_hz: Any, step_s: float) -> Any:
    """Share of the new value that a first-order low-pass takes over in one step."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * step_s))
