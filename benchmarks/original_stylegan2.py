"""StyleGAN2's synthesis as the paper's own program computes it: the slow side of the comparisons.

Every sample gets its own modulated and demodulated weights, convolved as one grouped convolution; filters
pad, spread with zeros and convolve. Written from the paper (Karras et al. 2020) for the tensor names of the
stylegan2-pytorch layout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]


def filtered(x: Tensor, taps: Tensor, up: int, before: int, after: int) -> Tensor:
    """Spread by ``up``, pad, convolve every channel with ``taps``."""
    n, c, h, w = x.shape
    if up > 1:
        x = x.reshape(n, c, h, 1, w, 1)
        x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    x = F.pad(x, (before, after, before, after))
    height, width = x.shape[2:]
    x = F.conv2d(x.reshape(n * c, 1, height, width), taps.flip(0, 1)[None, None])
    return x.reshape(n, c, x.shape[2], x.shape[3])


class OriginalSynthesis(nn.Module):
    """codes float32 [N, n_styles, w_dim] -> image float32 [N, 3, R, R]."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.names = {name: name.replace(".", "_") for name in state}
        for name, plain in self.names.items():
            self.register_buffer(plain, state[name])
        self.blocks = sum(
            1 for name in state if name.startswith("to_rgbs.") and name.endswith(".upsample.kernel")
        )

    def get(self, name: str) -> Tensor:
        stored: Tensor = getattr(self, self.names[name])
        return stored

    def convolved(self, x: Tensor, code: Tensor, name: str, demodulate: bool, up: bool) -> Tensor:
        weight = self.get(f"{name}.weight")  # [1, O, I, k, k]
        affine = self.get(f"{name}.modulation.weight")
        _, n_out, n_in, side, _ = weight.shape
        style = F.linear(code, affine / math.sqrt(affine.shape[1]), self.get(f"{name}.modulation.bias"))
        n, _, height, width = x.shape

        weight = weight / math.sqrt(n_in * side * side) * style.view(n, 1, n_in, 1, 1)
        if demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        x = x.reshape(1, n * n_in, height, width)
        if not up:
            weight = weight.reshape(n * n_out, n_in, side, side)
            x = F.conv2d(x, weight, padding=side // 2, groups=n)
            return x.reshape(n, n_out, height, width)
        weight = weight.transpose(1, 2).reshape(n * n_in, n_out, side, side)
        x = F.conv_transpose2d(x, weight, stride=2, groups=n)
        x = x.reshape(n, n_out, 2 * height + 1, 2 * width + 1)
        return filtered(x, self.get(f"{name}.blur.kernel"), up=1, before=1, after=1)

    def styled(self, x: Tensor, code: Tensor, name: str, index: int, up: bool) -> Tensor:
        x = self.convolved(x, code, f"{name}.conv", True, up)
        x = x + self.get(f"{name}.noise.weight") * self.get(f"noises.noise_{index}")
        x = x + self.get(f"{name}.activate.bias").view(1, -1, 1, 1)
        return F.leaky_relu(x, 0.2) * math.sqrt(2)

    def rgb(self, x: Tensor, code: Tensor, name: str, skip: Tensor | None) -> Tensor:
        x = self.convolved(x, code, f"{name}.conv", False, False) + self.get(f"{name}.bias")
        if skip is None:
            return x
        return x + filtered(skip, self.get(f"{name}.upsample.kernel"), up=2, before=2, after=1)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.get("input.input").repeat(codes.shape[0], 1, 1, 1)
        x = self.styled(x, codes[:, 0], "conv1", 0, up=False)
        image = self.rgb(x, codes[:, 1], "to_rgb1", None)
        for k in range(self.blocks):
            x = self.styled(x, codes[:, 2 * k + 1], f"convs.{2 * k}", 2 * k + 1, up=True)
            x = self.styled(x, codes[:, 2 * k + 2], f"convs.{2 * k + 1}", 2 * k + 2, up=False)
            image = self.rgb(x, codes[:, 2 * k + 3], f"to_rgbs.{k}", image)
        return image
