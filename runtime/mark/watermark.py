"""A mark in the pixels that nobody sees and a program finds again.

A tile of PERIOD x PERIOD pixels repeats over the frame from its upper left corner; it is added to the luma of
the whole frame, weakly on smooth skin and walls, strongly where fine detail hides it. The tile is a sum of
cosines, one for each harmonic of the period within BAND, all of one amplitude. Their phases come from a key:
SYNC_SHARE of them are always the same, the others are turned by half a circle where a bit of the code word
(`payload`) is 1.

The detector takes the picture's residual (fine detail of the luma over its local spread) and computes its
Fourier coefficients at the harmonics of every period that a resized picture could have, block by block. Sums
over windows of blocks, reduced to their phases, are compared with the keyed phases at every offset of the
tile, in the picture and its mirror image. Whatever a picture shows, a wrong key's phases are independent of
it, so that the sum of n cosines exceeds t with a probability of at most exp(-t^2 / n) (Hoeffding's lemma; a
cosine of a uniform phase is sub-Gaussian with variance 1/2). That, times the number of comparisons, is the
probability of a false alarm that `detect` reports; it assumes nothing about pictures.

Pictures of video are accumulated: the tile lies still in the frame, what moves averages out.

Frames larger than 720 lines carry a proportionally larger tile, so that a photo made small for the web still
shows it. Spread spectrum: Cox et al. 1997; tiles found again by their period: Kutter 1998.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..types import Floats, Image
from .payload import CODE_BITS, DATA_BITS, TOOL, Payload, decode, encode

PERIOD: Final = 125  # px in frames of up to 720 lines; prime to the 8 and 16 px grids of codecs
LINES: Final = 720
BAND: Final = (3.0, 18.0)  # harmonics, as distance from the origin: waves 7 to 42 px long
SYNC_SHARE: Final = 0.4
# Levels RMS: LEAST, and SLOPE more for each level that neighboring pixels differ by, up to MOST.
LEAST: Final = 0.7  # 51 dB: more shows as grain on a smooth wall
SLOPE: Final = 0.07
MOST: Final = 1.8  # 43 dB
PUBLIC_KEY: Final = b"doppelgan watermark 1"  # everybody's: whoever gets a picture must be able to tell

PERIODS: Final = (44.0, 300.0)  # px that are searched
STEP: Final = 0.0075  # relative, of the search
MAX_SIDE: Final = 1080  # px: pictures whose shorter side is longer are reduced first
FINEST: Final = 80.0  # px: of a period from twice this on, a smaller copy is looked at
BLOCKS: Final = (32, 64)  # px: windows are sums of blocks, small ones for the likeliest periods alone
SHIFTS: Final = 64  # offsets per axis that are tried
SURE: Final = 1e-6  # probability of a false alarm below which a mark counts as found
_ENOUGH: Final = 1e-12  # no need to search on


def default_key() -> bytes:
    """$DOPPELGAN_MARK_KEY as the bytes that it is, or the public key."""
    return os.fsencode(os.environ.get("DOPPELGAN_MARK_KEY", "")) or PUBLIC_KEY


def period_of(height: int, width: int) -> int:
    """Side in pixels of the tile of a frame of that size."""
    return round(PERIOD * max(1.0, min(height, width) / LINES))


# --- the tile ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Waves:
    """The harmonics of the tile: one half plane, the other is its mirror image."""

    x: NDArray[np.int64]  # [n], -18..18
    y: NDArray[np.int64]  # [n], 0..18
    phase: NDArray[np.float64]  # [n], keyed
    bit: NDArray[np.int64]  # [n]: which code bit turns the wave, -1: none


@lru_cache(maxsize=8)
def _waves(key: bytes) -> _Waves:
    reach = int(BAND[1])
    y, x = np.mgrid[0 : reach + 1, -reach : reach + 1]
    half = (y > 0) | (x > 0)
    distance = np.hypot(x, y)
    inside = half & (distance >= BAND[0]) & (distance <= BAND[1])
    x, y = x[inside], y[inside]
    count = len(x)
    # Stated down to the bytes, so that a mark is found by every later version.
    stream = np.frombuffer(hashlib.shake_256(key).digest(8 * count), ">u4").astype(np.float64) / 2**32
    phase, order = 2 * math.pi * stream[:count], np.argsort(stream[count:], kind="stable")
    bit = np.full(count, -1)
    data = order[round(SYNC_SHARE * count) :]
    bit[data] = np.arange(len(data)) % CODE_BITS
    return _Waves(x, y, phase, bit)


@lru_cache(maxsize=8)
def tile(payload_bits: int, period: int = PERIOD, key: bytes = PUBLIC_KEY) -> NDArray[np.int8]:
    """int8 [period,period]: what is added to the luma, of 32 RMS."""
    waves = _waves(key)
    turned = np.where(waves.bit >= 0, encode(payload_bits)[waves.bit], 1)
    spectrum = np.zeros((period, period), np.complex128)
    spectrum[waves.y % period, waves.x % period] = turned * np.exp(1j * waves.phase)
    picture = np.fft.ifft2(spectrum).real
    added: NDArray[np.int8] = np.clip(np.rint(picture * (32 / picture.std())), -127, 127).astype(np.int8)
    added.flags.writeable = False
    return added


@lru_cache(maxsize=1)
def strengths() -> NDArray[np.uint8]:
    """uint8 [256], 64ths of a level RMS: by quarters of a level that neighboring pixels differ by."""
    levels = np.minimum(LEAST + SLOPE * np.arange(256) / 4, MOST)
    looked_up: NDArray[np.uint8] = np.rint(64 * levels).astype(np.uint8)
    looked_up.flags.writeable = False
    return looked_up


def embed(
    frame: Image,  # BGR uint8 [H,W,3], changed in place
    payload: Payload,
    *,
    key: bytes | None = None,
) -> None:
    """Mark the whole frame."""
    added = tile(payload.to_bits(), period_of(*frame.shape[:2]), key or default_key())
    native.add_tile(frame, added, strengths(), native.THREADS)


# --- the detector --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found. false_alarm: probability that an unmarked picture looks like this, at most."""

    payload: Payload | None  # None: nothing found, or nothing that this program writes
    false_alarm: float
    scale: float = 1.0  # of the picture against the one that was marked, were that of up to 720 lines
    mirrored: bool = False

    @property
    def found(self) -> bool:
        return self.payload is not None and self.false_alarm <= SURE


