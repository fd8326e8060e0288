"""The StyleGAN2 generator: its mapping network as it learns, and the synthesis network of the exporter.

Parameters are named and scaled as in the widespread ``stylegan2-pytorch`` checkpoints, so that a trained generator is an
ordinary StyleGAN2 file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from doppelgan.export.networks.trainable import SQRT2, EqualLinear, ModulatedConv, Synthesis
from torch import Tensor, nn

__all__ = [
    "SQRT2",
    "EqualLinear",
    "Mapping",
    "ModulatedConv",
    "Synthesis",
    "generator_state",
    "load_generator",
]


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
