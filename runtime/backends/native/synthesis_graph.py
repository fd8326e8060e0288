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
from typing import Any, Final

import numpy as np

from ...types import Floats
from .graph_reader import GraphReader, aligned_floats
from .onnx_file import MALFORMED, Array, Graph, Node

SLOPE: Final = 0.2  # of the leaky ReLU


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


def recognize(graph: Graph, name: str) -> SynthesisNetwork:
    """Take the network apart. Raises BackendError, with the place, for any other. ``name``: for errors."""
    reader = _Reader(graph, name)
    try:
        return reader.network()
    except MALFORMED as error:
        reader.refuse(f"nodes with the inputs and sizes of their kind ({error})")


class _Reader(GraphReader):
    """Follows the graph from its output to its input, node by node."""

    kind = "a StyleGAN2 synthesis network"

    def network(self) -> SynthesisNetwork:
        graph = self._graph
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            self.refuse("one input and one output")
        codes, image = graph.inputs[0], graph.outputs[0]
        if codes.dtype != "float32" or len(codes.shape) != 3 or codes.shape[0] != 1 or min(codes.shape) < 1:
            self.refuse(f"codes float32 [1, rows, w_dim], got {codes}")
        if image.dtype != "float32" or image.shape[:2] != (1, 3) or len(image.shape) != 4:
            self.refuse(f"an image float32 [1,3,R,R], got {image}")
        rgbs: list[ToRGB] = []
        convs: list[StyledConv] = []
        picture: str | None = image.name
        expected: str | None = None  # the map that the convolutions found so far must have been made from
        while picture is not None:
            rgb, features, picture = self._rgb(picture)
            rgbs.append(rgb)
            if expected not in (None, features):
                self.refuse("RGB of the last map of every resolution")
            conv, before = self._conv(features, up=False)
            convs.append(conv)
            if picture is not None:
                conv, before = self._conv(before, up=True)
                convs.append(conv)
            expected = before
        constant = self._constant(expected or "")
        network = SynthesisNetwork(
            input=codes.name,
            output=image.name,
            rows=codes.shape[1],
            w_dim=codes.shape[2],
            size=image.shape[2],
            constant=aligned_floats(constant.reshape(constant.shape[-3:])),
            constant_name=self._stored(expected or ""),
            convs=tuple(reversed(convs)),
            rgbs=tuple(reversed(rgbs)),
        )
        unknown = [node.op for node in graph.nodes if not self._seen.issuperset(node.outputs)]
        if unknown:
            self.refuse(f"nothing else, got {', '.join(sorted(set(unknown)))}")
        if image.shape[2:] != (4 << (len(rgbs) - 1),) * 2:
            self.refuse(f"{4 << (len(rgbs) - 1)} pixels, got {list(image.shape[2:])}")
        return network

    # A layer, from its result backwards.

    def _rgb(self, picture: str) -> tuple[ToRGB, str, str | None]:
        """The RGB layer whose sum is ``picture``; the map it reads, and the picture it is added to."""
        mine, fir, before = picture, None, None
        if self._is(picture, "Add"):
            doubled = [name for name in self._maker[picture].inputs if self._is(name, "ConvTranspose")]
            if doubled:
                up = self._node(doubled[0], "ConvTranspose")
                self._expect(up, strides=[2, 2], pads=[1, 1, 1, 1], group=3)
                fir, before = self._fir(self._constant(up.inputs[1])), up.inputs[0]
                (mine,) = [name for name in self._node(picture, "Add").inputs if name != doubled[0]]
        mine, clamp = self._clamp(mine)
        added = self._node(mine, "Add")
        product, bias = self._constant_operand(added)
        matmul = self._node(self._node(product, "Reshape").inputs[0], "MatMul")
        scaled = self._node(matmul.inputs[0], "Mul")
        style, weight = self._constant_operand(scaled)
        features = self._node(matmul.inputs[1], "Reshape").inputs[0]
        layer = ToRGB(
            style=self._style(self._node(style, "Unsqueeze").inputs[0]),
            weight=aligned_floats(weight.reshape(weight.shape[-2:])),
            bias=aligned_floats(bias.reshape(-1)),
            fir=fir,
            clamp=clamp,
            names={"weight": self._stored_operand(scaled), "bias": self._stored_operand(added)},
        )
        return layer, features, before

    def _conv(self, result: str, up: bool) -> tuple[StyledConv, str]:
        """The convolution that makes ``result``, and the map it reads."""
        result, clamp = self._clamp(result)
        activation = self._node(result, "LeakyRelu")
        if not math.isclose(activation.attributes.get("alpha", 0.01), SLOPE, rel_tol=1e-6):
            self.refuse(f"leaky ReLU of {SLOPE}, got {activation.attributes.get('alpha')}")
        biased = self._node(activation.inputs[0], "Add")
        noisy, bias = self._constant_operand(biased)
        noised = self._node(noisy, "Add")
        scaled, noise = self._constant_operand(noised)
        filtered, demodulation = self._node(scaled, "Mul").inputs
        sums, demod, eps, demod_name = self._demodulation(demodulation)
        fir = None
        if up:
            depthwise = self._node(filtered, "Conv")
            taps = self._constant(depthwise.inputs[1])
            self._expect(depthwise, pads=[1, 1, 1, 1], strides=[1, 1], group=taps.shape[0])
            fir, filtered = self._fir(taps), depthwise.inputs[0]
            conv = self._node(filtered, "ConvTranspose")
            self._expect(conv, strides=[2, 2], pads=[0, 0, 0, 0], group=1, output_padding=[0, 0])
        else:
            conv = self._node(filtered, "Conv")
            self._expect(conv, pads=[1, 1, 1, 1], strides=[1, 1], group=1)
        weight = self._constant(conv.inputs[1])
        if weight.shape[2:] != (3, 3) or len(conv.inputs) > 2:
            self.refuse(f"3x3 convolutions without bias, got {list(weight.shape)}")
        features, style = self._node(conv.inputs[0], "Mul").inputs
        name = self._node(style, "Unsqueeze").inputs[0]
        if name != sums:
            self.refuse("demodulation by the style that scales the activations")
        layer = StyledConv(
            style=self._style(name),
            weight=aligned_floats(weight),
            demod=aligned_floats(demod),
            eps=aligned_floats(eps.reshape(-1)),
            noise=aligned_floats(noise.reshape(noise.shape[-2:])),
            bias=aligned_floats(bias.reshape(-1)),
            fir=fir,
            clamp=clamp,
            names={
                "weight": self._stored(conv.inputs[1]),
                "demod": demod_name,
                "noise": self._stored_operand(noised),
                "bias": self._stored_operand(biased),
            },
        )
        return layer, features

    def _clamp(self, name: str) -> tuple[str, float]:
        """What is clamped, and at what; itself and infinity if it is not."""
        if not self._is(name, "Clip"):
            return name, math.inf
        node = self._node(name, "Clip")
        low, high = (float(self._constant(bound).reshape(())) for bound in node.inputs[1:3])
        if not 0 < high == -low:
            self.refuse(f"a symmetric clamp, got {low} to {high}")
        return node.inputs[0], high

    def _demodulation(self, name: str) -> tuple[str, Array, Array, str]:
        """The style it is made of, its weight and eps, and the weight's name in the file."""
        root = self._node(self._node(name, "Unsqueeze").inputs[0], "Reciprocal")
        gemm = self._node(self._node(root.inputs[0], "Sqrt").inputs[0], "Gemm")
        self._expect(gemm, transB=1)
        square = self._node(gemm.inputs[0], "Mul")
        if square.inputs[0] != square.inputs[1]:
            self.refuse("a squared style")
        weight, eps = gemm.inputs[1:3]
        return square.inputs[0], self._constant(weight), self._constant(eps), self._stored(weight)

    def _style(self, name: str) -> Style:
        """A style, perhaps a part of a matrix product that makes two of them."""
        part = slice(None)
        if self._is(name, "Split"):
            split = self._node(name, "Split")
            ends = np.cumsum(self._constant(split.inputs[1]))
            index = split.outputs.index(name)
            part = slice(int(ends[index - 1]) if index else 0, int(ends[index]))
            name = split.inputs[0]
        gemm = self._node(name, "Gemm")
        self._expect(gemm, transB=1)
        gather = self._node(gemm.inputs[0], "Gather")
        if gather.inputs[0] != self._graph.inputs[0].name or gather.attributes.get("axis") != 1:
            self.refuse("styles made of rows of the code")
        row = int(self._constant(gather.inputs[1]).reshape(()))
        weight, bias = self._constant(gemm.inputs[1]), self._constant(gemm.inputs[2])
        return Style(
            row,
            aligned_floats(weight[part]),
            aligned_floats(bias[part]),
            names={"weight": self._stored(gemm.inputs[1]), "bias": self._stored(gemm.inputs[2])},
            first=part.start or 0,
        )

    def _fir(self, taps: Array) -> tuple[Floats, Floats]:
        """[C,1,4,4], the same for all channels and an outer product -> its factors, down and across."""
        kernel = taps[0, 0].astype(np.float64)
        if kernel.shape != (4, 4) or not (taps == taps[:1]).all():
            self.refuse("a FIR of 4x4, the same for all channels")
        down = kernel.sum(axis=1)
        across = kernel.sum(axis=0) / max(down.sum(), 1e-12)
        if not np.allclose(np.outer(down, across), kernel, rtol=0, atol=1e-6):
            self.refuse("a FIR that is an outer product")
        return down.astype(np.float32), across.astype(np.float32)

    def _expect(self, node: Node, **attributes: Any) -> None:
        for key, wanted in attributes.items():
            got = node.attributes.get(key, wanted if key in ("group", "output_padding") else None)
            if got != wanted and not (got is None and not any(np.atleast_1d(wanted))):
                self.refuse(f"{node.op} with {key} {wanted}, got {got}")
