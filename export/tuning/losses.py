"""Losses and measures on pictures [n, 3, h, w] in -1..1, weighted by place."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# What MS-SSIM counts of each scale, from full size down by halves (Wang et al. 2003).
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 5  # pixels


def pyramid_l1(
    drawn: Tensor,
    real: Tensor,
    weight: Tensor,  # [n or 1, 1, h, w]
    levels: int = 4,
) -> Tensor:
    """Weighted L1 at full size and at halves of it; each level counts the same."""
    difference = drawn - real
    total = (difference.abs() * weight).mean()
    for _ in range(levels - 1):
        if difference.shape[-1] <= 8:
            break
        difference = F.avg_pool2d(difference, 2)
        weight = F.avg_pool2d(weight, 2)
        total = total + (difference.abs() * weight).mean()
    return total


def structure(
    drawn: Tensor,
    real: Tensor,
    full: int,  # px: levels count as in the MS-SSIM of pictures of this size
    weight: Tensor | None = None,  # [n or 1, 1, h, w], mean of about 1; None: all places count alike
) -> Tensor:
    """1 - SSIM, its weighted mean over places and levels of a pyramid: the contrast that L1 gives away.

    Windows are 5 px wide, as wide as MS-SSIM's Gaussian is (standard deviation 1.4), and go by 2.
    """
    if weight is None:
        weight = drawn.new_ones(1, 1, *drawn.shape[2:])
    a, b = drawn / 2 + 0.5, real / 2 + 0.5
    total, shares = drawn.new_zeros(()), 0.0
    skipped = round(math.log2(max(full / drawn.shape[-1], 1)))
    for share in SCALES[skipped:]:
        if a.shape[-1] < _WINDOW:
            break
        mean_a, mean_b, aa, bb, ab = (F.avg_pool2d(x, _WINDOW, 2) for x in (a, b, a * a, b * b, a * b))
        both = mean_a * mean_b
        squares = mean_a.square() + mean_b.square()
        likeness = (2 * both + 0.01**2) / (squares + 0.01**2)
        likeness = likeness * (2 * (ab - both) + 0.03**2) / (aa + bb - squares + 0.03**2)
        total = total + share * ((1 - likeness) * F.avg_pool2d(weight, _WINDOW, 2)).mean()
        shares += share
        a, b, weight = (F.avg_pool2d(x, 2) for x in (a, b, weight))
    return total / max(shares, 1e-6)


def psnr(drawn: Tensor, real: Tensor, weight: Tensor) -> float:
    """dB, after clipping to -1..1, of the weighted mean square."""
    error = ((drawn.clamp(-1, 1) - real).square() * weight).mean() / weight.mean()
    return float(10 * torch.log10(4 / error.clamp(min=1e-10)))
