"""The StyleGAN2 generator: mapping and synthesis.

Parameters are named and scaled as in the widespread ``stylegan2-pytorch`` checkpoints, so that a trained generator is an
ordinary StyleGAN2 file. The arithmetic is arranged for speed: styles scale the activations instead of the weights, and on
accelerators an up-sampling convolution with its FIR filter is one 3x3 convolution into four phases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fit.networks import fused

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


class MappingLayer(EqualLinear):
    def __init__(self, width: int) -> None:
        super().__init__(width, width, lr_mul=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(x), 0.2) * SQRT2


class PixelNorm(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)


class Mapping(nn.Sequential):
    """z [n, z_dim] -> w [n, w_dim], z_dim = w_dim. Layer 0 is PixelNorm, so the keys are 1.weight, 1.bias, 2.weight ...

    While training, a fixed matrix stands between PixelNorm and the first layer: it turns z back into features, each scaled by how
    much of the picture it decides, so that what is learned first, and believed from few examples, is what matters. Some noise
    is added to the scaled features for the same reason. `folded_state` multiplies the matrix into the first layer.
    """

    conditioning: Tensor | None  # [width, width]

    def __init__(self, width: int, layers: int, conditioning: Tensor | None = None, noise: float = 0.0) -> None:
        super().__init__(PixelNorm(), *(MappingLayer(width) for _ in range(layers)))
        self.register_buffer("conditioning", conditioning, persistent=False)
        self.noise = noise
        self.width = width

    @property
    def shape(self) -> tuple[int, int]:
        """Width and number of layers."""
        return self.width, len(self.layers)

    @property
    def layers(self) -> list[MappingLayer]:
        return [layer for layer in self if isinstance(layer, MappingLayer)]

    def forward(self, z: Tensor) -> Tensor:
        return self.skip_norm(self[0](z))

    def skip_norm(self, z: Tensor) -> Tensor:
        """The same without PixelNorm."""
        if self.conditioning is not None:
            z = z @ self.conditioning.T
        if self.noise and self.training:
            z = z + self.noise * torch.randn_like(z)
        for layer in self.layers:
            z = layer(z)
        return z

    def load_folded(self, state: dict[str, Tensor]) -> None:
        """Take over a plain mapping network: the first layer is divided by the matrix again."""
        state = {name: value.float() for name, value in state.items()}
        if self.conditioning is not None:
            weight = state["1.weight"]
            state["1.weight"] = weight @ torch.linalg.pinv(self.conditioning.cpu().double()).to(weight)
        self.load_state_dict(state)

    def folded_state(self) -> dict[str, Tensor]:
        """State of the plain mapping network that computes the same."""
        state = self.state_dict()
        if self.conditioning is not None:
            state["1.weight"] = state["1.weight"] @ self.conditioning
        return state


class ModulatedConv(nn.Module):
    """weight [1, O, I, k, k]; `modulation` turns w into one scale per input channel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, w_dim: int, demodulate: bool = True, up: bool = False) -> None:
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
        """x [n, I, h, w], w [n, w_dim] -> un-normalized result and, if demodulated, its scale [n, O] (float32)."""
        style = self.modulation(w.float())
        weight = self.weight[0] * self.gain
        scale = None
        if self.demodulate:
            scale = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + 1e-8)
        x = fused.scale(x, style.to(x.dtype))
        if self.up:
            up = _up_by_phases if x.is_cuda else _up_by_transposition
            kernel = self.blur.kernel
            assert isinstance(kernel, Tensor)
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
        self.conv = ModulatedConv(inputs, outputs, 3, w_dim, up=up)
        self.noise = NoiseInjection()
        self.activate = ChannelBias(outputs)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x, scale = self.conv(x, w)
        assert scale is not None
        # Leaky ReLU times sqrt(2): the factor goes into what is added up before it.
        offset = (self.noise.weight * noise + self.activate.bias[None, :, None, None]) * SQRT2
        offset = offset.to(x.dtype).contiguous(memory_format=torch.channels_last)
        return fused.activate(x, (scale * SQRT2).to(x.dtype), offset)


class ToRGB(nn.Module):
    def __init__(self, inputs: int, w_dim: int, up: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if up:
            self.upsample = nn.Module()
            self.upsample.register_buffer("kernel", fir_kernel())

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        weight = self.conv.weight[0, :, :, 0, 0] * self.conv.gain
        rgb = fused.to_colors(x, weight.to(x.dtype), self.conv.modulation(w.float()).to(x.dtype)).float() + self.bias
        return rgb if skip is None else rgb + _up_fir(skip)


def _up_fir(x: Tensor) -> Tensor:
    """Up-sampling by two with the FIR and zeros outside, padding (2, 1): bilinear interpolation of the zero-padded picture."""
    return F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)[:, :, 2:-2, 2:-2]


class Synthesis(nn.Module):
    """codes [n, n_styles, w_dim] -> picture [n, 3, size, size], nominally -1..1.

    channels: one number per resolution 4, 8, 16 ... size.
    """

    def __init__(self, channels: Sequence[int], w_dim: int) -> None:
        super().__init__()
        self.channels = tuple(channels)
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

    def noise(self, i: int) -> Tensor:
        buffer = getattr(self.noises, f"noise_{i}")
        assert isinstance(buffer, Tensor)
        return buffer

    def forward(self, codes: Tensor, size: int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """`size` stops at a lower resolution; `dtype` is that of the feature maps, pictures are float32."""
        size = size or self.size
        constant = self.input.input
        assert isinstance(constant, Tensor)
        x = constant.to(dtype).expand(len(codes), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.conv1(x, codes[:, 0], self.noise(0))
        picture = self.to_rgb1(x, codes[:, 1], None)
        for level, to_rgb in enumerate(self.to_rgbs, 1):
            if 4 << level > size:
                break
            x = self.convs[2 * level - 2](x, codes[:, 2 * level - 1], self.noise(2 * level - 1))
            x = self.convs[2 * level - 1](x, codes[:, 2 * level], self.noise(2 * level))
            picture = to_rgb(x, codes[:, 2 * level + 1], picture)
        return picture


def generator_state(mapping: Mapping, synthesis: Synthesis) -> dict[str, Tensor]:
    """Both networks as one StyleGAN2 state dict."""
    state = {f"style.{name}": value for name, value in mapping.folded_state().items()}
    state.update(synthesis.state_dict())
    return state


def load_generator(state: dict[str, Tensor]) -> tuple[Mapping, Synthesis]:
    """Rebuild from such a state dict; every size is read off the tensors."""
    layers = max(int(name.split(".")[1]) for name in state if name.startswith("style."))
    width = state["style.1.weight"].shape[0]
    levels = max((int(name.split(".")[1]) for name in state if name.startswith("to_rgbs.")), default=-1) + 1
    channels = [state["conv1.conv.weight"].shape[1]]
    channels += [state[f"convs.{2 * level + 1}.conv.weight"].shape[1] for level in range(levels)]
    mapping, synthesis = Mapping(width, layers), Synthesis(channels, width)
    mapping.load_state_dict({k.removeprefix("style."): v.float() for k, v in state.items() if k.startswith("style.")})
    synthesis.load_state_dict({k: v.float() for k, v in state.items() if not k.startswith("style.")})
    return mapping, synthesis
