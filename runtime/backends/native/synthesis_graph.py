"""Recognizes a StyleGAN2 synthesis network in an ONNX graph and takes it apart into layers.

What is recognized is what ``doppelgan export`` writes (``export/networks/stylegan2.py``), whatever the
tensors' names are: styles by matrix products from rows of the code, scaled activations, convolutions with
constant weights, demodulation, stored noise, bias, leaky ReLU, and the sum of RGB pictures. Every node must
be accounted for, so that nothing in a graph is overlooked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from ...types import Floats
from .graph_reader import GraphReader, aligned_floats
from .onnx_file import Array, Border, Graph

SLOPE: Final = 0.2  # of the leaky ReLU
MOST_PIXELS: Final = 1 << 14  # a side; a number in a file costs nothing


@dataclass(frozen=True)
class Style:
    """``weight [channels, w_dim] @ codes[row] + bias [channels]``, one scale per channel."""

    row: int
    weight: Floats
    bias: Floats
    names: Mapping[str, str]  # field -> constant of the file
    first: int  # its first row there, where the styles of one row of the code are stacked


@dataclass(frozen=True)
class StyledConv:
    """One 3x3 convolution with demodulation, noise, bias and leaky ReLU."""

    style: Style
    weight: Floats  # [O,I,3,3]; [I,O,3,3] where it doubles the resolution
    demod: Floats  # [O,I]: demodulation is rsqrt(demod @ style^2 + eps)
    eps: Floats  # [O]
    noise: Floats  # [R,R]
    bias: Floats  # [O]
    fir: tuple[Floats, Floats] | None  # [4] down and across, after a transposed convolution
    clamp: float  # of the activations; infinite where there is none
    names: Mapping[str, str]  # field -> constant of the file: weight, demod, noise, bias


@dataclass(frozen=True)
class ToRGB:
    """The RGB of one resolution, added to the doubled picture of the one before."""

    style: Style
    weight: Floats  # [3,I]
    bias: Floats  # [3]
    fir: tuple[Floats, Floats] | None  # [4] down and across
    clamp: float  # before it is added
    names: Mapping[str, str]  # field -> constant of the file: weight, bias


@dataclass(frozen=True)
class SynthesisNetwork:
    """codes float32 [1, rows, w_dim] -> image float32 [1,3,size,size], RGB, nominally -1..1."""

    input: str
    output: str
    rows: int
    w_dim: int
    size: int
    constant: Floats  # [C,4,4]
    constant_name: str  # of it in the file
    convs: tuple[StyledConv, ...]  # one at 4 pixels, then two per resolution
    rgbs: tuple[ToRGB, ...]  # one per resolution

    def layers(self) -> list[StyledConv | ToRGB]:
        """All layers in the order in which they draw: one convolution and one RGB, then two and one."""
        ordered: list[StyledConv | ToRGB] = [self.convs[0], self.rgbs[0]]
        for level in range(1, len(self.rgbs)):
            ordered += [self.convs[2 * level - 1], self.convs[2 * level], self.rgbs[level]]
        return ordered


def recognize(graph: Graph, name: str) -> SynthesisNetwork:
    """Take the network apart. Raises BackendError, with the place, for any other. ``name``: for errors."""
    return _Reader(graph, name).read()


class _Reader(GraphReader[SynthesisNetwork]):
    """Follows the graph from its output to its input, node by node."""

    kind = "a StyleGAN2 synthesis network"

    def network(self, codes: Border, image: Border) -> SynthesisNetwork:
        self.expect_codes(codes)
        if image.dtype != "float32" or image.shape[:2] != (1, 3) or len(image.shape) != 4:
            self.refuse(f"an image float32 [1,3,R,R], got {image}")
        if image.shape[2] != image.shape[3] or image.shape[2] > MOST_PIXELS:
            self.refuse(f"a square image of at most {MOST_PIXELS} pixels a side, got {image}")
        rgbs: list[ToRGB] = []
        convs: list[StyledConv] = []
        picture: str | None = image.name
        side = image.shape[2]
        expected: str | None = None  # the map that the convolutions found so far must have been made from
        while picture is not None:
            rgb, features, picture = self._rgb(picture, side)
            rgbs.append(rgb)
            if expected not in (None, features):
                self.refuse("RGB of the last map of every resolution")
            conv, before = self._conv(features, side, up=False)
            convs.append(conv)
            if picture is not None:
                conv, before = self._conv(before, side, up=True)
                convs.append(conv)
                side //= 2
            expected = before
        if side != 4 or image.shape[2] != 4 << (len(rgbs) - 1):
            self.refuse(f"{4 << (len(rgbs) - 1)} pixels, got {list(image.shape[2:])}")
        constant = self.constant(expected or "")
        inputs = convs[-1].weight.shape[1]
        network = SynthesisNetwork(
            input=codes.name,
            output=image.name,
            rows=codes.shape[1],
            w_dim=codes.shape[2],
            size=image.shape[2],
            constant=self.shaped(constant, (1, inputs, 4, 4), "a constant")[0],
            constant_name=self.stored(expected or ""),
            convs=tuple(reversed(convs)),
            rgbs=tuple(reversed(rgbs)),
        )
        self.refuse_unseen()
        for before_it, conv in pairwise(network.convs):
            if conv.style.weight.shape[0] != before_it.demod.shape[0]:
                self.refuse("convolutions that take all channels of the one before")
        for rgb, conv in zip(network.rgbs, network.convs[::2], strict=True):
            if rgb.style.weight.shape[0] != conv.demod.shape[0]:
                self.refuse("RGB of all channels")
        return network

    # A layer, from its result backwards.

    def _rgb(self, picture: str, side: int) -> tuple[ToRGB, str, str | None]:
        """The RGB layer whose sum is ``picture``; the map it reads, and the picture it is added to."""
        own, fir, before = picture, None, None
        if self.is_made_by(picture, "Add"):
            doubled = [name for name in self.makers[picture].inputs if self.is_made_by(name, "ConvTranspose")]
            if doubled:
                up = self.node(
                    doubled[0], "ConvTranspose", 2,
                    strides=[2, 2], pads=[1, 1, 1, 1], group=3, kernel_shape=[4, 4],
                )  # fmt: skip
                fir, before = self._fir(self.constant(up.inputs[1]), 3), up.inputs[0]
                (own,) = [name for name in self.node(picture, "Add", 2).inputs if name != doubled[0]]
        own, clamp = self._clamp(own)
        added = self.node(own, "Add", 2)
        product, bias = self.constant_operand(added)
        matmul = self.node(self.reshaped(product, [1, 3, side, side]), "MatMul", 2)
        scaled = self.node(matmul.inputs[0], "Mul", 2)
        style, weight = self.constant_operand(scaled)
        scale = self._style(self._unsqueezed(style, [1]))
        channels = scale.weight.shape[0]
        features = self.reshaped(matmul.inputs[1], [1, channels, side * side])
        layer = ToRGB(
            style=scale,
            weight=self.shaped(weight, (1, 3, channels), "weights of the RGB")[0],
            bias=self.shaped(bias, (1, 3, 1, 1), "a bias of the RGB").reshape(-1),
            fir=fir,
            clamp=clamp,
            names={"weight": self.stored_operand(scaled), "bias": self.stored_operand(added)},
        )
        return layer, features, before

    def _conv(self, result: str, side: int, up: bool) -> tuple[StyledConv, str]:
        """The convolution that makes ``result``, and the map it reads."""
        result, clamp = self._clamp(result)
        activation = self.node(result, "LeakyRelu", 1, alpha=SLOPE)
        biased = self.node(activation.inputs[0], "Add", 2)
        noisy, bias = self.constant_operand(biased)
        noised = self.node(noisy, "Add", 2)
        scaled, noise = self.constant_operand(noised)
        filtered, demodulation = self.node(scaled, "Mul", 2).inputs
        sums, demod, eps, demod_name = self._demodulation(demodulation)
        outputs, fir = demod.shape[0], None
        if up:
            depthwise = self.node(filtered, "Conv", 2, pads=[1, 1, 1, 1], group=outputs, kernel_shape=[4, 4])
            fir, filtered = self._fir(self.constant(depthwise.inputs[1]), outputs), depthwise.inputs[0]
            conv = self.node(filtered, "ConvTranspose", 2, strides=[2, 2], kernel_shape=[3, 3])
        else:
            conv = self.node(filtered, "Conv", 2, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        features, unsqueezed = self.node(conv.inputs[0], "Mul", 2).inputs
        name = self._unsqueezed(unsqueezed, [2, 3])
        if name != sums:
            self.refuse("demodulation by the style that scales the activations")
        style = self._style(name)
        inputs = style.weight.shape[0]
        shape = (inputs, outputs, 3, 3) if up else (outputs, inputs, 3, 3)
        layer = StyledConv(
            style=style,
            weight=self.shaped(self.constant(conv.inputs[1]), shape, "weights of a convolution"),
            demod=self.shaped(demod, (outputs, inputs), "weights of a demodulation"),
            eps=self.shaped(eps, (outputs,), "an epsilon"),
            noise=self.shaped(noise, (1, 1, side, side), "noise")[0, 0],
            bias=self.shaped(bias, (1, outputs, 1, 1), "a bias").reshape(-1),
            fir=fir,
            clamp=clamp,
            names={
                "weight": self.stored(conv.inputs[1]),
                "demod": demod_name,
                "noise": self.stored_operand(noised),
                "bias": self.stored_operand(biased),
            },
        )
        return layer, features

    def _clamp(self, name: str) -> tuple[str, float]:
        """What is clamped, and at what; itself and infinity if it is not."""
        if not self.is_made_by(name, "Clip"):
            return name, math.inf
        node = self.node(name, "Clip", 3)
        low, high = (float(self.shaped(self.constant(bound), (), "a bound")) for bound in node.inputs[1:3])
        if not 0 < high == -low:
            self.refuse(f"a symmetric clamp, got {low} to {high}")
        return node.inputs[0], high

    def _demodulation(self, name: str) -> tuple[str, Array, Array, str]:
        """The style it is made of, its weight and eps, and the weight's name in the file."""
        root = self.node(self._unsqueezed(name, [2, 3]), "Reciprocal", 1)
        gemm = self.node(self.node(root.inputs[0], "Sqrt", 1).inputs[0], "Gemm", 3, transB=1)
        square = self.node(gemm.inputs[0], "Mul", 2)
        if square.inputs[0] != square.inputs[1]:
            self.refuse("a squared style")
        weight, eps = gemm.inputs[1:3]
        return square.inputs[0], self.constant(weight), self.constant(eps), self.stored(weight)

    def _style(self, name: str) -> Style:
        """A style, perhaps a part of a matrix product that makes two of them."""
        part: slice | None = None
        total = 0
        if self.is_made_by(name, "Split"):
            split = self.node(name, "Split", 2, axis=1)
            sizes = self.integers(split.inputs[1])
            index, total = split.outputs.index(name), sum(sizes)
            if len(sizes) != len(split.outputs) or min(sizes) < 1:
                self.refuse(f"a split into {len(split.outputs)} styles, got {sizes}")
            part = slice(sum(sizes[:index]), sum(sizes[: index + 1]))
            name = split.inputs[0]
        gemm = self.node(name, "Gemm", 3, transB=1)
        gather = self.node(gemm.inputs[0], "Gather", 2, axis=1)
        codes = self.graph.inputs[0]
        if gather.inputs[0] != codes.name:
            self.refuse("styles made of rows of the code")
        which = self.constant(gather.inputs[1])
        if which.ndim != 0 or which.dtype.kind != "i" or not 0 <= which < codes.shape[1]:
            self.refuse(f"one of {codes.shape[1]} rows of the code, got {which}")
        weight, bias = self.constant(gemm.inputs[1]), self.constant(gemm.inputs[2])
        channels = weight.shape[0] if weight.ndim else 0
        if part is not None and total != channels:
            self.refuse(f"a split of {channels} channels, got {total}")
        weight = self.shaped(weight, (channels, codes.shape[2]), "weights of a style")
        bias = self.shaped(bias, (channels,), "a bias of a style")
        names = {"weight": self.stored(gemm.inputs[1]), "bias": self.stored(gemm.inputs[2])}
        if part is None:
            return Style(int(which), weight, bias, names, 0)
        return Style(int(which), aligned_floats(weight[part]), aligned_floats(bias[part]), names, part.start)

    def _unsqueezed(self, name: str, axes: list[int]) -> str:
        node = self.node(name, "Unsqueeze", 2)
        self.expect_integers(node.inputs[1], axes, "new axes")
        return node.inputs[0]

    def _fir(self, taps: Array, channels: int) -> tuple[Floats, Floats]:
        """[C,1,4,4], the same for all channels and an outer product -> its factors, down and across."""
        taps = self.shaped(taps, (channels, 1, 4, 4), "a FIR")
        kernel = taps[0, 0].astype(np.float64)
        if not (taps == taps[:1]).all():
            self.refuse("a FIR of 4x4, the same for all channels")
        down = kernel.sum(axis=1)
        across = kernel.sum(axis=0) / max(down.sum(), 1e-12)
        if not np.allclose(np.outer(down, across), kernel, rtol=0, atol=1e-6):
            self.refuse("a FIR that is an outer product")
        return down.astype(np.float32), across.astype(np.float32)
