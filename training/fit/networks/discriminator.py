"""The discriminator of the adversarial stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fit.networks.stylegan2 import SQRT2, EqualLinear


class EqualConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * kernel * kernel)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.conv2d(x, (self.weight * self.gain).to(x.dtype), bias, padding=self.weight.shape[-1] // 2)


class ResidualDown(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualConv(inputs, inputs, 3)
        self.second = EqualConv(inputs, outputs, 3)
        self.shortcut = EqualConv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(x), 0.2) * SQRT2
        # Pooling before the convolution costs a quarter and blurs like the FIR of the original.
        y = F.leaky_relu(self.second(F.avg_pool2d(y, 2)), 0.2) * SQRT2
        return (y + self.shortcut(F.avg_pool2d(x, 2))) / SQRT2


class Discriminator(nn.Module):
    """Picture [n, 3, size, size] and a condition [n, c] -> score [n], and its feature maps for matching."""

    def __init__(self, channels: Sequence[int], condition: int) -> None:
        """channels: one number per resolution 4, 8 ... size."""
        super().__init__()
        down = list(channels)[::-1]
        self.from_rgb = EqualConv(3, down[0], 1)
        self.blocks = nn.ModuleList(ResidualDown(a, b) for a, b in pairwise(down))
        self.last = EqualConv(down[-1] + 1, down[-1], 3)
        self.hidden = EqualLinear(down[-1] * 16, down[-1])
        self.score = EqualLinear(down[-1], 1)
        self.condition = EqualLinear(condition, down[-1])

    def forward(self, picture: Tensor, condition: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[Tensor]]:
        x = picture.to(dtype).contiguous(memory_format=torch.channels_last)
        x = F.leaky_relu(self.from_rgb(x), 0.2) * SQRT2
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        x = torch.cat([x, _batch_spread(x)], 1)
        x = F.leaky_relu(self.last(x), 0.2) * SQRT2
        h = F.leaky_relu(self.hidden(x.flatten(1).float()), 0.2) * SQRT2
        match = (h * self.condition(condition)).sum(1) / math.sqrt(h.shape[1])
        return self.score(h)[:, 0] + match, maps


def _batch_spread(x: Tensor, group: int = 8) -> Tensor:
    """One map: how much the pictures of a group differ."""
    n, c, h, w = x.shape
    group = math.gcd(n, group)
    spread = x.float().reshape(group, n // group, c, h, w).var(0, unbiased=False).add(1e-8).sqrt().mean((1, 2, 3))
    return spread.repeat(group)[:, None, None, None].expand(n, 1, h, w).to(x.dtype)
