"""StyleGAN2's mapping and synthesis networks, arranged for inference engines.

The published networks scale each convolution's *weights* by the style of the sample. Engines want
constant weights, so here the style scales the activations instead, which is the same sum::

    y[o] = demod[o] * sum_i W[o,i] * (style[i] * x[i])
    demod[o] = rsqrt(sum_i style[i]^2 sum_k W[o,i,k]^2 + eps)

All constant factors (equalized learning rate, activation gain, noise strength, FIR gain) are
folded into the stored constants, and the affine layers that read the same row of a W+ code are
stacked into one matrix product.

Sources: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; the tensor
names of the two public PyTorch layouts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from doppelgan.runtime.errors import CheckpointError
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.module_attributes import DEFAULT_GAINS, SLOPES, Modules
from ..checkpoints.tensors import TensorTable

DEMOD_EPS = 1e-8
LR_MULTIPLIER = 0.01  # of the mapping network, where no attribute says it


@dataclass(frozen=True)
class Affine:
    """Style of one convolution: ``style = weight @ code[row] + bias``."""

    weight: Tensor  # [I, w_dim], gain folded in
    bias: Tensor  # [I]
    row: int  # of the W+ code


@dataclass(frozen=True)
class StyledConv:
    """One modulated, demodulated 3x3 convolution with noise, bias and leaky ReLU."""

    affine: Affine
    weight: Tensor  # [O, I, 3, 3]
    demod: Tensor  # [O, I], squared weights summed over the kernel, over the activation's gain^2: carries it
    demod_eps: float
    noise: Tensor  # [1, 1, R, R], times its strength and the gain
    bias: Tensor  # [O], times the gain
    fir: Tensor | None  # [k, k], sums to 4: present if the convolution doubles the resolution
    clamp: float | None  # of the activations after the gain
    slope: float = SLOPES["lrelu"]  # of the leaky ReLU; 0 is a ReLU, 1 none


@dataclass(frozen=True)
class ToRGB:
    """One modulated 1x1 convolution to RGB, without demodulation."""

    affine: Affine
    weight: Tensor  # [3, I], gain folded in
    bias: Tensor  # [3]
    fir: Tensor | None  # [k, k], sums to 4: doubles the resolution of the RGB sum so far
    clamp: float | None


@dataclass(frozen=True)
class MappingLayer:
    """One fully connected layer with its activation."""

    weight: Tensor  # [w_dim, z_dim or w_dim], gains folded in
    bias: Tensor  # [w_dim], gains folded in
    slope: float


@dataclass(frozen=True)
class GeneratorWeights:
    """A StyleGAN2 generator, whichever file it came from."""

    mapping: tuple[MappingLayer, ...]
    const: Tensor  # [1, C, 4, 4]
    convs: tuple[StyledConv, ...]  # 1 at 4x4, then 2 per resolution
    rgbs: tuple[ToRGB, ...]  # 1 per resolution
    w_avg: Tensor | None = None  # [w_dim]
    notes: tuple[str, ...] = ()  # what was assumed or left out, for people

    @property
    def image_size(self) -> int:
        return 4 << (len(self.rgbs) - 1)

    @property
    def n_styles(self) -> int:
        return 2 * len(self.rgbs)

    @property
    def w_dim(self) -> int:
        return int(self.convs[0].affine.weight.shape[1])

    @property
    def z_dim(self) -> int:
        return int(self.mapping[0].weight.shape[1]) if self.mapping else 0


def _styled_conv(
    weight: Tensor,  # [O, I, 3, 3], unscaled
    affine: Affine,
    noise: Tensor,  # [R, R]
    strength: Tensor,  # scalar
    bias: Tensor,  # [O]
    eps: float,  # of the demodulation, for the weight times 1/sqrt(9 I)
    fir: Tensor | None,
    clamp: float | None = None,
    slope: float = SLOPES["lrelu"],
    gain: float = DEFAULT_GAINS["lrelu"],  # of the activation; it commutes with these positive factors
) -> StyledConv:
    scaled = weight / math.sqrt(weight.shape[1] * weight.shape[2] * weight.shape[3])
    return StyledConv(
        affine=affine,
        weight=scaled,
        # rsqrt(v / g^2) = g rsqrt(v)
        demod=scaled.square().sum(dim=(2, 3)) / gain**2,
        demod_eps=eps / gain**2,
        noise=(noise * strength * gain)[None, None],
        bias=bias * gain,
        slope=slope,
        fir=fir,
        clamp=clamp,
    )


def from_rosinality(g: TensorTable) -> GeneratorWeights:
    """Read the layout of stylegan2-pytorch (``g_ema``), also the ``decoder`` of the encoders' checkpoints.

    Every size comes from the tensors. Files from before noise and filters were buffers lack them (the public
    550000.pt): such noise was drawn anew for each picture, so any draw is as good, and the filter was
    [1,3,3,1] always. Raises CheckpointError with the name of the offending tensor.
    """
    notes: list[str] = []
    channels = int(g.peek("input.input", 4).shape[1])
    w_dim = int(g.peek("conv1.conv.modulation.weight", 2).shape[1])
    n_blocks = len(g.indices(r"to_rgbs\.(\d+)\."))

    def affine(prefix: str, n_in: int, row: int) -> Affine:
        weight = g.take(f"{prefix}.modulation.weight", n_in, w_dim) / math.sqrt(w_dim)
        return Affine(weight, g.take(f"{prefix}.modulation.bias", n_in), row)

    def styled_conv(prefix: str, n_in: int, size: int, noise_index: int, row: int, up: bool) -> StyledConv:
        weight = g.take(f"{prefix}.conv.weight", 1, None, n_in, 3, 3)[0]
        return _styled_conv(
            weight,
            affine(f"{prefix}.conv", n_in, row),
            noise(noise_index, size),
            g.take(f"{prefix}.noise.weight", 1)[0],
            g.take(f"{prefix}.activate.bias", weight.shape[0]),
            DEMOD_EPS,
            fir(f"{prefix}.conv.blur.kernel") if up else None,
        )

    def to_rgb(prefix: str, n_in: int, row: int, up: bool) -> ToRGB:
        n_out = image_channels(g, f"{prefix}.conv.weight", 1, notes)
        weight = g.take(f"{prefix}.conv.weight", 1, n_out, n_in, 1, 1)[0, :, :, 0, 0] / math.sqrt(n_in)
        return ToRGB(
            affine(f"{prefix}.conv", n_in, row),
            _as_rgb(weight),
            _as_rgb(g.take(f"{prefix}.bias", 1, n_out, 1, 1).flatten()),
            fir(f"{prefix}.upsample.kernel") if up else None,
            clamp=None,
        )

    def fir(name: str) -> Tensor:
        kind = ".".join(name.split(".")[-2:])  # blur.kernel or upsample.kernel
        if name in g or any(other.endswith(kind) for other in filters):
            return _filter(g, name)
        usual = _filter(g, filters[0]) if filters else _fir()
        return _note(notes, f"it holds no {kind}: the filter [1,3,3,1] is used", usual)

    def noise(index: int, size: int) -> Tensor:
        if noises:
            return g.take(f"noises.noise_{index}", 1, 1, size, size)[0, 0]
        drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(index))
        return _note(notes, "it holds no noise (noises.*): noise is drawn with fixed seeds", drawn)

    noises = g.indices(r"noises\.noise_(\d+)")
    filters = [name for name in g if name.endswith((".blur.kernel", ".upsample.kernel"))]

    # 4x4
    const = g.take("input.input", 1, channels, 4, 4)
    convs = [styled_conv("conv1", channels, 4, 0, row=0, up=False)]
    rgbs = [to_rgb("to_rgb1", convs[-1].weight.shape[0], row=1, up=False)]

    # 8x8 and up
    for k in range(n_blocks):
        size = 8 * 2**k
        for j, up in ((2 * k, True), (2 * k + 1, False)):
            n_in = convs[-1].weight.shape[0]
            convs.append(styled_conv(f"convs.{j}", n_in, size, j + 1, row=j + 1, up=up))
        rgbs.append(to_rgb(f"to_rgbs.{k}", convs[-1].weight.shape[0], row=2 * k + 3, up=True))

    return GeneratorWeights(
        mapping=_mapping(g, [f"style.{i}" for i in g.indices(r"style\.(\d+)\.weight")], w_dim, {}),
        const=const,
        convs=tuple(convs),
        rgbs=tuple(rgbs),
        notes=tuple(notes),
    )


def from_nvidia(
    g: TensorTable,
    modules: Modules = MappingProxyType({}),  # attributes that a pickle holds, see module_attributes.py
) -> GeneratorWeights:
    """Read the layout of stylegan2-ada-pytorch (``G_ema``).

    Without ``modules`` the published defaults hold: leaky ReLU 0.2, lr_multiplier 0.01, no clamp. Raises
    CheckpointError with the name of the offending tensor.
    """
    notes: list[str] = []
    syn = g.under("synthesis.")
    channels = int(syn.peek("b4.const", 3).shape[0])
    w_dim = int(syn.peek("b4.conv1.affine.weight", 2).shape[1])
    sizes = syn.indices(r"b(\d+)\.torgb\.")
    sizes = [4 * 2**k for k in range(len(sizes))]  # a gap shows as a missing tensor below

    def said(name: str) -> ReadOnly[str, Any]:
        return modules.get(f"synthesis.{name}", {})

    def affine(prefix: str, n_in: int, row: int, gain: float) -> Affine:
        own = said(f"{prefix}.affine")
        weight_gain, bias_gain = own.get("weight_gain", 1 / math.sqrt(w_dim)), own.get("bias_gain", 1.0)
        weight = syn.take(f"{prefix}.affine.weight", n_in, w_dim) * (gain * weight_gain)
        return Affine(weight, syn.take(f"{prefix}.affine.bias", n_in) * (gain * bias_gain), row)

    def styled_conv(prefix: str, n_in: int, size: int, row: int, up: bool) -> StyledConv:
        own = said(prefix)
        activation = own.get("activation", "lrelu")
        weight = syn.take(f"{prefix}.weight", None, n_in, 3, 3)
        with_noise = own.get("use_noise", f"{prefix}.noise_const" in syn or f"{prefix}.noise_strength" in syn)
        return _styled_conv(
            weight,
            affine(prefix, n_in, row, gain=1.0),
            syn.take(f"{prefix}.noise_const", size, size) if with_noise else torch.zeros(size, size),
            syn.take(f"{prefix}.noise_strength") if with_noise else torch.zeros(()),
            syn.take(f"{prefix}.bias", weight.shape[0]),
            DEMOD_EPS / (9 * n_in),  # this layout adds eps to the unscaled weight's sum
            _filter(syn, f"{prefix}.resample_filter") * 4 if up else None,
            own.get("conv_clamp"),
            SLOPES[activation],
            own.get("act_gain", DEFAULT_GAINS[activation]),
        )

    def to_rgb(prefix: str, n_in: int, row: int, fir: Tensor | None) -> ToRGB:
        own = said(f"{prefix}.torgb")
        n_out = image_channels(syn, f"{prefix}.torgb.weight", 0, notes)
        weight = syn.take(f"{prefix}.torgb.weight", n_out, n_in, 1, 1)[:, :, 0, 0]
        return ToRGB(
            affine(f"{prefix}.torgb", n_in, row, gain=own.get("weight_gain", 1 / math.sqrt(n_in))),
            _as_rgb(weight),
            _as_rgb(syn.take(f"{prefix}.torgb.bias", n_out)),
            fir,
            own.get("conv_clamp"),
        )

    # 4x4
    const = syn.take("b4.const", channels, 4, 4)[None]
    convs = [styled_conv("b4.conv1", channels, 4, row=0, up=False)]
    rgbs = [to_rgb("b4", convs[-1].weight.shape[0], row=1, fir=None)]

    # 8x8 and up
    for size in sizes[1:]:
        for layer, up in (("conv0", True), ("conv1", False)):
            n_in, row = convs[-1].weight.shape[0], len(convs)
            convs.append(styled_conv(f"b{size}.{layer}", n_in, size, row, up))
        fir = _filter(syn, f"b{size}.resample_filter") * 4
        rgbs.append(to_rgb(f"b{size}", convs[-1].weight.shape[0], len(convs), fir))

    mapping = g.under("mapping.")
    layers = [f"fc{i}" for i in mapping.indices(r"fc(\d+)\.weight")]
    return GeneratorWeights(
        mapping=_mapping(mapping, layers, w_dim, {i: modules.get(f"mapping.{i}", {}) for i in layers}),
        const=const,
        convs=tuple(convs),
        rgbs=tuple(rgbs),
        w_avg=mapping.take("w_avg", w_dim) if "w_avg" in mapping else None,
        notes=tuple(notes),
    )


def image_channels(g: TensorTable, name: str, axis: int, notes: list[str]) -> int:
    """Channels of the picture that a to-RGB weight makes: 3, 1 (gray) or 4 (RGBA). Raises CheckpointError."""
    n_out = int(g[name].shape[axis]) if name in g and g[name].ndim > axis else 3
    if n_out == 1:
        return _note(notes, "it makes gray pictures: the channel is repeated", n_out)
    if n_out == 4:
        return _note(notes, "it makes RGBA pictures: alpha is left out", n_out)
    if n_out != 3:
        raise CheckpointError(
            f"{g.source}: {g.what} tensor {name!r}: expected a generator of RGB, gray or RGBA pictures, "
            f"got one of {n_out} channels; take one that makes pictures"
        )
    return n_out


def _filter(g: TensorTable, name: str) -> Tensor:
    """The FIR filter ``name``, [4,4]. Raises CheckpointError for another size."""
    got = list(g[name].shape) if name in g else [4, 4]
    if got != [4, 4]:
        raise CheckpointError(
            f"{g.source}: {g.what} tensor {name!r}: expected a filter of 4x4 taps such as [1,3,3,1], "
            f"got {'x'.join(map(str, got))}; the export cannot follow that: take a generator with that filter"
        )
    return g.take(name, 4, 4)


def _as_rgb(channels: Tensor) -> Tensor:
    """[1, ...] repeated, [4, ...] without the last."""
    return channels.expand(3, *channels.shape[1:]).contiguous() if len(channels) == 1 else channels[:3]


T = TypeVar("T")


def _note(notes: list[str], text: str, value: T) -> T:
    if text not in notes:
        notes.append(text)
    return value


def _fir() -> Tensor:
    """[4,4], sums to 4: [1,3,3,1] along both axes."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 16


