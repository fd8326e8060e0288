"""Blending by layers: what each end of the dial draws, and who is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from doppelgan.export import Synthesis
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.blend import blended, kinship
from doppelgan.export.networks.stylegan2 import GeneratorWeights, from_rosinality
from doppelgan.runtime.errors import CheckpointError

from . import seeds


def generator(seed: int = 0, near: float = 0.0) -> GeneratorWeights:
    """With ``near``: that part of another one mixed in, as fine-tuning changes a generator a little."""
    state, other = seeds.rosinality(seed=seed), seeds.rosinality(seed=seed + 1)
    mixed = {name: torch.lerp(value, other[name], near) for name, value in state.items()}
    return from_rosinality(TensorTable(mixed, "", "seeds"))


PHOTO, TOON = generator(), generator(near=0.3)
CODES = torch.randn(2, 6, seeds.TINY_W_DIM, generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
def drawn(weights: GeneratorWeights) -> torch.Tensor:
    picture: torch.Tensor = Synthesis(weights)(CODES)
    return picture


def test_the_ends_of_the_dial_are_the_two_generators() -> None:
    torch.testing.assert_close(drawn(blended(PHOTO, TOON, at=4)), drawn(TOON))
    torch.testing.assert_close(drawn(blended(PHOTO, TOON, at=32)), drawn(PHOTO))
    assert (drawn(PHOTO) - drawn(TOON)).abs().mean() > 0.1


def test_between_coarse_layers_are_one_and_fine_layers_the_other() -> None:
    blend = blended(PHOTO, TOON, at=8)
    torch.testing.assert_close(blend.convs[0].weight, PHOTO.convs[0].weight)
    torch.testing.assert_close(blend.convs[1].weight, TOON.convs[1].weight)
    torch.testing.assert_close(blend.rgbs[0].bias, PHOTO.rgbs[0].bias)
    torch.testing.assert_close(blend.rgbs[2].bias, TOON.rgbs[2].bias)
    torch.testing.assert_close(blend.convs[1].demod, TOON.convs[1].demod)


def test_a_width_spreads_the_change() -> None:
    blend = blended(PHOTO, TOON, at=8, width=4)
    mixed = [float((b.bias - a.bias).norm() / (c.bias - a.bias).norm())
             for a, b, c in zip(PHOTO.convs, blend.convs, TOON.convs, strict=True)]  # fmt: skip
    assert mixed == sorted(mixed)
    assert 0 < mixed[0] < mixed[1] < mixed[3] < 1
    # the demodulation is that of the mixed weights: a unit of style gives unit variance
    weight = blend.convs[1].weight
    torch.testing.assert_close(blend.convs[1].demod, weight.square().sum((2, 3)) / 2)


def test_strangers_and_other_shapes_are_refused() -> None:
    assert kinship(PHOTO, TOON) > 0.8
    with pytest.raises(CheckpointError, match="one family"):
        blended(PHOTO, generator(seed=5))
    with pytest.raises(CheckpointError, match="one shape"):
        blended(PHOTO, replace(TOON, convs=TOON.convs[:3]))
    with pytest.raises(CheckpointError, match="resolution of 4, 8"):
        blended(PHOTO, TOON, at=12)
