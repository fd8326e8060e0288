"""The StyleGAN2 synthesis network as a module that learns.

Parameters are named and scaled as in the widespread ``stylegan2-pytorch`` checkpoints, so that what was
learned is an ordinary StyleGAN2 file. The arithmetic is arranged for speed: styles scale the activations
instead of the weights, and on accelerators an up-sampling convolution with its FIR filter is one 3x3
convolution into four phases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fused

SQRT2 = math.sqrt(2)


def fir_kernel() -> Tensor:
    """[1,3,3,1] x [1,3,3,1], normalized for up-sampling by two: [4, 4], sum 4."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = line[:, None] * line[None, :]
    return kernel / kernel.sum() * 4


class EqualLinear(nn.Module):
    """Linear layer whose weights are stored with unit variance (divided by `lr_mul`)."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, lr_mul: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_mul))
        self.gain = lr_mul / math.sqrt(inputs)
        self.lr_mul = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, (self.weight * self.gain).to(x.dtype), (self.bias * self.lr_mul).to(x.dtype))


class ModulatedConv(nn.Module):
    """weight [1, O, I, k, k]; `modulation` turns w into one scale per input channel."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, w_dim: int, demodulate: bool = True, up: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(w_dim, inputs, bias=1.0)
        self.gain = 1 / math.sqrt(inputs * kernel * kernel)
        self.demodulate = demodulate
        self.up = up
        if up:
            self.blur = nn.Module()
            self.blur.register_buffer("kernel", fir_kernel())

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [n, I, h, w], w [n, w_dim] -> un-normalized result and, if demodulated, its scale [n, O]."""
        style = self.modulation(w.float())
        weight = self.weight[0] * self.gain
        scale = None
        if self.demodulate:
            scale = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + 1e-8)
        x = fused.scale(x, style.to(x.dtype))
        if self.up:
            up = _up_by_phases if x.is_cuda else _up_by_transposition
            kernel = self.blur.get_buffer("kernel")
            return up(x, weight, kernel), scale
        return F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2), scale


def _up_by_transposition(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Transposed convolution with stride 2, then FIR with padding (1, 1): [n,I,h,w] -> [n,O,2h,2w]."""
    y = F.conv_transpose2d(x, weight.transpose(0, 1).to(x.dtype), stride=2)
    return fused.blur(y, kernel)


def _up_by_phases(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """The same as one convolution: four times the arithmetic, but of the kind that tensor cores like.

    The two kernels together are 6x6; each of the four output phases sees 3x3 of its taps.
    """
    outputs, inputs = weight.shape[:2]
    joint = F.conv2d(weight.reshape(-1, 1, 3, 3), kernel.flip(0, 1)[None, None].to(weight.dtype), padding=3)
    joint = joint.reshape(outputs, inputs, 6, 6)
    phases = [joint[:, :, [4 + p, 2 + p, p]][:, :, :, [4 + q, 2 + q, q]] for p in (0, 1) for q in (0, 1)]
    y = F.conv2d(x, torch.cat(phases).to(x.dtype), padding=1)
    n, _, h, w = y.shape
    y = y.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, outputs).transpose(2, 3)
    return y.reshape(n, 2 * h, 2 * w, outputs).permute(0, 3, 1, 2)


