"""Pictures of floats in another size."""

from __future__ import annotations

import numpy as np

from ..types import Floats


def resample(
    picture: Floats,  # float32 [...,H,W]
    size: tuple[int, int],  # (height, width)
) -> Floats:
    """float32 [...,height,width]: means of areas where it shrinks, else linear between pixel centers."""
    down, across = (_weights(old, new) for old, new in zip(picture.shape[-2:], size, strict=True))
    return np.asarray(down @ picture @ across.T, np.float32)


def _weights(old: int, new: int) -> Floats:
    """float32 [new,old], rows of sum 1: what each old pixel gives to each new one."""
    step = old / new
    pixel, starts = np.arange(old), step * np.arange(new)[:, None]
    if new < old:
        shared = np.minimum(starts + step, pixel + 1) - np.maximum(starts, pixel)
        return np.asarray(np.maximum(shared, 0) / step, np.float32)
    centers = np.clip(starts + (step - 1) / 2, 0, old - 1)
    return np.asarray(np.maximum(1 - np.abs(centers - pixel), 0), np.float32)
