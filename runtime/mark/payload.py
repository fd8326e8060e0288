"""What the watermark says, as 64 code bits: the tool, the kind of change and a time bucket.

======  =====================================================================
4 bits  tool: 0b1011, doppelgan; anything else was not written by this program
2 bits  kind: position in KINDS
16 bits days since 2026-01-01 UTC: when, but not whose clock and minute
======  =====================================================================

The 22 bits are a word of the Reed-Muller code RM(2,6): 64 code bits, any two words differ in 16 or more. It
is decoded from soft values and exactly (the word of maximum likelihood): for each of the 2^15 quadratic
parts, one Hadamard transform tries all 2^7 affine ones. (Muller 1954; MacWilliams and Sloane, chapter 13.)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..types import Floats

CODE_BITS: Final = 64
DATA_BITS: Final = 22
KINDS: Final = ("edited", "avatar", "restyled", "other")
TOOL: Final = 0b1011
EPOCH: Final = date(2026, 1, 1)
_VARIABLES: Final = 6
_PAIRS: Final = tuple(combinations(range(_VARIABLES), 2))  # 15 quadratic terms


@dataclass(frozen=True, slots=True)
class Payload:
    """What a watermark says. day: to the day, UTC."""

    kind: str
    day: date
    tool: int = TOOL

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 0 <= self.tool < 16:
            raise ValueError(f"tool: expected 0..15, got {self.tool}")

    def to_bits(self) -> int:
        """22 bits; a day before 2026 or past 2205 counts as the nearest that fits."""
        days = min(max((self.day - EPOCH).days, 0), 0xFFFF)
        return self.tool << 18 | KINDS.index(self.kind) << 16 | days

    @staticmethod
    def from_bits(bits: int) -> Payload:
        """Inverse of `to_bits`."""
        return Payload(KINDS[bits >> 16 & 3], EPOCH + timedelta(days=bits & 0xFFFF), bits >> 18 & 15)


def encode(bits: int) -> NDArray[np.int8]:
    """int8 [64], each 1 or -1, of 22 data bits: the first 15 are quadratic terms, then 6 linear, then 1."""
    if not 0 <= bits < 1 << DATA_BITS:
        raise ValueError(f"bits: expected {DATA_BITS} bits, got {bits}")
    digits = np.array([bits >> (DATA_BITS - 1 - place) & 1 for place in range(DATA_BITS)])
    signs: NDArray[np.int8] = (1 - 2 * (digits @ _generator() % 2)).astype(np.int8)
    return signs


def decode(soft: Floats) -> tuple[int, float]:
    """The 22 bits whose code word correlates most with ``soft``, float32 [64], and that correlation."""
    quadratic, affine = _words()
    scores = (quadratic * np.asarray(soft, np.float32)) @ affine  # [2^15, 2^6]
    best = int(np.abs(scores).argmax())
    word, linear = divmod(best, affine.shape[1])
    score = float(scores[word, linear])
    return word << 7 | linear << 1 | (score < 0), abs(score)


@lru_cache(maxsize=1)
def _generator() -> NDArray[np.int64]:
    """[22,64]: the terms x_i x_j, x_i and 1 at each of the 64 points."""
    points = np.arange(CODE_BITS)[None] >> np.arange(_VARIABLES)[:, None] & 1
    return np.stack([*(points[i] * points[j] for i, j in _PAIRS), *points, np.ones(CODE_BITS, np.int64)])


@lru_cache(maxsize=1)
def _words() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Signs of all quadratic parts [2^15,64] and, transposed, of all linear ones [64,2^6]."""
    generator = _generator()

    def signs(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        count = len(rows)
        choices = np.arange(1 << count)[:, None] >> np.arange(count - 1, -1, -1) & 1
        return (1 - 2 * (choices @ rows % 2)).astype(np.float32)

    return signs(generator[:15]), np.ascontiguousarray(signs(generator[15:21]).T)
