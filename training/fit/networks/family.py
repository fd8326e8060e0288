"""Generators of one family: what is coarse is drawn by the same layers, so that a person tuned in one is that person in all.

Layers between the two can be blended, too, since both grew from one network (Pinkney & Adler, arXiv 2010.05334).
"""

from __future__ import annotations

import torch

from training.fit.networks.stylegan2 import Synthesis


def share(elder: Synthesis, younger: Synthesis, up_to: int) -> None:
    """From now on `younger` draws feature maps of up to `up_to` pixels with the layers of `elder`; its colors stay its own."""
    if elder.channels != younger.channels:
        raise ValueError(f"a family has the same channels, got {list(elder.channels)} and {list(younger.channels)}")
    younger.input, younger.conv1 = elder.input, elder.conv1
    for level in range(len(elder.channels)):
        if 4 << level > up_to:
            break
        for layer in (2 * level - 1, 2 * level) if level else (0,):
            setattr(younger.noises, f"noise_{layer}", elder.noise(layer))
            if layer:
                younger.convs[layer - 1] = elder.convs[layer - 1]


@torch.no_grad()
def grow_out(elder: Synthesis, younger: Synthesis) -> None:
    """`younger` begins as `elder`: the same pictures, from which it learns its own."""
    younger.load_state_dict(elder.state_dict())
