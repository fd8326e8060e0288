"""StyleGAN2 the slow way, straight from the papers' formulas and the files' tensor names.

Every sample gets its own modulated and demodulated weights; filters are sums over taps; nothing is
folded, shared or reordered. Only for comparison with ``doppelgan.export.networks.stylegan2``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def filter_2d(x: Tensor, taps: Tensor, up: int, before: int, after: int) -> Tensor:
    """Insert up-1 zeros after every sample, pad, convolve with ``taps`` (flipped: a true convolution)."""
    n, c, height, width = x.shape
    spread = torch.zeros(n, c, height * up, width * up)
    spread[:, :, ::up, ::up] = x
    padded = F.pad(spread, (before, after, before, after))
    side = taps.shape[0]
    rows, columns = padded.shape[2] - side + 1, padded.shape[3] - side + 1
    total = torch.zeros(n, c, rows, columns)
    for i in range(side):
        for j in range(side):
            total += taps[side - 1 - i, side - 1 - j] * padded[:, :, i : i + rows, j : j + columns]
    return total


def modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up_taps: Tensor | None
) -> Tensor:
    """Convolve sample n with ``weight * style[n]``, each output channel at unit length if demodulated."""
    outputs = []
    for sample, s in zip(x, style, strict=True):
        own = weight * s[None, :, None, None]
        if demodulate:
            own = own / torch.sqrt(own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if up_taps is None:
            outputs.append(F.conv2d(sample[None], own, padding=own.shape[2] // 2))
            continue
        # Transposed convolution: spread with zeros, then a full convolution.
        spread = torch.zeros(1, sample.shape[0], 2 * sample.shape[1] - 1, 2 * sample.shape[2] - 1)
        spread[0, :, ::2, ::2] = sample
        full = F.conv2d(spread, own.flip(2, 3), padding=2)
        outputs.append(filter_2d(full, up_taps, up=1, before=1, after=1))
    return torch.cat(outputs)


# As bias_act names them: function and gain.
ACTIVATIONS = {
    "lrelu": (lambda x: torch.where(x < 0, 0.2 * x, x), math.sqrt(2)),
    "relu": (lambda x: x.clamp(min=0), math.sqrt(2)),
    "linear": (lambda x: x, 1.0),
}


def activate(x: Tensor, clamp: float | None, activation: str = "lrelu", gain: float | None = None) -> Tensor:
    function, usual = ACTIVATIONS[activation]
    x = function(x) * (usual if gain is None else gain)
    return x if clamp is None else x.clamp(-clamp, clamp)


def mapping(
    z: Tensor, layers: list[tuple[Tensor, Tensor]], rate: float = 0.01, activation: str = "lrelu"
) -> Tensor:
    x = z / torch.sqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
    for weight, bias in layers:
        x = activate(x @ (weight * rate / math.sqrt(weight.shape[1])).t() + bias * rate, None, activation)
    return x


def rosinality_mapping(g: State, z: Tensor) -> Tensor:
    count = sum(k.startswith("style.") and k.endswith(".weight") for k in g)
    return mapping(z, [(g[f"style.{i}.weight"], g[f"style.{i}.bias"]) for i in range(1, count + 1)])


def nvidia_mapping(g: State, z: Tensor, rate: float = 0.01, activation: str = "lrelu") -> Tensor:
    count = sum(k.startswith("mapping.fc") and k.endswith(".weight") for k in g)
    layers = [(g[f"mapping.fc{i}.weight"], g[f"mapping.fc{i}.bias"]) for i in range(count)]
    return mapping(z, layers, rate, activation)


def rosinality_synthesis(g: State, codes: Tensor) -> Tensor:
    def style(name: str, row: int) -> Tensor:
        weight = g[f"{name}.conv.modulation.weight"]
        return codes[:, row] @ (weight / math.sqrt(weight.shape[1])).t() + g[f"{name}.conv.modulation.bias"]

    def styled(x: Tensor, name: str, index: int) -> Tensor:
        weight = g[f"{name}.conv.weight"][0]
        weight = weight / math.sqrt(weight[0].numel())
        x = modulated_conv(x, weight, style(name, index), True, g.get(f"{name}.conv.blur.kernel"))
        x = x + g[f"{name}.noise.weight"] * g[f"noises.noise_{index}"]
        return activate(x + g[f"{name}.activate.bias"][None, :, None, None], None)

    def rgb(x: Tensor, name: str, row: int, skip: Tensor | None) -> Tensor:
        weight = g[f"{name}.conv.weight"][0] / math.sqrt(x.shape[1])
        y = modulated_conv(x, weight, style(name, row), False, None) + g[f"{name}.bias"]
        return (
            y if skip is None else y + filter_2d(skip, g[f"{name}.upsample.kernel"], up=2, before=2, after=1)
        )

    x = styled(g["input.input"].expand(codes.shape[0], -1, -1, -1), "conv1", 0)
    image = rgb(x, "to_rgb1", 1, None)
    for k in range(
        sum(name.startswith("to_rgbs.") and name.endswith(".bias") and "mod" not in name for name in g)
    ):
        x = styled(x, f"convs.{2 * k}", 2 * k + 1)
        x = styled(x, f"convs.{2 * k + 1}", 2 * k + 2)
        image = rgb(x, f"to_rgbs.{k}", 2 * k + 3, image)
    return image


def nvidia_synthesis(
    g: State,
    codes: Tensor,
    clamp: float | None = None,
    activation: str = "lrelu",
    gain: float | None = None,  # of the activation; None: its usual one
    noise: bool = True,
    clamped: str = "",  # only modules whose name holds this
) -> Tensor:
    def style(name: str, row: int) -> Tensor:
        weight = g[f"{name}.affine.weight"]
        return codes[:, row] @ (weight / math.sqrt(weight.shape[1])).t() + g[f"{name}.affine.bias"]

    def layer(x: Tensor, name: str, row: int, up: bool) -> Tensor:
        taps = 4 * g[f"{name}.resample_filter"] if up else None
        x = modulated_conv(x, g[f"{name}.weight"], style(name, row), True, taps)
        if noise:
            x = x + g[f"{name}.noise_const"] * g[f"{name}.noise_strength"]
        limit = clamp if clamped in name else None
        return activate(x + g[f"{name}.bias"][None, :, None, None], limit, activation, gain)

    def rgb(x: Tensor, name: str, row: int) -> Tensor:
        y = modulated_conv(x, g[f"{name}.weight"], style(name, row) / math.sqrt(x.shape[1]), False, None)
        y = y + g[f"{name}.bias"][None, :, None, None]
        return y if clamp is None or clamped not in name else y.clamp(-clamp, clamp)

    x = layer(
        g["synthesis.b4.const"][None].expand(codes.shape[0], -1, -1, -1), "synthesis.b4.conv1", 0, False
    )
    image = rgb(x, "synthesis.b4.torgb", 1)
    side, row = 8, 1
    while f"synthesis.b{side}.conv0.weight" in g:
        block = f"synthesis.b{side}"
        x = layer(x, f"{block}.conv0", row, True)
        x = layer(x, f"{block}.conv1", row + 1, False)
        image = filter_2d(image, 4 * g[f"{block}.resample_filter"], up=2, before=2, after=1)
        image = image + rgb(x, f"{block}.torgb", row + 2)
        side, row = 2 * side, row + 2
    return image
