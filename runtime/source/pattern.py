"""A test pattern: something that moves where there is no camera."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from ..errors import SourceError
from ..pictures.drawing import blend
from ..types import Floats, Frame, Image
from .base import Source

DEFAULT_SIZE = (1280, 720)
DEFAULT_RATE = Fraction(30)
COUNTER_BITS = 16
LARGEST = 16384  # px, of a side
DISC_COLOR = (235, 235, 235)
_SYNTAX = re.compile(
    r"test:(?:([0-9]{1,6})x([0-9]{1,6}))?(?:@([0-9]{1,9}(?:\.[0-9]{1,9}|/[1-9][0-9]{0,8})?))?(?::([0-9]{1,12}))?"
)


class PatternSource(Source):
    """Color bars, a moving disc, and the frame's index as 16 black or white cells along the bottom.

    ``test:``, ``test:640x480@30``, ``test:640x480@30:90`` (90 frames). Without a number of frames it
    behaves like a camera: it paces itself and never ends; with one it behaves like a file.
    """

    def __init__(
        self,
        text: str = "test:",
        *,
        live: bool | None = None,
        wait: Callable[[float], object] | None = None,  # seconds; a stand-in for tests
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        match = _SYNTAX.fullmatch(text)
        if match is None:
            raise SourceError(
                f"{text}: expected test:WIDTHxHEIGHT@RATE:FRAMES, got another form; try test:640x480@30:90"
            )
        width, height, rate, frames = match.groups()
        self.name = text
        self.size = (int(width), int(height)) if width else DEFAULT_SIZE
        self.rate = Fraction(rate) if rate else DEFAULT_RATE
        if min(self.size) < 2 * COUNTER_BITS or max(self.size) > LARGEST or not 0 < self.rate <= 1000:
            raise SourceError(
                f"{text}: expected 32x32 to {LARGEST}x{LARGEST} pixels and up to 1000 frames/s; "
                "try test:640x480@30"
            )
        self.frame_count = int(frames) if frames else None
        self.duration_s = float(self.frame_count / self.rate) if self.frame_count is not None else None
        self.live = self.frame_count is None if live is None else live
        self._background = _bars(self.size)
        self._disc = _disc(min(self.size) // 6)
        self._index = 0
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._now_s = now_s
        self._start_s: float | None = None

    def _read(self) -> Frame | None:
        if self._index == self.frame_count:
            return None
        moment_s = float(self._index / self.rate)
        if self.live:
            if self._start_s is None:
                self._start_s = self._now_s()
            early_s = self._start_s + moment_s - self._now_s()
            if early_s > 0:
                self._wait(early_s)
            moment_s = self._now_s()
        frame = Frame(self._draw(), self._index, moment_s)
        self._index += 1
        return frame

    def _draw(self) -> Image:
        image = self._background.copy()
        width, height = self.size
        radius = self._disc.shape[0] // 2 - 1
        phase = self._index / 60 * np.pi
        left = round(width / 2 + (width / 2 - radius) * float(np.sin(phase))) - radius - 1
        top = round(height / 2 - height / 8 * float(np.cos(2 * phase))) - radius - 1
        blend(image, self._disc, (left, top), DISC_COLOR)
        cell = width // COUNTER_BITS
        for bit in range(COUNTER_BITS):
            shade = 255 if self._index >> bit & 1 else 0
            image[height - height // 8 :, bit * cell : (bit + 1) * cell] = shade
        return image

    def close(self) -> None:
        self._stop.set()
        super().close()


def _disc(radius: int) -> Floats:
    """float32 [2r+3,2r+3,1], 0..1: how much of each pixel a disc covers."""
    rows = np.arange(-radius - 1, radius + 2)
    distance = np.hypot(rows[:, None], rows[None])
    return np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)[..., None]


def _bars(size: tuple[int, int]) -> Image:
    width, height = size
    colors = [(b, g, r) for g in (190, 30) for r in (190, 30) for b in (190, 30)]
    row = np.array([colors[x * len(colors) // width] for x in range(width)], np.uint8)
    return np.repeat(row[None], height, axis=0)
