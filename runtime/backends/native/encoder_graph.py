"""Recognizes an image encoder in an ONNX graph and takes it apart into layers.

What is recognized is what ``doppelgan export`` writes for the pSp family (``export/networks/encoders.py``),
whatever the tensors' names are: convolutions with bias, normalization before and PReLU, ReLU or leaky ReLU
after them, squeeze-and-excitation, shortcuts, doubled maps, heads and mean pixels whose matrix products are
the rows of the code. Every node must be accounted for, so that nothing in a graph is overlooked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ...types import Floats
from .graph_reader import ANY, GraphReader, aligned_floats
from .onnx_file import Array, Border, Graph, Node

PICTURE: Final = -1  # in place of a map: the crop
ACTIVATIONS: Final = ("PRelu", "LeakyRelu", "Relu")
MOST_VALUES: Final = 1 << 30  # of all maps together, or of the codes: sizes in a file cost it nothing


@dataclass(frozen=True)
class Convolution:
    """target = leaky(conv(source * scale + shift) + bias + other), zeros around what the kernel reads."""

    source: int
    target: int
    other: int | None
    stride: int
    weight: Floats  # [O,I,k,k], padded by k // 2
    bias: Floats  # [O]
    slope: Floats  # [O] of what is below zero; 1 where there is no activation
    scale: Floats | None  # [I], with shift
    shift: Floats | None


@dataclass(frozen=True)
class Gate:
    """target = source * sigmoid(excite @ relu(squeeze @ mean(source))) + other, every ``stride``th pixel."""

    source: int
    target: int
    other: int
    stride: int
    squeeze: Floats  # [S,C]
    excite: Floats  # [C,S]


@dataclass(frozen=True)
class Doubling:
    """target = source at twice the size, bilinear, corner pixels' centers kept."""

    source: int
    target: int


Step = Convolution | Gate | Doubling


@dataclass(frozen=True)
class Row:
    """weight @ mean pixel of source + bias, plus the product (not the bias) of the row ``base``."""

    source: int
    weight: Floats | None  # [w_dim, C]; None: the product of ``base`` alone
    bias: Floats  # [w_dim], with all that is added
    base: int | None


@dataclass(frozen=True)
class EncoderNetwork:
    """crop float32 [1, planes, size, size] -> codes float32 [1, rows, w_dim]."""

    input: str
    output: str
    planes: int
    size: int
    w_dim: int
    maps: tuple[tuple[int, int], ...]  # side in pixels, channels
    steps: tuple[Step, ...]  # those that do not wait for each other side by side
    rows: tuple[Row, ...]


def recognize(graph: Graph, name: str) -> EncoderNetwork:
    """Take the network apart. Raises BackendError, with the place, for any other. ``name``: for errors."""
    return _Reader(graph, name).read()


