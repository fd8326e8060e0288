"""How far two computations of one network are apart: a cheaper precision or another backend against float32.

Pictures nominally in -1..1 are judged by their PSNR, with a peak of 2; codes and everything else by the
relative L2 distance. All figures are taken over all samples together, so that no sample can hide behind
its own norm; ``worst_psnr_db`` is that of the worst single picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .errors import ParityError
from .pictures.resample import resample

PEAK = 2.0  # of a picture in -1..1
EQUAL_DB = 200.0  # stands for infinity, which JSON lacks

# Wang et al., "Multiscale structural similarity for image quality assessment", 2003.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_STRIP = 32  # pixels blurred by one small matrix product

Floats = NDArray[Any]


@dataclass(frozen=True)
class Bound:
    """The drift that a precision may have."""

    psnr_db: float  # of pictures, at least
    relative_l2: float  # of everything else, at most


BOUNDS = {
    "float32": Bound(psnr_db=60.0, relative_l2=1e-3),
    "tf32": Bound(psnr_db=35.0, relative_l2=1e-2),
    "float16": Bound(psnr_db=35.0, relative_l2=1e-2),
    "bfloat16": Bound(psnr_db=35.0, relative_l2=1e-2),
    "int16": Bound(psnr_db=35.0, relative_l2=1e-2),
    "int8": Bound(psnr_db=30.0, relative_l2=1e-2),
}


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Measured distance from float32 over ``samples`` inputs."""

    samples: int
    max_abs: float
    relative_l2: float
    psnr_db: float | None = None  # pictures only
    worst_psnr_db: float | None = None
    ms_ssim: float | None = None

    def within(self, bound: Bound) -> bool:
        """False also for results that are not numbers."""
        if self.psnr_db is not None:
            return self.psnr_db >= bound.psnr_db
        return self.relative_l2 <= bound.relative_l2

    def __str__(self) -> str:
        if self.psnr_db is None:
            return f"rel. L2 {self.relative_l2:.1e}"
        return f"{self.psnr_db:.1f} dB, MS-SSIM {self.ms_ssim:.4f}"


def measure(
    reference: Sequence[Floats],  # one result per sample
    got: Sequence[Floats],  # same shapes
    *,
    image: bool,  # float32 [1,3,R,R], nominally -1..1
) -> Drift:
    """Compare results sample by sample. Raises ValueError if there are none or shapes differ."""
    if not reference or len(reference) != len(got):
        raise ValueError(
            f"drift: expected as many results as references, got {len(got)} and {len(reference)}"
        )
    squares, norm, largest, count, worst = 0.0, 0.0, 0.0, 0, EQUAL_DB
    similarity: list[float] = []
    for a, b in zip(reference, got, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"drift: expected shape {list(a.shape)}, got {list(b.shape)}")
        difference = np.subtract(b, a, dtype=np.float64)
        if not np.isfinite(difference).all():
            bad = -EQUAL_DB if image else None
            # JSON has no infinity either; these figures are past every bound.
            return Drift(len(got), 1e30, 1e30, bad, bad, -1.0 if image else None)
        error = float(np.square(difference).sum())
        squares, count = squares + error, count + a.size
        norm += float(np.square(a, dtype=np.float64).sum())
        largest = max(largest, float(np.abs(difference).max(initial=0.0)))
        if image:
            worst = min(worst, psnr_db(error / a.size))
            similarity.append(ms_ssim(a[0], b[0]))
    relative = math.sqrt(squares / norm) if norm > 0 else math.sqrt(squares)
    if not image:
        return Drift(len(got), largest, relative)
    return Drift(len(got), largest, relative, psnr_db(squares / count), worst, float(np.mean(similarity)))