def _mapping(
    g: TensorTable, layers: list[str], w_dim: int, modules: Modules
) -> tuple[MappingLayer, ...]:  # fmt: skip
    linear: list[MappingLayer] = []
    for i, layer in enumerate(layers):
        own = modules.get(layer, {})
        activation = own.get("activation", "lrelu")
        n_in = int(g.peek(f"{layer}.weight", 2).shape[1]) if i == 0 else int(linear[-1].weight.shape[0])
        n_out = w_dim if i == len(layers) - 1 else None
        weight = g.take(f"{layer}.weight", n_out, n_in)
        bias = g.take(f"{layer}.bias", weight.shape[0])
        gain = DEFAULT_GAINS[activation]  # leaky ReLU commutes with positive factors
        weight_gain = own.get("weight_gain", LR_MULTIPLIER / math.sqrt(n_in))
        bias_gain = own.get("bias_gain", LR_MULTIPLIER)
        linear.append(
            MappingLayer(weight * (gain * weight_gain), bias * (gain * bias_gain), SLOPES[activation])
        )
    return tuple(linear)


class Mapping(nn.Module):
    """z float32 [N, z_dim], normal distribution -> w float32 [N, w_dim]."""

    mean: Tensor
    eps: Tensor

    def __init__(self, weights: GeneratorWeights) -> None:
        super().__init__()
        layers = weights.mapping
        self.weights = nn.ParameterList([nn.Parameter(layer.weight, requires_grad=False) for layer in layers])
        self.biases = nn.ParameterList([nn.Parameter(layer.bias, requires_grad=False) for layer in layers])
        self.slopes = [layer.slope for layer in layers]
        self.register_buffer("mean", torch.full((1, weights.z_dim), 1 / weights.z_dim))
        self.register_buffer("eps", torch.full((1,), 1e-8))

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(F.linear(z * z, self.mean, self.eps))
        for weight, bias, slope in zip(self.weights, self.biases, self.slopes, strict=True):
            x = F.leaky_relu(F.linear(x, weight, bias), slope)
        return x


