"""Directions of a made-up generator, drawn by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from doppelgan.runtime.edit import Direction

N, W = 4, 6  # its n_styles, w_dim


def offset(name: str, rng: np.random.Generator, **settings: Any) -> Direction:
    return Direction(name, rng.standard_normal((N, W)).astype(np.float32), **settings)
