"""The networks: StyleGAN2 generator, its discriminator, and the encoder.

Parameters are named and scaled as in the widespread ``stylegan2-pytorch`` checkpoints, so that a trained generator is an
ordinary StyleGAN2 file. The arithmetic is arranged for speed: styles scale the activations instead of the weights, and on
accelerators an up-sampling convolution with its FIR filter is one 3x3 convolution into four phases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fit import fused

SQRT2 = math.sqrt(2)
_REACH = 6.0


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
            state["1.weight"] = state["1.weight"] @ torch.linalg.pinv(self.conditioning.cpu().double()).float()
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
            return up(x, weight, self.blur.kernel), scale
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
        x = self.input.input.to(dtype).expand(len(codes), -1, -1, -1).contiguous(memory_format=torch.channels_last)
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


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), nn.Conv2d(channels, channels, 3, 1, 1, bias=False))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.body(x)))


class Encoder(nn.Module):
    """A real person's crop and face mesh -> W+.

    Three looks: the whole crop at half size (hair, skin, beard, glasses ...), the strip with the eyes at full size (lids,
    gaze), and the 468 mesh points (pose, mouth, brows, face shape). Motion features are read from mesh and eyes alone, which
    cross from renders to photographs; the rest may see everything. The estimate goes through the generator's own mapping
    network, so any answer is a plausible person; a small offset per W+ row adds what features cannot say.
    """

    def __init__(
        self,
        size: int,  # of the crop, pixels
        motion: Sequence[int],  # columns of the features that change within a video
        features: int,
        n_styles: int,
        w_dim: int,
        widths: Sequence[int] = (24, 48, 96, 128, 160),
        depths: Sequence[int] = (0, 1, 2, 2, 1),
        points: int = 468,
        thumbnail: int = 0,  # pixels
        backdrop: Sequence[int] = (),  # columns of the features that the thumbnail alone tells
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "size": size, "motion": list(motion), "features": features, "n_styles": n_styles, "w_dim": w_dim,
            "widths": list(widths), "depths": list(depths), "points": points,
            "thumbnail": thumbnail, "backdrop": list(backdrop),
        }  # fmt: skip
        self.size, self.n_styles, self.w_dim = size, n_styles, w_dim
        stages: list[nn.Module] = []
        before = 3
        for width, depth in zip(widths, depths, strict=True):
            stages += [_conv(before, width, 2), *(Residual(width) for _ in range(depth))]
            before = width
        self.trunk = nn.Sequential(*stages)
        self.trunk_out = nn.Sequential(nn.Linear(before * (size >> (len(widths) + 1)) ** 2, 256), nn.ReLU(inplace=True))

        # Colors, and roughly where they are, need no depth.
        self.thumbnail = thumbnail
        if thumbnail:
            self.colors = nn.Sequential(nn.Linear(3 * thumbnail * thumbnail, 128), nn.ReLU(inplace=True))

        if backdrop:
            self.backdrop = nn.Sequential(
                nn.Linear(3 * thumbnail * thumbnail, 256), nn.ReLU(inplace=True), nn.Linear(256, len(backdrop))
            )
            self.register_buffer("backdrop_columns", F.one_hot(torch.tensor(backdrop), features).float())

        # Rows and columns where the FFHQ square holds the eyes.
        self.strip = (int(0.375 * size), int(0.5625 * size), int(0.1875 * size), int(0.8125 * size))
        self.eyes = nn.Sequential(_conv(3, 16, 2), _conv(16, 32, 2), _conv(32, 32), _conv(32, 48, 2), _conv(48, 64, 2))
        with torch.no_grad():
            top, bottom, left, right = self.strip
            flat = self.eyes.eval()(torch.zeros(1, 3, bottom - top, right - left)).numel()
        self.eyes_out = nn.Sequential(nn.Linear(flat, 96), nn.ReLU(inplace=True))

        self.register_buffer("landmark_mean", torch.zeros(points * 3))
        self.register_buffer("landmark_scale", torch.ones(points * 3))
        self.mesh = nn.Sequential(nn.Linear(points * 3, 192), nn.ReLU(inplace=True), nn.Linear(192, 192), nn.ReLU(inplace=True))
        self.mesh_shape = nn.Sequential(nn.Linear(points * 3, 96), nn.ReLU(inplace=True))

        still = [i for i in range(features) if i not in set(motion)]
        order = torch.tensor([*motion, *still]).argsort()
        self.register_buffer("order", order)
        self.motion = nn.Sequential(nn.Linear(192 + 96, 256), nn.ReLU(inplace=True), nn.Linear(256, len(motion)))
        seen = 256 + 96 + 96 + (128 if thumbnail else 0)
        self.still = nn.Sequential(nn.Linear(seen, 384), nn.ReLU(inplace=True), nn.Linear(384, len(still)))
        self.offset = nn.Sequential(nn.Linear(256 + 96 + 192 + 96, 96), nn.ReLU(inplace=True), nn.Linear(96, n_styles * w_dim))
        nn.init.zeros_(self.offset[2].weight)
        nn.init.zeros_(self.offset[2].bias)

    def set_landmark_statistics(self, landmarks: Tensor) -> None:
        """landmarks [n, 468, 3] in crop pixels."""
        unit = self._unit(landmarks)
        self.landmark_mean.copy_(unit.mean(0))
        self.landmark_scale.copy_(1 / (unit.std(0) + 0.02))

    def _unit(self, landmarks: Tensor) -> Tensor:
        return landmarks.flatten(1) * (2 / self.size)

    def forward(self, crop: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """crop [n,3,S,S] -1..1, landmarks [n,468,3] crop pixels -> standardized features [n,F], offsets [n,n_styles,w_dim]."""
        top, bottom, left, right = self.strip
        look = self.trunk_out(self.trunk(F.avg_pool2d(crop, 2)).flatten(1))
        eyes = self.eyes_out(self.eyes(crop[:, :, top:bottom, left:right]).flatten(1))
        points = ((self._unit(landmarks) - self.landmark_mean) * self.landmark_scale).to(look.dtype)
        mesh, shape = self.mesh(points), self.mesh_shape(points)
        motion = self.motion(torch.cat([mesh, eyes], 1))
        seen = [look, shape, eyes]
        small = F.avg_pool2d(crop, self.size // self.thumbnail).flatten(1) if self.thumbnail else None
        if small is not None:
            seen.append(self.colors(small))
        still = self.still(torch.cat(seen, 1))
        estimate = torch.cat([motion, still], 1)[:, self.order]
        if small is not None and self.settings["backdrop"]:
            elsewhere = 1 - self.backdrop_columns.sum(0)
            estimate = estimate * elsewhere + self.backdrop(small) @ self.backdrop_columns
        # Nobody is further than a few deviations from everybody else, whatever the camera shows.
        estimate = _REACH * torch.tanh(estimate / _REACH)
        offset = self.offset(torch.cat([look, shape, mesh, eyes], 1)).reshape(-1, self.n_styles, self.w_dim)
        return estimate.float(), offset.float()


def multiply_adds(network: nn.Module, *inputs: Tensor) -> float:
    """Multiply-adds of convolutions and linear layers in one run, counted by hooks on the functions."""
    total = 0.0
    conv2d, linear = F.conv2d, F.linear

    def counted_conv(x: Tensor, weight: Tensor, *args: Any, **options: Any) -> Tensor:
        nonlocal total
        y = conv2d(x, weight, *args, **options)
        total += y.numel() * weight[0].numel()
        return y

    def counted_linear(x: Tensor, weight: Tensor, *args: Any) -> Tensor:
        nonlocal total
        y = linear(x, weight, *args)
        total += y.numel() * weight.shape[1]
        return y

    F.conv2d, F.linear = counted_conv, counted_linear  # type: ignore[assignment]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        F.conv2d, F.linear = conv2d, linear
    return total
