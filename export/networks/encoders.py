"""The encoders of the pSp family as torch modules for inference: RGB crop -> W+ code.

All share a trunk (IR-SE-50 or ResNet-34) over a 256x256 crop and differ in where the style vectors are
read off. Batch normalization that follows a convolution is folded into it. The one that *precedes* a
padded convolution stays: with zero padding its shift cannot move past the border.

Sources: Richardson et al., "Encoding in Style", CVPR 2021; Tov et al., "Designing an Encoder for StyleGAN
Image Manipulation", SIGGRAPH 2021; Alaluf et al., "ReStyle", ICCV 2021; the public checkpoints' tensor names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from doppelgan.runtime.errors import CheckpointError
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.tensors import TensorTable

CROP_SIZE = 256
BN_EPS = 1e-5
NO_EPS = 1e-12  # lost in 1 + NO_EPS, but positive: PyTorch 2.11 refuses zero
HEAD_SLOPE = 0.01  # of the leaky ReLU in the heads

# Units of the four stages. The first unit of each has stride 2, except ResNet's very first.
IR_SE_50 = (3, 4, 14, 3)
RESNET_34 = (3, 4, 6, 3)


@dataclass(frozen=True)
class EncoderKind:
    """Where an encoder class reads its style vectors off and how they add up."""

    trunk: str  # "ir-se-50" | "resnet-34"
    pyramid: bool = False  # heads on three resolutions; otherwise all on the last map
    deltas: bool = False  # head 0 gives w0, every other head a difference from it
    output: str = "heads"  # "heads" | "pooled" (one W code) | "dense" (W+ from the last layer)


# By opts.encoder_type. Channels, number of heads and their depth come from the tensors.
KINDS: Mapping[str, EncoderKind] = {
    "GradualStyleEncoder": EncoderKind("ir-se-50", pyramid=True),
    "Encoder4Editing": EncoderKind("ir-se-50", pyramid=True, deltas=True),
    "BackboneEncoderUsingLastLayerIntoW": EncoderKind("ir-se-50", output="pooled"),
    "SingleStyleCodeEncoder": EncoderKind("ir-se-50", output="pooled"),
    "BackboneEncoderUsingLastLayerIntoWPlus": EncoderKind("ir-se-50", output="dense"),
    "BackboneEncoder": EncoderKind("ir-se-50"),
    "ProgressiveBackboneEncoder": EncoderKind("ir-se-50", deltas=True),
    "ResNetGradualStyleEncoder": EncoderKind("resnet-34", pyramid=True),
    "ResNetBackboneEncoder": EncoderKind("resnet-34"),
    "ResNetProgressiveBackboneEncoder": EncoderKind("resnet-34", deltas=True),
}


class Encoder(nn.Module):
    """crop float32 [N, C, 256, 256], RGB -1..1 -> codes float32 [N, n_styles, w_dim].

    C is 3, or 6 for ReStyle, where the last three channels are the previous reconstruction. The code
    includes ``latent_avg`` if one was given.
    """

    latent_avg: Tensor | None

    def __init__(
        self,
        e: TensorTable,
        encoder_type: str,
        n_styles: int,
        w_dim: int,
        latent_avg: Tensor | None = None,  # [n_styles, w_dim]
    ) -> None:
        super().__init__()
        if encoder_type not in KINDS:
            raise CheckpointError(
                f"{e.source}: expected an encoder_type of {', '.join(KINDS)}; got {encoder_type!r}; "
                "export it as a module of your own with doppelgan.export.export_module"
            )
        kind = KINDS[encoder_type]
        resnet = kind.trunk == "resnet-34"
        self.trunk = _resnet_trunk(e) if resnet else _ir_se_trunk(e)
        self.taps = self.trunk.ends if kind.pyramid else self.trunk.ends[-1:]
        if kind.output == "pooled":
            self.tail: nn.Module = _PooledTail(e, n_styles, w_dim, self.trunk.widths[-1])
        elif kind.output == "dense":
            self.tail = _DenseTail(e, n_styles, w_dim, self.trunk.widths[-1])
        elif kind.pyramid:
            self.tail = _PyramidTail(e, kind.deltas, n_styles, w_dim, self.trunk.widths)
        else:
            self.tail = _LastMapTail(e, kind.deltas, n_styles, w_dim, self.trunk.widths[-1])
        self.register_buffer("latent_avg", latent_avg)

    @property
    def in_channels(self) -> int:
        return int(self.trunk.stem.weight.shape[1])

    def forward(self, crop: Tensor) -> Tensor:
        features = []
        x = self.trunk.stem(crop)
        for i, unit in enumerate(self.trunk.units):
            x = unit(x)
            if i in self.taps:
                features.append(x)
        codes: Tensor = self.tail(*features)
        return codes if self.latent_avg is None else codes + self.latent_avg


# Trunks


class _Trunk(nn.Module):
    """A stem and units; the last units of stages 2, 3 and 4 end at strides 4, 8 and 16."""

    stem: _Conv

    def __init__(
        self, stem: _Conv, units: list[nn.Module], widths: list[int], stages: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.stem = stem
        self.units = nn.ModuleList(units)
        self.ends = tuple(sum(stages[: k + 1]) - 1 for k in range(1, len(stages)))
        self.widths = tuple(widths[i] for i in self.ends)  # channels of the three maps


def _ir_se_trunk(e: TensorTable) -> _Trunk:
    stem = _conv(e, "input_layer.0", None, 3, bn="input_layer.1", prelu="input_layer.2")
    units: list[nn.Module] = []
    widths = [stem.width]
    _check_units(e, IR_SE_50, "IR-SE-50")
    for count in IR_SE_50:
        for j in range(count):
            unit = _IrSeUnit(e, f"body.{len(units)}", widths[-1], stride=2 if j == 0 else 1)
            units.append(unit)
            widths.append(unit.conv2.width)
    return _Trunk(stem, units, widths[1:], IR_SE_50)


def _resnet_trunk(e: TensorTable) -> _Trunk:
    stem = _conv(e, "conv1", None, 7, stride=2, bn="bn1", prelu="relu")
    units: list[nn.Module] = []
    widths = [stem.width]
    _check_units(e, RESNET_34, "ResNet-34")
    for k, count in enumerate(RESNET_34):
        for j in range(count):
            unit = _ResNetUnit(e, f"body.{len(units)}", widths[-1], stride=2 if j == 0 and k > 0 else 1)
            units.append(unit)
            widths.append(unit.conv2.width)
    return _Trunk(stem, units, widths[1:], RESNET_34)


def _check_units(e: TensorTable, stages: tuple[int, ...], trunk: str) -> None:
    stored = len(e.indices(r"body\.(\d+)\."))
    if stored != sum(stages):
        raise CheckpointError(
            f"{e.source}: expected the {sum(stages)} units of {trunk} (encoder.body.*), got {stored}; "
            "opts.encoder_type does not fit the tensors or the file is incomplete: "
            "take the original checkpoint"
        )


class _IrSeUnit(nn.Module):
    """x -> shortcut(x) + squeeze-excite(BN(conv(PReLU(conv(BN(x))))))."""

    scale: Tensor
    shift: Tensor
    zeros: Tensor
    ones: Tensor

    def __init__(self, e: TensorTable, name: str, n_in: int, stride: int) -> None:
        super().__init__()
        scale, shift = _bn(e, f"{name}.res_layer.0", n_in)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.register_buffer("zeros", torch.zeros(n_in))
        self.register_buffer("ones", torch.ones(n_in))
        self.conv1 = _conv(e, f"{name}.res_layer.1", n_in, 3, prelu=f"{name}.res_layer.2")
        self.conv2 = _conv(
            e, f"{name}.res_layer.3", self.conv1.width, 3, stride=stride, bn=f"{name}.res_layer.4"
        )
        n_out = self.conv2.width
        self.fc1 = _conv(e, f"{name}.res_layer.5.fc1", n_out, 1)
        self.fc2 = _conv(e, f"{name}.res_layer.5.fc2", self.fc1.width, 1, n_out=n_out)
        self.stride = stride
        self.shortcut = (
            None
            if n_in == n_out
            else _conv(
                e,
                f"{name}.shortcut_layer.0",
                n_in,
                1,
                n_out=n_out,
                stride=stride,
                bn=f"{name}.shortcut_layer.1",
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        # One operator instead of two: engines run it in one pass.
        y: Tensor = F.batch_norm(x, self.zeros, self.ones, self.scale, self.shift, eps=NO_EPS)
        y = self.conv2(self.conv1(y))
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(y.mean(dim=(2, 3), keepdim=True)))))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride != 1:
            x = F.max_pool2d(x, 1, self.stride)
        return y * gate + x


class _ResNetUnit(nn.Module):
    """x -> ReLU(shortcut(x) + BN(conv(ReLU(BN(conv(x))))))."""

    def __init__(self, e: TensorTable, name: str, n_in: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(e, f"{name}.conv1", n_in, 3, stride=stride, bn=f"{name}.bn1")
        self.conv2 = _conv(e, f"{name}.conv2", self.conv1.width, 3, bn=f"{name}.bn2")
        n_out = self.conv2.width
        self.shortcut = (
            None
            if n_in == n_out and stride == 1
            else _conv(
                e, f"{name}.downsample.0", n_in, 1, n_out=n_out, stride=stride, bn=f"{name}.downsample.1"
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(F.relu(self.conv1(x)))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


# Tails: feature maps -> [N, n_styles, w_dim]


class _Head(nn.Module):
    """map2style: log2(side) convolutions of stride 2, then one equalized linear layer."""

    weight: Tensor
    bias: Tensor

    def __init__(self, e: TensorTable, name: str, side: int, width: int, w_dim: int) -> None:
        super().__init__()
        depth = int(math.log2(side))
        stored = len(e.indices(rf"{name}\.convs\.(\d+)\.weight"))
        if stored != depth:
            raise CheckpointError(
                f"{e.source}: {e.what} head {name!r}: expected {depth} convolutions "
                f"for its {side}x{side} map, got {stored}; "
                "opts.encoder_type does not fit the tensors: take the original checkpoint"
            )
        convs: list[_Conv] = []
        for k in range(depth):
            convs.append(_conv(e, f"{name}.convs.{2 * k}", width, 3, stride=2, slope=HEAD_SLOPE, bias=True))
            width = convs[-1].width
        self.convs = nn.Sequential(*convs)
        self.register_buffer("weight", e.take(f"{name}.linear.weight", w_dim, width) / math.sqrt(width))
        self.register_buffer("bias", e.take(f"{name}.linear.bias", w_dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.convs(x).flatten(1), self.weight, self.bias)


def _check_heads(e: TensorTable, n_styles: int) -> None:
    stored = len(e.indices(r"styles\.(\d+)\."))
    if stored != n_styles:
        raise CheckpointError(
            f"{e.source}: expected {n_styles} encoder heads to match the generator, got {stored}; "
            "take the encoder and the generator of the same resolution"
        )


def _stack(codes: list[Tensor], deltas: bool) -> Tensor:
    if deltas:
        codes = codes[:1] + [codes[0] + delta for delta in codes[1:]]
    return torch.stack(codes, dim=1)


class _LastMapTail(nn.Module):
    def __init__(self, e: TensorTable, deltas: bool, n_styles: int, w_dim: int, width: int) -> None:
        super().__init__()
        _check_heads(e, n_styles)
        self.deltas = deltas
        self.heads = nn.ModuleList([_Head(e, f"styles.{j}", 16, width, w_dim) for j in range(n_styles)])

    def forward(self, x: Tensor) -> Tensor:
        return _stack([head(x) for head in self.heads], self.deltas)


class _PyramidTail(nn.Module):
    """Coarse heads 0..2 on 16x16, middle 3..6 on 32x32, fine on 64x64, merged top down."""

    COARSE, MIDDLE = 3, 7

    def __init__(
        self, e: TensorTable, deltas: bool, n_styles: int, w_dim: int, widths: tuple[int, ...]
    ) -> None:
        super().__init__()
        _check_heads(e, n_styles)
        self.deltas = deltas
        fine, middle, coarse = widths
        sides = [16 if j < self.COARSE else 32 if j < self.MIDDLE else 64 for j in range(n_styles)]
        self.heads = nn.ModuleList(
            [_Head(e, f"styles.{j}", side, coarse, w_dim) for j, side in enumerate(sides)]
        )
        self.lateral1 = _conv(e, "latlayer1", middle, 1, n_out=coarse, bias=True)
        self.lateral2 = _conv(e, "latlayer2", fine, 1, n_out=coarse, bias=True)

    def forward(
        self,
        c1: Tensor,  # [N, fine, 64, 64]
        c2: Tensor,  # [N, middle, 32, 32]
        c3: Tensor,  # [N, coarse, 16, 16]
    ) -> Tensor:
        codes = [head(c3) for head in self.heads[: self.COARSE]]
        p2 = _double(c3) + self.lateral1(c2)
        codes += [head(p2) for head in self.heads[self.COARSE : self.MIDDLE]]
        if len(self.heads) > self.MIDDLE:
            p1 = _double(p2) + self.lateral2(c1)
            codes += [head(p1) for head in self.heads[self.MIDDLE :]]
        return _stack(codes, self.deltas)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="bilinear", align_corners=True)


class _PooledTail(nn.Module):
    """One W code, repeated for every row."""

    weight: Tensor
    bias: Tensor

    def __init__(self, e: TensorTable, n_styles: int, w_dim: int, width: int) -> None:
        super().__init__()
        self.n_styles = n_styles
        self.register_buffer("weight", e.take("linear.weight", w_dim, width) / math.sqrt(width))
        self.register_buffer("bias", e.take("linear.bias", w_dim))

    def forward(self, x: Tensor) -> Tensor:
        w = F.linear(x.mean(dim=(2, 3)), self.weight, self.bias)
        return w[:, None].expand(-1, self.n_styles, -1)


class _DenseTail(nn.Module):
    """BN, average pool to 7x7, linear, equalized linear to all rows at once."""

    SIDE, POOLED = 16, 7

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    pool: Tensor
    pool_t: Tensor

    def __init__(self, e: TensorTable, n_styles: int, w_dim: int, width: int) -> None:
        super().__init__()
        self.n_styles = n_styles
        scale, shift = _bn(e, "output_layer_2.0", width)
        first = e.take("output_layer_2.3.weight", None, width * self.POOLED**2)
        hidden = first.shape[0]
        bias = e.take("output_layer_2.3.bias", hidden)
        # Pooling keeps a per-channel shift, so the normalization folds into the linear layer.
        grid = first.view(hidden, width, self.POOLED**2)
        self.register_buffer("weight1", (grid * scale[None, :, None]).flatten(1))
        self.register_buffer("bias1", bias + (grid.sum(dim=2) * shift).sum(dim=1))
        self.register_buffer("weight2", e.take("linear.weight", n_styles * w_dim, hidden) / math.sqrt(hidden))
        self.register_buffer("bias2", e.take("linear.bias", n_styles * w_dim))
        # Adaptive pooling 16 -> 7 has windows of different size: two small matrix products.
        pool = torch.zeros(self.POOLED, self.SIDE)
        for i in range(self.POOLED):
            first_row, last_row = i * self.SIDE // self.POOLED, -(-(i + 1) * self.SIDE // self.POOLED)
            pool[i, first_row:last_row] = 1 / (last_row - first_row)
        self.register_buffer("pool", pool)
        self.register_buffer("pool_t", pool.t().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        x = (self.pool @ x @ self.pool_t).flatten(1)
        x = F.linear(F.linear(x, self.weight1, self.bias1), self.weight2, self.bias2)
        return x.view(x.shape[0], self.n_styles, -1)


# Layers


class _Conv(nn.Module):
    """Convolution with "same" padding, optional bias, then PReLU, leaky ReLU or nothing."""

    weight: Tensor
    bias: Tensor | None
    prelu: Tensor | None

    def __init__(
        self,
        weight: Tensor,  # [O, I, k, k]
        bias: Tensor | None,
        stride: int,
        prelu: Tensor | None,  # [O]
        slope: float | None,
    ) -> None:
        super().__init__()
        self.width = int(weight.shape[0])  # channels out
        self.stride = stride
        self.slope = slope
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("prelu", prelu)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, self.stride, padding=self.weight.shape[2] // 2)
        if self.prelu is not None:
            return F.prelu(x, self.prelu)
        return x if self.slope is None else F.leaky_relu(x, self.slope)


def _conv(
    e: TensorTable,
    name: str,
    n_in: int | None,  # None: as stored
    side: int,
    *,
    n_out: int | None = None,  # None: as stored
    stride: int = 1,
    bn: str | None = None,
    prelu: str | None = None,
    slope: float | None = None,
    bias: bool = False,
) -> _Conv:
    weight = e.take(f"{name}.weight", n_out, n_in, side, side)
    width = weight.shape[0]
    shift = e.take(f"{name}.bias", width) if bias else None
    if bn is not None:
        scale, shift = _bn(e, bn, width)
        weight = weight * scale[:, None, None, None]
    return _Conv(weight, shift, stride, e.take(f"{prelu}.weight", width) if prelu else None, slope)


def _bn(e: TensorTable, name: str, channels: int) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch normalization in inference."""
    scale = e.take(f"{name}.weight", channels) / torch.sqrt(e.take(f"{name}.running_var", channels) + BN_EPS)
    return scale, e.take(f"{name}.bias", channels) - e.take(f"{name}.running_mean", channels) * scale
