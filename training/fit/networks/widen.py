"""A synthesis network of more channels that draws the same pictures: an earlier, narrower one goes on learning in it.

After Net2Net (Chen 2015), but unheard instead of doubled: what is new begins at random and is read with weights of 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from training.fit.networks.stylegan2 import Synthesis


@torch.no_grad()
def widened(earlier: Synthesis, channels: Sequence[int]) -> Synthesis:
    """`earlier` with `channels` at 4, 8, 16 ... pixels. ValueError if it has other resolutions, or more of them somewhere."""
    w_dim = earlier.conv1.conv.modulation.weight.shape[1]
    if len(channels) != len(earlier.channels) or any(new < old for new, old in zip(channels, earlier.channels, strict=False)):
        raise ValueError(
            f"a generator with {list(earlier.channels)} channels at 4, 8, 16 ... pixels cannot become one with {list(channels)}: "
            "expected as many resolutions and nowhere fewer channels (start from another one, or change the plan)"
        )
    wider = Synthesis(channels, w_dim)
    state = wider.state_dict()
    for name, old in earlier.state_dict().items():
        new = state[name]
        if name.endswith("conv.weight"):  # [1, O, I, k, k], multiplied by a gain that falls with I
            outputs, inputs = old.shape[1:3]
            new[:, :outputs, inputs:] = 0
            old = old * (new.shape[2] / inputs) ** 0.5
        new[tuple(slice(n) for n in old.shape)] = old
    wider.load_state_dict(state)
    return wider
