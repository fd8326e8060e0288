"""Two generators of one family blended by layers: coarse shapes of one, fine looks of the other, as a dial.

After Pinkney & Adler 2020 ("Resolution Dependent GAN Interpolation for Controllable Image Synthesis Between
Domains", known as Toonify). Below a resolution constants are the first generator's, above it the second's,
and over some doublings around it a part of both. That draws pictures only where both grew from one ancestor,
so that channel k means the same in both: :func:`kinship` tells, and :func:`blended` refuses strangers.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from doppelgan.runtime.errors import CheckpointError
from torch import Tensor

from .stylegan2 import Affine, GeneratorWeights, StyledConv, ToRGB

RELATED = 0.5  # of `kinship`: fine-tuned generators keep 0.8 and more, separately trained ones about 0


def kinship(first: GeneratorWeights, second: GeneratorWeights) -> float:
    """Median cosine between the convolutions of both, channel by channel in order: 1 equal, 0 strangers."""
    cosines = [
        torch.nn.functional.cosine_similarity(a.weight.flatten(), b.weight.flatten(), dim=0)
        for a, b in zip(first.convs, second.convs, strict=True)
    ]
    return float(torch.stack(cosines).median())


def blended(
    first: GeneratorWeights,  # below ``at``; its mapping network serves both
    second: GeneratorWeights,  # at ``at`` pixels and above
    at: int = 32,  # px, a power of two
    width: float = 0.0,  # doublings over which the change is spread; 0: at once
) -> GeneratorWeights:
    """A generator of both. Raises CheckpointError where they differ in shape or share no ancestor."""
    shapes = [[conv.weight.shape for conv in weights.convs] for weights in (first, second)]
    if shapes[0] != shapes[1]:
        raise CheckpointError(
            "blend: expected two generators of one shape, got "
            f"{first.image_size} and {second.image_size} px or other channels; fine-tune one from the other"
        )
    if not 4 <= at <= 2 * first.image_size or at & (at - 1):
        raise CheckpointError(f"blend: expected a resolution of 4, 8 ... {2 * first.image_size} px, got {at}")
    related = kinship(first, second)
    if not related >= RELATED:
        raise CheckpointError(
            f"blend: expected two generators of one family (kinship {RELATED:g} or more), got {related:.2f}: "
            "their channels mean different things and a blend would be noise; fine-tune one from the other"
        )

    def share(size: int) -> float:
        distance = math.log2(size / at)
        return float(distance >= 0) if width <= 0 else float(np.clip(0.5 + (distance + 0.5) / width, 0, 1))

    convs = [_conv(a, b, share(a.noise.shape[-1])) for a, b in zip(first.convs, second.convs, strict=True)]
    rgbs = [_rgb(a, b, share(4 << k)) for k, (a, b) in enumerate(zip(first.rgbs, second.rgbs, strict=True))]
    const = torch.lerp(first.const, second.const, share(4))
    return replace(first, const=const, convs=tuple(convs), rgbs=tuple(rgbs))


def _conv(a: StyledConv, b: StyledConv, share: float) -> StyledConv:
    weight = torch.lerp(a.weight, b.weight, share)
    # The demodulation carries the activation's gain: what it is per squared weight stays.
    gain = a.demod.sum() / a.weight.square().sum()
    return replace(
        a,
        affine=_affine(a.affine, b.affine, share),
        weight=weight,
        demod=weight.square().sum(dim=(2, 3)) * gain,
        noise=torch.lerp(a.noise, b.noise, share),
        bias=torch.lerp(a.bias, b.bias, share),
    )


def _rgb(a: ToRGB, b: ToRGB, share: float) -> ToRGB:
    weight, bias = (torch.lerp(x, y, share) for x, y in ((a.weight, b.weight), (a.bias, b.bias)))
    return replace(a, affine=_affine(a.affine, b.affine, share), weight=weight, bias=bias)


def _affine(a: Affine, b: Affine, share: float) -> Affine:
    def mixed(x: Tensor, y: Tensor) -> Tensor:
        return torch.lerp(x, y, share)

    return replace(a, weight=mixed(a.weight, b.weight), bias=mixed(a.bias, b.bias))