class Synthesis(nn.Module):
    """codes float32 [N, n_styles, w_dim] -> image float32 [N, 3, R, R], RGB, nominally -1..1, not clamped."""

    const: Tensor

    def __init__(self, weights: GeneratorWeights) -> None:
        super().__init__()
        self.image_size = weights.image_size
        self.register_buffer("const", weights.const)

        # Stack the affine layers that read the same row: one matrix product per row.
        layers: list[StyledConv | ToRGB] = [*weights.convs, *weights.rgbs]
        self.row_of = [layer.affine.row for layer in layers]
        self.n_conv = len(weights.convs)
        self.part_of: list[int] = []
        stacks: list[list[Affine]] = [[] for _ in range(max(self.row_of) + 1)]
        for layer in layers:
            self.part_of.append(len(stacks[layer.affine.row]))
            stacks[layer.affine.row].append(layer.affine)
        self.splits = [[a.bias.shape[0] for a in stack] for stack in stacks]
        for r, stack in enumerate(stacks):
            self.register_buffer(f"affine_{r}_weight", torch.cat([a.weight for a in stack]))
            self.register_buffer(f"affine_{r}_bias", torch.cat([a.bias for a in stack]))

        self.convs = nn.ModuleList([_StyledConvModule(c) for c in weights.convs])
        self.rgbs = nn.ModuleList([_ToRGBModule(c) for c in weights.rgbs])

    def styles(self, codes: Tensor) -> list[Tensor]:
        """One [N, I] per layer: the convolutions, then the to-RGB layers."""
        parts = []
        for r, split in enumerate(self.splits):
            weight, bias = getattr(self, f"affine_{r}_weight"), getattr(self, f"affine_{r}_bias")
            stacked = F.linear(codes[:, r], weight, bias)
            parts.append(torch.split(stacked, split, dim=1) if len(split) > 1 else (stacked,))
        return [parts[r][i] for r, i in zip(self.row_of, self.part_of, strict=True)]

    def forward(self, codes: Tensor) -> Tensor:
        styles = self.styles(codes)
        conv_styles, rgb_styles = styles[: self.n_conv], styles[self.n_conv :]

        x = self.convs[0](self.const, conv_styles[0])
        image: Tensor = self.rgbs[0](x, rgb_styles[0], None)
        for k in range(1, len(self.rgbs)):
            x = self.convs[2 * k - 1](x, conv_styles[2 * k - 1])
            x = self.convs[2 * k](x, conv_styles[2 * k])
            image = self.rgbs[k](x, rgb_styles[k], image)
        return image


