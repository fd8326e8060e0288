"""Losses and measures on pictures [n, 3, h, w] in -1..1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from doppelgan.export.tuning.losses import SCALES, pyramid_l1, structure
from torch import Tensor

__all__ = ["SCALES", "feature_matching", "ms_ssim", "psnr", "pyramid_l1", "structure"]


def feature_matching(drawn: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean relative L1 of a network's feature maps."""
    terms = [
        (m - r.detach()).abs().float().mean() / (r.detach().abs().float().mean() + 1e-3) for m, r in zip(drawn, real, strict=True)
    ]
    return torch.stack(terms).mean()


def psnr(drawn: Tensor, real: Tensor) -> Tensor:
    """Per picture, dB, after clipping to -1..1."""
    error = (drawn.clamp(-1, 1) - real).square().mean((1, 2, 3))
    return 10 * torch.log10(4 / error.clamp(min=1e-10))


def ms_ssim(drawn: Tensor, real: Tensor) -> Tensor:
    """Per picture: multi-scale SSIM (Wang 2003; 11-tap Gaussian, sigma 1.5; as many of its 5 scales as fit)."""
    weights = torch.tensor(SCALES, device=drawn.device)
    scales = max(1, sum(drawn.shape[-1] // 2**k >= 11 for k in range(len(SCALES))))
    weights = weights[:scales] / weights[:scales].sum()
    a, b = drawn.float().clamp(-1, 1) / 2 + 0.5, real.float() / 2 + 0.5
    taps = min(11, drawn.shape[-1] // 2 * 2 - 1)
    line = torch.exp(-((torch.arange(taps, device=drawn.device) - taps // 2) ** 2) / (2 * 1.5**2))
    line = line / line.sum()
    kernel = (line[:, None] * line[None, :])[None, None].expand(3, 1, taps, taps)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=3)

    result = torch.ones(len(a), device=drawn.device)
    for k in range(scales):
        mean_a, mean_b = blur(a), blur(b)
        var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
        structure = (2 * (blur(a * b) - mean_a * mean_b) + 0.03**2) / (var_a + var_b + 0.03**2)
        if k == scales - 1:
            structure = structure * (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        result = result * structure.mean((1, 2, 3)).clamp(min=1e-4) ** weights[k]
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return result
