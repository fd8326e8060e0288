"""Between pictures (BGR uint8 [H,W,3]) and what networks take and give (RGB float32 planes, -1..1)."""

from __future__ import annotations

import numpy as np

from ..types import Floats, Image


def to_planes(picture: Image) -> Floats:
    """BGR uint8 [H,W,3] -> RGB float32 [3,H,W], -1..1."""
    return np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1), np.float32) / 127.5 - 1


def to_image(planes: Floats) -> Image:
    """RGB float32 [3,H,W], nominally -1..1 (clipped), -> BGR uint8 [H,W,3], rounded."""
    levels = np.clip(planes[::-1] * 127.5 + 127.5, 0, 255)
    return np.ascontiguousarray(np.rint(levels).astype(np.uint8).transpose(1, 2, 0))