class _StyledConvModule(nn.Module):
    weight: Tensor
    fir: Tensor
    demod: Tensor
    eps: Tensor
    noise: Tensor
    bias: Tensor

    def __init__(self, c: StyledConv) -> None:
        super().__init__()
        self.up = c.fir is not None
        self.clamp, self.slope = c.clamp, c.slope
        self.register_buffer("demod", c.demod)
        # As the bias of the product: an addition of its own would be dropped as "zero" on export.
        self.register_buffer("eps", torch.full((c.demod.shape[0],), c.demod_eps))
        self.register_buffer("noise", c.noise)
        self.register_buffer("bias", c.bias[None, :, None, None])
        if c.fir is None:
            self.register_buffer("weight", c.weight)  # [O, I, 3, 3]
        else:
            # Transposed convolution: [I, O, 3, 3]. The FIR runs per channel after it.
            self.register_buffer("weight", c.weight.transpose(0, 1).contiguous())
            kernel = c.fir.flip(0, 1)
            self.register_buffer("fir", kernel[None, None].repeat(c.weight.shape[0], 1, 1, 1))  # [O, 1, k, k]

    def forward(
        self,
        x: Tensor,  # [N, I, H, W]
        style: Tensor,  # [N, I]
    ) -> Tensor:  # [N, O, R, R]
        demod = torch.rsqrt(F.linear(style * style, self.demod, self.eps))  # [N, O]
        x = x * style[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, self.weight, stride=2)  # [N, O, 2H+1, 2W+1]
            x = F.conv2d(x, self.fir, padding=(self.fir.shape[2] - 2) // 2, groups=self.fir.shape[0])
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = x * demod[:, :, None, None] + self.noise + self.bias
        x = F.leaky_relu(x, self.slope)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class _ToRGBModule(nn.Module):
    weight: Tensor
    bias: Tensor
    fir: Tensor

    def __init__(self, c: ToRGB) -> None:
        super().__init__()
        self.clamp = c.clamp
        self.register_buffer("weight", c.weight[None])  # [1, 3, I]
        self.register_buffer("bias", c.bias[None, :, None, None])
        if c.fir is not None:
            self.register_buffer("fir", c.fir[None, None].repeat(3, 1, 1, 1))  # [3, 1, k, k]

    def forward(
        self,
        x: Tensor,  # [N, I, R, R]
        style: Tensor,  # [N, I]
        image: Tensor | None,  # [N, 3, R/2, R/2]
    ) -> Tensor:  # [N, 3, R, R]
        # As a matrix product the style scales 3 I numbers instead of I R^2.
        rgb = (self.weight * style[:, None, :]) @ x.flatten(2)
        rgb = rgb.view(-1, 3, x.shape[2], x.shape[3]) + self.bias
        if self.clamp is not None:
            rgb = rgb.clamp(-self.clamp, self.clamp)
        if image is None:
            return rgb
        return rgb + F.conv_transpose2d(
            image, self.fir, stride=2, padding=(self.fir.shape[2] - 2) // 2, groups=3
        )