def require(network: str, precision: str, drift: Drift, bound: Bound | None = None) -> Drift:
    """Return ``drift`` if it is within the bound of ``precision``. Raises ParityError with the figure."""
    bound = bound or BOUNDS[precision]
    if drift.within(bound):
        return drift
    if drift.psnr_db is not None:
        want, got = f"at least {bound.psnr_db:g} dB", f"{drift.psnr_db:.1f} dB"
    else:
        want, got = f"a relative L2 distance of at most {bound.relative_l2:.0e}", f"{drift.relative_l2:.1e}"
    raise ParityError(
        f"network {network!r} in {precision}: expected {want} against float32 over {drift.samples} samples, "
        f"got {got}; keep float32, or calibrate on samples closer to what the network will see"
    )


def ms_ssim(
    a: Floats,  # float32 [3,R,R], nominally -1..1
    b: Floats,
) -> float:
    """Multi-scale structural similarity, 1 for equal pictures; fewer scales below 176 px."""
    side = min(a.shape[1:])
    scales = max(1, min(len(_SCALE_WEIGHTS), int(math.log2(max(side / _WINDOW, 1))) + 1))
    weights = np.array(_SCALE_WEIGHTS[:scales]) / sum(_SCALE_WEIGHTS[:scales])
    x, y = _bytes_range(a), _bytes_range(b)
    value = 1.0
    for scale, weight in enumerate(weights):
        luminance, contrast = _ssim_terms(x, y)
        term = luminance * contrast if scale == scales - 1 else contrast
        value *= max(term, 0.0) ** weight
        x, y = _halved(x), _halved(y)
    return float(value)


def _bytes_range(picture: Floats) -> Floats:
    """-1..1 -> 0..255, still float32."""
    return np.asarray(np.clip(picture.astype(np.float32), -1, 1) * 127.5 + 127.5)


def _ssim_terms(x: Floats, y: Floats) -> tuple[float, float]:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    both = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * both + c2) / (var_x + var_y + c2)
    return float(luminance.mean()), float(contrast.mean())


def _blur(maps: Floats) -> Floats:
    """[...,H,W] -> same: Gaussian of the window along both axes, mirrored about the outermost pixels.

    As products with a band matrix, a strip of pixels at a time: BLAS outruns sums of shifted pictures.
    """
    (height, width), reach, span = maps.shape[-2:], _WINDOW // 2, _STRIP + _WINDOW - 1
    around = [(reach, reach + -side % _STRIP) for side in (height, width)]
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + around, mode="reflect")

    # All views: [...,strip,span,W] from above, [...,strip,H,span] from the left.
    above = sliding_window_view(padded, span, axis=-2)[..., ::_STRIP, :, :].swapaxes(-1, -2)
    down = _band().T @ above
    down = down.reshape(*maps.shape[:-2], -1, padded.shape[-1])
    left = sliding_window_view(down, span, axis=-1)[..., ::_STRIP, :].swapaxes(-2, -3)
    blurred = np.empty((*left.shape[:-3], left.shape[-2], left.shape[-3], _STRIP), np.float32)
    np.matmul(left, _band(), out=blurred.swapaxes(-2, -3))
    return blurred.reshape(*down.shape[:-1], -1)[..., :height, :width]


@lru_cache(maxsize=1)
def _band() -> Floats:
    """float32 [strip + window - 1, strip]: column i holds the window, i pixels down."""
    window = np.exp(-np.square(np.arange(_WINDOW) - _WINDOW // 2) / (2 * _SIGMA**2))
    band = np.zeros((_STRIP + _WINDOW - 1, _STRIP), np.float32)
    for i in range(_STRIP):
        band[i : i + _WINDOW, i] = window / window.sum()
    return band


def _halved(v: Floats) -> Floats:
    """[...,H,W] -> [...,H/2,W/2] by means of areas."""
    height, width = v.shape[-2] // 2, v.shape[-1] // 2
    if v.shape[-2] % 2 or v.shape[-1] % 2:
        return resample(v, (height, width))
    return np.asarray(v.reshape(*v.shape[:-2], height, 2, width, 2).mean((-3, -1)))


def psnr_db(mean_square: float) -> float:
    """Peak signal to noise of pictures in -1..1 that differ by so much on average; EQUAL_DB if not at all."""
    return min(EQUAL_DB, 10 * math.log10(PEAK**2 / mean_square)) if mean_square > 0 else EQUAL_DB
