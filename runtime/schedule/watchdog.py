"""Is a live run still live? And if not, what is shown and how long is waited."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..pictures.drawing import write_text
from ..types import Frame, Image

State = Literal["live", "stale", "lost"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each attempt to reconnect: first, first * factor ... up to longest."""

    first_s: float = 0.5
    factor: float = 2.0
    longest_s: float = 10.0
    attempts: int | None = None  # None: as long as it takes

    def delays_s(self) -> Iterator[float]:
        delay_s = self.first_s
        attempt = 0
        while self.attempts is None or attempt < self.attempts:
            yield min(delay_s, self.longest_s)
            delay_s = min(delay_s * self.factor, self.longest_s)
            attempt += 1


class Watchdog:
    """Tells live, stale and lost apart from when frames were finished. Times are of one clock, in seconds."""

    def __init__(self, stale_after_s: float = 0.5, lost_after_s: float = 2.0) -> None:
        if not 0 < stale_after_s < lost_after_s:
            raise ValueError(
                f"expected 0 < stale_after_s < lost_after_s, got {stale_after_s}, {lost_after_s}"
            )
        self.stale_after_s = stale_after_s
        self.lost_after_s = lost_after_s
        self.failure: str | None = None  # why the source gives nothing now
        self._since_s = 0.0
        self._any = False

    def start(self, now_s: float) -> None:
        """The run begins."""
        self._since_s, self._any, self.failure = now_s, False, None

    def output(self, now_s: float) -> None:
        """A frame was finished."""
        self._since_s, self._any = now_s, True

    def age_s(self, now_s: float) -> float:
        """Since the newest frame was finished, or since the start."""
        return now_s - self._since_s

    def state(self, now_s: float) -> State:
        """The state at ``now_s``."""
        if self.failure is not None or self.age_s(now_s) > self.lost_after_s:
            return "lost"
        return "live" if self._any and self.age_s(now_s) <= self.stale_after_s else "stale"


@dataclass(frozen=True, slots=True)
class Lost:
    """What is known while nothing comes."""

    size: tuple[int, int]  # (width, height) of the picture to make
    reason: str
    age_s: float  # since the last finished frame
    output: Frame | None  # the last finished frame
    captured: Frame | None  # the newest camera frame: the real picture, shown only if the user asked


def no_signal(lost: Lost) -> Image:
    """A dark card that says "no signal"."""
    width, height = lost.size
    image: Image = np.full((height, width, 3), 24, np.uint8)
    middle, gray = (width // 2, height // 2), (160, 160, 160)
    write_text(image, "no signal", middle, height_px=width / 20, color=gray, anchor="middle")
    return image


def hold(lost: Lost) -> Image:
    """The last finished frame for as long as it takes."""
    return no_signal(lost) if lost.output is None else lost.output.image


def passthrough(lost: Lost) -> Image:
    """The camera's own picture. It shows the real face: never a default."""
    return no_signal(lost) if lost.captured is None else lost.captured.image
