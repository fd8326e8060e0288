"""The element-wise steps of a styled convolution, arranged for memory traffic; each is its own derivative.

On a CPU these passes cost as much as the convolutions. Three things make them cheap: feature maps lie
channels-last and are read as rows of width times channels, so that a factor per channel runs through long
vectors even when there are 8 channels; nothing is computed twice for the derivative; and the blur, which is
symmetric, is its own transpose.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_SLOPE = 0.2


def rows(x: Tensor) -> Tensor:
    """Feature maps [n, C, h, w] as [n, h, w * C], without a copy where they lie channels-last."""
    n, channels, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, h, w * channels)


def maps(x: Tensor, channels: int) -> Tensor:
    """The reverse: [n, h, w * C] -> [n, C, h, w], channels-last."""
    n, h, across = x.shape
    return x.view(n, h, across // channels, channels).permute(0, 3, 1, 2)


def _along(factor: Tensor, w: int) -> Tensor:
    """A factor per channel [n, C] for `rows`: [n, 1, w * C]."""
    n, channels = factor.shape
    return factor[:, None, :].expand(n, w, channels).reshape(n, 1, w * channels)


def _over_places(x: Tensor, channels: int) -> Tensor:
    """Rows [n, h, w * C] -> sums per channel [n, C]."""
    return x.sum(1).view(len(x), -1, channels).sum(1)


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        flat, along = rows(x), _along(factor, x.shape[3])
        ctx.save_for_backward(flat, along)
        return maps(flat * along, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        flat, along = ctx.saved_tensors
        channels = gradients[0].shape[1]
        gradient = rows(gradients[0])
        return maps(gradient * along, channels), _over_places(gradient * flat, channels)


def scale(x: Tensor, factor: Tensor) -> Tensor:
    """x [n, C, h, w] times one factor per channel [n, C]."""
    result: Tensor = _Scale.apply(x, factor)  # type: ignore[no-untyped-call]
    return result


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
        flat, along = rows(x), _along(factor, x.shape[3])
        y = F.leaky_relu(torch.addcmul(rows(offset), flat, along), _SLOPE, inplace=True)
        ctx.save_for_backward(flat, along, y)
        return maps(y, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat, along, y = ctx.saved_tensors
        channels = gradients[0].shape[1]
        # The slope of a leaky ReLU can be told from its result.
        gradient = torch.ops.aten.leaky_relu_backward(rows(gradients[0]), y, _SLOPE, True)
        offset = maps(gradient.sum(0, keepdim=True), channels)
        factor = _over_places(gradient * flat, channels)
        return maps(gradient.mul_(along), channels), factor, offset


def activate(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Leaky ReLU (0.2) of x [n, C, h, w] times a factor per channel [n, C] plus an offset [1, C, h, w]."""
    result: Tensor = _Activate.apply(x, factor, offset)  # type: ignore[no-untyped-call]
    return result


class _Blur(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.kernel = kernel
        return _blur(x, kernel, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _blur(gradients[0], ctx.kernel, 2), None


def _blur(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    channels = x.shape[1]
    return F.conv2d(x, kernel.to(x.dtype).expand(channels, 1, 4, 4), padding=padding, groups=channels)


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """x [n,C,h+1,w+1], every channel convolved with a symmetric kernel [4,4], padding 1: [n,C,h,w]."""
    result: Tensor = _Blur.apply(x, kernel)  # type: ignore[no-untyped-call]
    return result


def to_colors(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    """A modulated 1x1 convolution with few outputs: x [n,I,h,w], weight [O,I], style [n,I] -> [n,O,h,w].

    The styles go into the small weights instead of the large maps.
    """
    n, inputs, h, w = x.shape
    flat = x.permute(0, 2, 3, 1).reshape(n, h * w, inputs)
    return torch.bmm(flat, (weight * style[:, None, :]).transpose(1, 2)).view(n, h, w, -1).permute(0, 3, 1, 2)
