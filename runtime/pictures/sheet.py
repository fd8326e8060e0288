"""Sheets: labeled pictures in rows, at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..types import Image
from .drawing import resized, write_text

LABEL_PX = 20  # height of the line of text under a cell
LABEL_TEXT_PX = 12
PAPER, INK = (250, 250, 250), (40, 40, 40)


def grid(rows: Sequence[Sequence[tuple[str, Image]]], cell_px: int = 160) -> Image:
    """Labeled pictures in rows; each is fitted into a square cell of ``cell_px``."""
    columns = max(len(row) for row in rows)
    sheet = np.empty((len(rows) * (cell_px + LABEL_PX), columns * cell_px, 3), np.uint8)
    sheet[:] = PAPER
    for r, row in enumerate(rows):
        for c, (label, picture) in enumerate(row):
            y, x = r * (cell_px + LABEL_PX), c * cell_px
            fitted = _fit(picture, cell_px)
            dy, dx = (cell_px - fitted.shape[0]) // 2, (cell_px - fitted.shape[1]) // 2
            sheet[y + dy : y + dy + fitted.shape[0], x + dx : x + dx + fitted.shape[1]] = fitted
            strip = sheet[y + cell_px : y + cell_px + LABEL_PX, x : x + cell_px]
            write_text(strip, label, (4, 14), height_px=LABEL_TEXT_PX, color=INK)
    return sheet


def _fit(picture: Image, side_px: int) -> Image:
    scale = side_px / max(picture.shape[:2])
    width, height = (max(1, round(n * scale)) for n in (picture.shape[1], picture.shape[0]))
    return resized(picture, (width, height))