class _Reader(GraphReader[EncoderNetwork]):
    """Follows the graph from its output to its input, node by node."""

    kind = "an encoder"

    def __init__(self, graph: Graph, name: str) -> None:
        super().__init__(graph, name)
        self._numbers: dict[str, int] = {}  # maps by the name of their result
        self._maps: list[tuple[int, int]] = []
        self._steps: list[Step] = []

    def network(self, crop: Border, codes: Border) -> EncoderNetwork:
        shape = crop.shape
        if (
            crop.dtype != "float32"
            or len(shape) != 4
            or shape[0] != 1
            or shape[2] != shape[3]
            or min(shape) < 1
        ):
            self.refuse(f"a crop float32 [1,C,S,S], got {crop}")
        self.expect_codes(codes)
        if shape[1] * shape[2] ** 2 > MOST_VALUES or codes.shape[1] * codes.shape[2] > MOST_VALUES >> 8:
            self.refuse(f"a crop and codes of usual sizes, got {crop} and {codes}")
        self._crop, self._size, self._planes = crop.name, shape[2], shape[1]
        rows = self._rows(codes.name, codes.shape[1], codes.shape[2])
        self.refuse_unseen()
        return EncoderNetwork(
            input=crop.name,
            output=codes.name,
            planes=self._planes,
            size=self._size,
            w_dim=codes.shape[2],
            maps=tuple(self._maps),
            steps=_side_by_side(self._steps, self._maps),
            rows=rows,
        )

    # The code.

    def _rows(self, name: str, count: int, w_dim: int) -> tuple[Row, ...]:
        average = np.zeros((count, w_dim))
        if self.is_made_by(name, "Add"):
            name, added = self.constant_operand(self.node(name, "Add", 2))
            if added.ndim > 3 or added.dtype != np.float32:
                self.refuse(
                    f"an average code float32 of at most 3 axes, got {added.dtype} {list(added.shape)}"
                )
            average = np.broadcast_to(added, (1, count, w_dim))[0].astype(np.float64)
        if self.is_made_by(name, "Expand"):
            node = self.node(name, "Expand", 2)
            if self.integers(node.inputs[1]) not in ([1, count, w_dim], [1, count, 1]):
                self.refuse(f"one code for all {count} rows")
            source, weight, bias = self._product(self._unsqueezed(node.inputs[0]), w_dim)
            return tuple(
                Row(source, None if k else weight, aligned_floats(bias + average[k]), 0 if k else None)
                for k in range(count)
            )
        stack = self.node(name, "Concat", count, axis=1)
        names = [self._unsqueezed(one) for one in stack.inputs]
        rows: list[Row] = []
        for k, one in enumerate(names):
            base = None
            if self.is_made_by(one, "Add"):
                parts = self.node(one, "Add", 2).inputs
                if names[0] not in parts or k == 0:
                    self.refuse("the first row's code as the one that others differ from")
                base = 0
                (one,) = parts[1:] if parts[0] == names[0] else parts[:1]
            source, weight, bias = self._product(one, w_dim)
            total = bias + average[k]
            if base is not None:
                total = total + self._product(names[0], w_dim)[2]
            rows.append(Row(source, weight, aligned_floats(total), base))
        return tuple(rows)

    def _unsqueezed(self, name: str) -> str:
        node = self.node(name, "Unsqueeze", 2)
        self.expect_integers(node.inputs[1], [1], "rows of codes along axis")
        return node.inputs[0]

    def _product(self, name: str, w_dim: int) -> tuple[int, Floats, Array]:
        """A matrix product of a map's mean pixel: the map, [w_dim, C], [w_dim] float64."""
        gemm = self.node(name, "Gemm", 3, transB=1)
        if self.is_made_by(gemm.inputs[0], "ReduceMean"):
            mean = self.node(gemm.inputs[0], "ReduceMean", 2, keepdims=0)
            self.expect_integers(mean.inputs[1], [2, 3], "the mean over a map's axes")
            source = self._map(mean.inputs[0])
        else:
            flat = self.makers.get(gemm.inputs[0])
            source = self._map(flat.inputs[0] if flat and flat.inputs else "")
            if self._shape(source)[0] != 1:
                self.refuse(f"a matrix product of one pixel, got {self._shape(source)[0]} by as many")
            self.reshaped(gemm.inputs[0], [1, self._shape(source)[1]])
        if source == PICTURE:
            self.refuse("rows of the code made of a map, got the crop")
        shape = (w_dim, self._maps[source][1])
        weight = self.shaped(self.constant(gemm.inputs[1]), shape, "a matrix for the code")
        bias = self.shaped(self.constant(gemm.inputs[2]), (w_dim,), "a bias of the code")
        return source, weight, bias.astype(np.float64)

    # Maps, from their results backwards.

    def _map(self, name: str) -> int:
        """The number of the map ``name``; the steps to it are added when it is first asked for."""
        if name == self._crop:
            return PICTURE
        if name not in self._numbers:
            node = self.makers.get(name)
            if (
                node is not None
                and node.op == "Add"
                and any(self.is_made_by(one, "Mul") for one in node.inputs)
            ):
                self._gate(name)
            elif node is not None and node.op == "Resize":
                self._doubling(name)
            else:
                self._convolution(name)
        return self._numbers[name]

    def _shape(self, number: int) -> tuple[int, int]:
        return (self._size, self._planes) if number == PICTURE else self._maps[number]

    def _new(self, name: str, side: int, channels: int) -> int:
        self._numbers[name] = len(self._maps)
        self._maps.append((side, channels))
        if sum(size**2 * depth for size, depth in self._maps) > MOST_VALUES:
            self.refuse(f"maps of at most {MOST_VALUES} values together")
        return self._numbers[name]

    def _convolution(self, result: str) -> None:
        name, activation = result, None
        if any(self.is_made_by(name, op) for op in ACTIVATIONS):
            activation = self._activation(name)
            name = activation.inputs[0]
        other = None
        if self.is_made_by(name, "Add"):
            parts = self.node(name, "Add", 2).inputs
            computed = [one for one in parts if self.is_made_by(one, "Conv")]
            if not computed:
                self.refuse("a convolution and a map as the parts of a sum")
            (added,) = parts[1:] if parts[0] == computed[0] else parts[:1]
            name, other = computed[0], self._map(added)
        node, weight, bias = self._conv(name, strides=ANY)
        strides, side = self.attribute(node, "strides"), weight.shape[-1]
        if strides not in ([1, 1], [2, 2]):
            self.refuse(f"convolutions of stride 1 or 2, got {strides}")
        stride, outputs, before = int(strides[0]), weight.shape[0], node.inputs[0]
        scale = shift = None
        if self.is_made_by(before, "BatchNormalization"):
            before, scale, shift = self._normalization(before)
        source = self._map(before)
        size, inputs = self._shape(source)
        if weight.shape[1] != inputs or (scale is not None and scale.size != inputs):
            self.refuse(f"a kernel for {inputs} channels, got {list(weight.shape)}")
        if side not in (1, 3) and (side != 7 or source != PICTURE):
            self.refuse(f"kernels of 1 or 3 pixels, or 7 on the crop, got {side}")
        if scale is not None and (stride != 1 or size < 2 or source == PICTURE):
            self.refuse("normalization only before a convolution of stride 1")
        shape = (-(-size // stride), outputs)
        if other is not None and self._shape(other) != shape:
            self.refuse(f"a sum of maps of one shape, got {self._shape(other)} and {shape}")
        target = self._new(result, *shape)
        slope = self._slope(activation, outputs)
        self._steps.append(
            Convolution(
                source,
                target,
                other,
                stride,
                weight,
                bias,
                slope,
                scale,
                shift,
            )
        )

    def _conv(self, name: str, **attributes: Any) -> tuple[Node, Floats, Floats]:
        """A convolution with a square kernel, padded all around by its half: [O,I,k,k] and its bias [O]."""
        inputs = 3 if name in self.makers and len(self.makers[name].inputs) == 3 else 2
        node = self.makers.get(name)
        weight = self.constant(node.inputs[1]) if node is not None and len(node.inputs) > 1 else np.zeros(0)
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
            self.refuse(f"convolutions with square kernels, got {list(weight.shape)}")
        outputs, side = weight.shape[0], weight.shape[-1]
        node = self.node(name, "Conv", inputs, pads=[side // 2] * 4, kernel_shape=[side, side], **attributes)
        bias = self.constant(node.inputs[2]) if inputs == 3 else np.zeros(outputs, np.float32)
        return (
            node,
            self.shaped(weight, weight.shape, "weights of a convolution"),
            self.shaped(bias, (outputs,), "a bias of a convolution"),
        )

    def _activation(self, name: str) -> Node:
        if self.is_made_by(name, "PRelu"):
            return self.node(name, "PRelu", 2)
        if self.is_made_by(name, "LeakyRelu"):
            return self.node(name, "LeakyRelu", 1, alpha=ANY)
        return self.node(name, "Relu", 1)

    def _slope(self, node: Node | None, channels: int) -> Floats:
        if node is None:
            return np.ones(channels, np.float32)
        if node.op == "PRelu":
            slope = self.constant(node.inputs[1])
            if slope.ndim not in (3, 4) or slope.shape[-3:] not in ((1, 1, 1), (channels, 1, 1)):
                self.refuse(f"PReLU with one slope per channel, got {list(slope.shape)}")
            slope = self.shaped(slope, ((1,) if slope.ndim == 4 else ()) + slope.shape[-3:], "slopes")
            return aligned_floats(np.broadcast_to(slope.reshape(-1), (channels,)))
        value = self.attribute(node, "alpha") if node.op == "LeakyRelu" else 0.0
        if not isinstance(value, float):
            self.refuse(f"LeakyRelu with a number as alpha, got {value}")
        return np.full(channels, value, np.float32)

    def _normalization(self, name: str) -> tuple[str, Floats, Floats]:
        """What is normalized, and the scale and shift that do it."""
        node = self.node(name, "BatchNormalization", 5, epsilon=ANY, momentum=ANY)
        channels = self.constant(node.inputs[1]).size
        gain, offset, mean, variance = (
            self.shaped(self.constant(one), (channels,), "normalization").astype(np.float64)
            for one in node.inputs[1:]
        )
        variance = variance + self.attribute(node, "epsilon")
        if not (variance > 0).all():
            self.refuse(f"normalization by variances above 0, got {variance.min()}")
        scale = gain / np.sqrt(variance)
        return node.inputs[0], aligned_floats(scale), aligned_floats(offset - mean * scale)

    def _gate(self, result: str) -> None:
        parts = self.node(result, "Add", 2).inputs
        first = 0 if self.is_made_by(parts[0], "Mul") else 1
        factors = self.node(parts[first], "Mul", 2).inputs
        which = 0 if self.is_made_by(factors[0], "Sigmoid") else 1
        excite, inner = self._small(self.node(factors[which], "Sigmoid", 1).inputs[0])
        squeeze, mean = self._small(self.node(inner, "Relu", 1).inputs[0])
        measured = self.node(mean, "GlobalAveragePool", 1).inputs[0]
        if measured != factors[1 - which]:
            self.refuse("a gate that is computed from the map it multiplies")
        source = self._map(measured)
        if source == PICTURE or self._made_by(source) is not Convolution:
            self.refuse("a gate of a convolution's map")
        side, channels = self._shape(source)
        if squeeze.shape[1] != channels or excite.shape != squeeze.shape[::-1]:
            self.refuse(f"a gate for {channels} channels, got {squeeze.shape} and {excite.shape}")
        added, stride = parts[1 - first], 1
        if self.is_made_by(added, "MaxPool"):
            pool = self.node(added, "MaxPool", 1, kernel_shape=[1, 1], strides=[2, 2])
            if "kernel_shape" not in pool.attributes:
                self.refuse("MaxPool with a kernel_shape")
            added, stride = pool.inputs[0], 2
        other = self._map(added)
        size = self._shape(other)
        if other == PICTURE or (-(-size[0] // stride), size[1]) != (side, channels):
            self.refuse(f"a shortcut of {side} by {side} pixels and {channels} channels")
        self._steps.append(Gate(source, self._new(result, side, channels), other, stride, squeeze, excite))

    def _made_by(self, number: int) -> type[Step] | None:
        return next((type(step) for step in self._steps if step.target == number), None)

    def _small(self, name: str) -> tuple[Floats, str]:
        """A convolution of one pixel without bias: its matrix [O,I], and what it reads."""
        node, weight, _ = self._conv(name)
        if weight.shape[2:] != (1, 1) or len(node.inputs) > 2:
            self.refuse("squeeze and excitation by 1x1 convolutions without bias")
        return aligned_floats(weight[:, :, 0, 0]), node.inputs[0]

    def _doubling(self, result: str) -> None:
        # Inputs: the map, a region (for cropping alone), factors or, in their place, sizes. What may be any
        # value belongs to other modes.
        node = self.node(
            result, "Resize", 4,
            mode="linear", coordinate_transformation_mode="align_corners",
            cubic_coeff_a=ANY, extrapolation_value=ANY, nearest_mode=ANY,
        )  # fmt: skip
        if any(node.inputs[1:3]):
            self.refuse("Resize to a size, got a region or factors")
        source = self._map(node.inputs[0])
        side, channels = self._shape(source)
        if source == PICTURE:
            self.refuse("a map that is doubled, got the crop")
        self.expect_integers(node.inputs[3], [1, channels, 2 * side, 2 * side], "a map doubled to")
        self._steps.append(Doubling(source, self._new(result, 2 * side, channels)))


def _side_by_side(steps: Sequence[Step], maps: Sequence[tuple[int, int]]) -> tuple[Step, ...]:
    """In an order in which steps of equal shape that do not wait for each other follow each other."""
    depth = {PICTURE: 0}
    for step in steps:
        reads = [step.source] + ([] if isinstance(step, Doubling) or step.other is None else [step.other])
        depth[step.target] = 1 + max(depth[one] for one in reads)

    def place(step: Step) -> tuple[Any, ...]:
        shape = step.weight.shape if isinstance(step, Convolution) else ()
        return depth[step.target], type(step).__name__, shape, maps[step.target], step.source, step.target

    return tuple(sorted(steps, key=place))