class Detector:
    """Collects pictures of one size (one, or the frames of a video) and looks for a mark in all of them."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or default_key()
        self._sum: Floats | None = None
        self._shape = (0, 0)
        self.pictures = 0

    def add(self, image: Image) -> None:
        """One more picture, BGR uint8 [H,W,3]; one of another size than those before starts anew."""
        residual = _residual(_luma(image))
        self._shape = image.shape[:2]
        if self._sum is None or self._sum.shape != residual.shape:
            self._sum, self.pictures = residual, 0
        else:
            self._sum += residual
        self.pictures += 1

    def detect(self) -> Detection:
        """The likeliest mark in what was added."""
        if self._sum is None or min(self._sum.shape) < 24:
            return Detection(None, 1.0)
        return _search(self._sum, self._shape, self._key)


def detect(image: Image, key: bytes | None = None) -> Detection:
    """Look for a mark in one picture, BGR uint8 [H,W,3]."""
    detector = Detector(key)
    detector.add(image)
    return detector.detect()


def _luma(image: Image) -> Floats:
    """float32 [H,W], of a picture reduced to MAX_SIDE."""
    luma: Floats = image.astype(np.float32) @ np.array([0.114, 0.587, 0.299], np.float32)
    shorter = min(luma.shape)
    if shorter > MAX_SIDE:
        from PIL import Image as pillow

        ratio = MAX_SIDE / shorter
        size = (round(luma.shape[1] * ratio), round(luma.shape[0] * ratio))
        luma = np.asarray(pillow.fromarray(luma).resize(size, pillow.Resampling.BOX))
    return luma


def _residual(luma: Floats) -> Floats:
    """Luma without its coarse part, over its spread: edges and texture count no more than skin.

    Twice less the mean over 7 x 7 px: what pictures show is strongest where waves are long.
    """
    apart = luma - _mean(luma, 3)
    apart -= _mean(apart, 3)
    spread = np.sqrt(_mean(apart * apart, 5))
    return np.asarray(apart / (spread + np.float32(0.7)), np.float32)


def _mean(picture: Floats, reach: int) -> Floats:
    """Mean over a square of 2 reach + 1 pixels; edge pixels repeat."""
    for axis in (0, 1):
        padded = np.pad(picture, [(reach + 1, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        sums = np.cumsum(padded, axis=axis, dtype=np.float64)
        width = 2 * reach + 1
        if axis == 0:
            picture = ((sums[width:] - sums[:-width]) / width).astype(np.float32)
        else:
            picture = ((sums[:, width:] - sums[:, :-width]) / width).astype(np.float32)
    return picture


def _coefficients(residual: Floats, period: float, block: int) -> NDArray[np.complex64]:
    """[rows,columns,19,37]: of every block, its share in the Fourier coefficients at the harmonics.

    Whole blocks only: what is left at the right and lower edge is left out unless the picture is smaller.
    """
    reach = int(BAND[1])
    height, width = residual.shape
    rows, columns = max(1, height // block), max(1, width // block)
    high, wide = min(height, rows * block), min(width, columns * block)
    turn = -2j * math.pi / period
    across = np.exp(turn * np.outer(np.arange(wide), np.arange(-reach, reach + 1))).astype(np.complex64)
    down = np.exp(turn * np.outer(np.arange(high), np.arange(reach + 1))).astype(np.complex64)
    block_x, block_y = wide // columns, high // rows
    # Real products: first along x, in real and imaginary parts side by side, then along y.
    lines = residual[:high, :wide].reshape(high, columns, block_x).swapaxes(0, 1)
    parts = np.concatenate([across.real, across.imag], axis=1).reshape(columns, block_x, -1)
    mixed = lines @ parts  # [columns, high, 2 * 49]
    half = mixed.shape[2] // 2
    summed = (mixed[..., :half] + 1j * mixed[..., half:]).reshape(columns, rows, block_y, half)
    blocks = np.einsum("ryk,cryl->rckl", down.reshape(rows, block_y, -1), summed, optimize=True)
    return np.asarray(blocks, np.complex64)


def _windows(rows: int, columns: int, small: bool) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) in blocks: everything, and squares; small: such of 3 and 5 blocks, too."""
    boxes = [(0, 0, rows, columns)]
    sides = {max(2, round(rows * 0.6)), max(2, round(rows * 0.35))} | ({3, 5} if small else set())
    for side in sorted(sides, reverse=True):
        if side >= rows and side >= columns:
            continue
        high, wide = min(side, rows), min(side, columns)
        tops = _starts(rows, high)
        lefts = _starts(columns, wide)
        boxes += [(top, left, top + high, left + wide) for top in tops for left in lefts]
    return boxes