class NoiseInjection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class ChannelBias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, w_dim: int, up: bool = False) -> None:
        super().__init__()
        self.clamp: float | None = None  # of the activations
        self.conv = ModulatedConv(inputs, outputs, 3, w_dim, up=up)
        self.noise = NoiseInjection()
        self.activate = ChannelBias(outputs)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x, scale = self.conv(x, w)
        assert scale is not None
        # Leaky ReLU times sqrt(2): the factor goes into what is added up before it.
        offset = (self.noise.weight * noise + self.activate.bias[None, :, None, None]) * SQRT2
        offset = offset.to(x.dtype).contiguous(memory_format=torch.channels_last)
        x = fused.activate(x, (scale * SQRT2).to(x.dtype), offset)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRGB(nn.Module):
    def __init__(self, inputs: int, w_dim: int, up: bool) -> None:
        super().__init__()
        self.clamp: float | None = None  # before it is added
        self.conv = ModulatedConv(inputs, 3, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if up:
            self.upsample = nn.Module()
            self.upsample.register_buffer("kernel", fir_kernel())

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        weight = self.conv.weight[0, :, :, 0, 0] * self.conv.gain
        style = self.conv.modulation(w.float()).to(x.dtype)
        rgb = fused.to_colors(x, weight.to(x.dtype), style).float() + self.bias
        if self.clamp is not None:
            rgb = rgb.clamp(-self.clamp, self.clamp)
        return rgb if skip is None else rgb + _up_fir(skip)


def _up_fir(x: Tensor) -> Tensor:
    """Up-sampling by two with the FIR, zeros outside, padding (2, 1): bilinear on the zero-padded picture."""
    return F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)[
        :, :, 2:-2, 2:-2
    ]


class Synthesis(nn.Module):
    """codes [n, n_styles, w_dim] -> picture [n, 3, size, size], nominally -1..1.

    channels: one number per resolution 4, 8, 16 ... size.
    """

    def __init__(self, channels: Sequence[int], w_dim: int) -> None:
        super().__init__()
        self.channels, self.w_dim = tuple(channels), w_dim
        self.n_styles = 2 * len(channels)
        self.input = nn.Module()
        self.input.register_parameter("input", nn.Parameter(torch.randn(1, channels[0], 4, 4)))
        self.conv1 = StyledConv(channels[0], channels[0], w_dim)
        self.to_rgb1 = ToRGB(channels[0], w_dim, up=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        self.noises = nn.Module()
        self.noises.register_buffer("noise_0", torch.randn(1, 1, 4, 4))
        for level in range(1, len(channels)):
            before, here, size = channels[level - 1], channels[level], 4 << level
            self.convs.append(StyledConv(before, here, w_dim, up=True))
            self.convs.append(StyledConv(here, here, w_dim))
            self.to_rgbs.append(ToRGB(here, w_dim, up=True))
            for i in (2 * level - 1, 2 * level):
                self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, size, size))

    @property
    def size(self) -> int:
        return 4 << len(self.to_rgbs)

    def layers(self) -> list[tuple[int, StyledConv | ToRGB]]:
        """All layers in the order in which they draw, with the row of the codes that each reads.

        One convolution and one RGB at 4 pixels, then two and one; an RGB shares its row with what follows it.
        """
        ordered: list[tuple[int, StyledConv | ToRGB]] = [(0, self.conv1), (1, self.to_rgb1)]
        for level, to_rgb in enumerate(self.to_rgbs, 1):
            three = (self.convs[2 * level - 2], self.convs[2 * level - 1], to_rgb)
            for row, layer in enumerate(three, 2 * level - 1):
                assert isinstance(layer, StyledConv | ToRGB)
                ordered.append((row, layer))
        return ordered

    def noise(self, i: int) -> Tensor:
        buffer = getattr(self.noises, f"noise_{i}")
        assert isinstance(buffer, Tensor)
        return buffer

    def forward(self, codes: Tensor, size: int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """`size` stops at a lower resolution; `dtype` is that of the feature maps, pictures are float32."""
        size = size or self.size
        x = (
            self.input.get_parameter("input")
            .to(dtype)
            .expand(len(codes), -1, -1, -1)
            .contiguous(memory_format=torch.channels_last)
        )
        x = self.conv1(x, codes[:, 0], self.noise(0))
        picture: Tensor = self.to_rgb1(x, codes[:, 1], None)
        for level, to_rgb in enumerate(self.to_rgbs, 1):
            if 4 << level > size:
                break
            x = self.convs[2 * level - 2](x, codes[:, 2 * level - 1], self.noise(2 * level - 1))
            x = self.convs[2 * level - 1](x, codes[:, 2 * level], self.noise(2 * level))
            picture = to_rgb(x, codes[:, 2 * level + 1], picture)
        return picture
