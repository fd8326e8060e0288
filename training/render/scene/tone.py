"""From linear light to sRGB: a soft shoulder for highlights, and the transfer curve."""

from __future__ import annotations

import numpy as np

_KNEE = 0.72
"""Linear values above this are compressed towards 1."""


def linear_to_srgb(rgb: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB, both 0..1."""
    rgb = np.clip(rgb, 0, 1)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * np.maximum(rgb, 1e-7) ** (1 / 2.4) - 0.055).astype(np.float32)


def srgb_to_linear(rgb: np.ndarray) -> np.ndarray:
    """sRGB -> linear light, both 0..1."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def curved(rgb: np.ndarray) -> np.ndarray:
    """Compresses what is brighter than the knee."""
    over = np.maximum(rgb - _KNEE, 0) / (1 - _KNEE)
    return np.where(rgb > _KNEE, _KNEE + (1 - _KNEE) * np.tanh(over), rgb)


def uncurved(rgb: np.ndarray) -> np.ndarray:
    """What `curved` made this of."""
    over = np.arctanh(np.clip((rgb - _KNEE) / (1 - _KNEE), 0, 0.999))
    return np.where(rgb > _KNEE, _KNEE + (1 - _KNEE) * over, rgb).astype(np.float32)