def _starts(count: int, length: int) -> list[int]:
    last = count - length
    steps = max(1, math.ceil(last / max(1, length / 2))) if last else 0
    return sorted({round(i * last / steps) for i in range(steps + 1)}) if steps else [0]


def _phases(sums: NDArray[np.complex64]) -> NDArray[np.complex64]:
    return np.asarray(sums / np.maximum(np.abs(sums), 1e-12), np.complex64)


def _search(residual: Floats, shape: tuple[int, int], key: bytes) -> Detection:
    waves = _waves(key)
    sync, reach = np.flatnonzero(waves.bit < 0), int(BAND[1])
    pattern = np.exp(-1j * waves.phase[sync]).astype(np.complex64)
    levels = _Levels(residual)
    own = period_of(*shape) * min(residual.shape) / min(shape)
    likely = [own, *(PERIOD * scale for scale in (1, 0.5, 1.3, 1.5, 0.75, 2 / 3))]
    order = [*likely, *np.exp(np.arange(math.log(PERIODS[0]), math.log(PERIODS[1]), STEP))]
    small, large = BLOCKS
    blocks_of = [small] * len(likely) + [large] * (len(order) - len(likely))
    comparisons = 2 * SHIFTS**2 * sum(map(len, map(levels.windows, order, blocks_of)))
    best = _Place(-1.0, own, (0, 0, 1, 1), small, False)
    for count, (period, block) in enumerate(zip(order, blocks_of, strict=True)):
        windows = levels.windows(period, block)
        blocks = levels.coefficients(period, levels.factor(period), block)
        rows, columns = blocks.shape[:2]
        cumulated = np.zeros((rows + 1, columns + 1, reach + 1, 2 * reach + 1), np.complex64)
        cumulated[1:, 1:] = blocks.cumsum(0).cumsum(1)
        top, left, bottom, right = np.array(windows).T
        strips, each = cumulated[bottom] - cumulated[top], np.arange(len(windows))
        sums = strips[each, right] - strips[each, left]
        for mirrored in (False, True):
            x = -waves.x[sync] if mirrored else waves.x[sync]
            grid = np.zeros((len(windows), SHIFTS, SHIFTS), np.complex64)
            grid[:, waves.y[sync], x % SHIFTS] = _phases(sums[:, waves.y[sync], reach + x]) * pattern
            score = np.fft.ifft2(grid).real.max(axis=(1, 2)) * SHIFTS**2
            window = int(score.argmax())
            if score[window] > best.score:
                best = _Place(float(score[window]), float(period), windows[window], block, mirrored)
        if count < len(likely) and _probability(best.score, len(sync), comparisons) < _ENOUGH:
            break
    return _read(levels, waves, best, comparisons)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the search found most."""

    score: float
    period: float  # px
    window: tuple[int, int, int, int]  # blocks
    block: int  # px
    mirrored: bool


class _Levels:
    """The residual and smaller copies of it: long waves are looked for where there are fewer pixels."""

    def __init__(self, residual: Floats) -> None:
        self._copies = {1: residual}

    def coefficients(self, period: float, factor: int, block: int) -> NDArray[np.complex64]:
        if factor not in self._copies:
            whole = self._copies[1]
            high, wide = (side // factor for side in whole.shape)
            boxes = whole[: high * factor, : wide * factor].reshape(high, factor, wide, factor)
            self._copies[factor] = boxes.mean(axis=(1, 3))
        return _coefficients(self._copies[factor], period / factor, block)

    def windows(self, period: float, block: int) -> list[tuple[int, int, int, int]]:
        factor = self.factor(period)
        rows, columns = (max(1, side // factor // block) for side in self._copies[1].shape)
        return _windows(rows, columns, block == min(BLOCKS))

    def factor(self, period: float) -> int:
        shorter = int(min(self._copies[1].shape))
        return max(1, min(int(period / FINEST), shorter // (2 * max(BLOCKS))))


def _probability(score: float, terms: int, comparisons: float) -> float:
    """At most: of reaching ``score`` by a sum of so many cosines of independent phases in one of so many."""
    return min(1.0, comparisons * math.exp(-score * score / terms)) if score > 0 else 1.0


def _read(
    levels: _Levels,
    waves: _Waves,
    best: _Place,
    comparisons: int,
) -> Detection:
    """Refine period and offset where the search found most, decode the bits there."""
    sync = waves.bit < 0
    x = (-waves.x if best.mirrored else waves.x).astype(np.float64)
    reach = int(BAND[1])
    keyed = np.exp(-1j * waves.phase)
    refined: tuple[float, float, NDArray[np.complex128]] | None = None
    top, left, bottom, right = best.window
    factor = levels.factor(best.period)
    for near in best.period * (1 + STEP * np.linspace(-0.75, 0.75, 13)):
        blocks = levels.coefficients(near, factor, best.block)[top:bottom, left:right].sum(axis=(0, 1))
        turned = _phases(blocks)[waves.y, reach + x.astype(int)] * keyed
        grid = np.zeros((4 * SHIFTS, 4 * SHIFTS), np.complex64)
        grid[waves.y[sync], x[sync].astype(int) % (4 * SHIFTS)] = turned[sync]
        scores = np.fft.ifft2(grid).real * (4 * SHIFTS) ** 2
        place = np.unravel_index(int(scores.argmax()), scores.shape)
        if refined is None or scores[place] > refined[0]:
            down, across = (2 * math.pi * int(p) / (4 * SHIFTS) for p in place)
            aligned = turned * np.exp(1j * (waves.y * down + x * across))
            refined = (float(scores[place]), float(near), aligned)
    assert refined is not None
    refined_score, period, aligned = refined
    score = max(best.score, refined_score)
    sync_chance = _probability(score, int(sync.sum()), comparisons * 13 * 16)
    data = ~sync
    soft = np.bincount(waves.bit[data], aligned[data].real, CODE_BITS)
    bits, agreement = decode(soft.astype(np.float32))
    bits_chance = _probability(agreement, int(data.sum()), 2.0**DATA_BITS)
    # Both are bounds of independent events: of a product as small as this one.
    product = max(sync_chance * bits_chance, 1e-300)
    chance = min(1.0, product * (1 - math.log(product)))
    payload = Payload.from_bits(bits)
    return Detection(payload if payload.tool == TOOL else None, chance, period / PERIOD, best.mirrored)
