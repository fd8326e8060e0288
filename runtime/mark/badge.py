"""The badge: a small sign in a corner that says "AI" and what was done, drawn after everything else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..types import Floats, Image

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
CORNERS: Final[tuple[Corner, ...]] = get_args(Corner)

SIZE: Final = 0.045  # height as a share of the frame's shorter side
SIZES: Final = (0.02, 0.2)
LEAST_PX: Final = 14  # smaller letters cannot be read
_MARGIN: Final = 0.5  # between badge and frame, in heights of the badge
_GROUND: Final = 0.62  # opacity of the dark ground


@dataclass(frozen=True, slots=True)
class Badge:
    """Where and how large. ``size``: height as a share of the frame's shorter side."""

    corner: Corner = "bottom-left"
    size: float = SIZE

    def __post_init__(self) -> None:
        if self.corner not in CORNERS:
            raise ValueError(f"badge: expected one of {', '.join(CORNERS)}, got {self.corner!r}")
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise ValueError(f"badge size: expected {SIZES[0]} to {SIZES[1]} of the side, got {self.size}")

    def draw(
        self,
        frame: Image,  # BGR uint8 [H,W,3], drawn on
        kind: str,  # "edited", "avatar" ...: written behind "AI"
    ) -> None:
        """Draw it; where the frame is too small for the letters, as large as goes in."""
        x, y, sign, cover = self._placed(frame.shape, kind)
        rows, columns = cover.shape[:2]
        area = frame[y : y + rows, x : x + columns]
        area[:] = (sign + area * cover + np.float32(0.5)).astype(np.uint8)

    def box(self, shape: tuple[int, ...], kind: str) -> tuple[int, int, int, int]:
        """x, y, width, height in px of the badge on a frame of this shape."""
        x, y, _, cover = self._placed(shape, kind)
        return x, y, cover.shape[1], cover.shape[0]

    def _placed(self, shape: tuple[int, ...], kind: str) -> tuple[int, int, Floats, Floats]:
        height, width = shape[:2]
        side = max(LEAST_PX, round(self.size * min(height, width)))
        sign, cover = _sign(f"AI {kind}", side)
        rows, columns = cover.shape[:2]
        fits = min(1.0, width / (columns + side), height / (rows + side))
        if fits < 1:
            sign, cover = _sign(f"AI {kind}", max(4, int(side * fits)))
            sign, cover = sign[:height, :width], cover[:height, :width]
            rows, columns = cover.shape[:2]
        margin = min(round(_MARGIN * rows), width - columns, height - rows)
        x = margin if self.corner.endswith("left") else width - columns - margin
        y = margin if self.corner.startswith("top") else height - rows - margin
        return x, y, sign, cover


@lru_cache(maxsize=16)
def _sign(text: str, height: int) -> tuple[Floats, Floats]:
    """Colors [h,w,3] times their opacity, and what is left of the frame under them [h,w,1], 0..1."""
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(0.72 * height)
    left, _, right, _ = font.getbbox(text)
    width = round(right - left + 0.9 * height)
    fine = 4  # times: corners are drawn large and averaged
    ground = pillow.new("L", (fine * width, fine * height))
    ImageDraw.Draw(ground).rounded_rectangle(
        (0, 0, fine * width - 1, fine * height - 1), radius=0.3 * fine * height, fill=255
    )
    ground = ground.resize((width, height), pillow.Resampling.BOX)
    letters = pillow.new("L", (width, height))
    ImageDraw.Draw(letters).text((width / 2, height / 2), text, fill=255, font=font, anchor="mm")
    dark, bright = _share(ground) * np.float32(_GROUND), _share(letters)
    left_over: NDArray[np.float32] = (1 - dark) * (1 - bright)
    return 255 * np.repeat(bright, 3, axis=2), left_over


def _share(picture: object) -> Floats:
    return np.asarray(picture, np.float32)[..., None] / np.float32(255)
