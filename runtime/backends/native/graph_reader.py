"""Following an ONNX graph from its output to its input, for the programs that take one kind of network.

What is not proven equal is refused: every attribute of a node has the value that the recognizer names or,
where it names none, the default of its operator; every input is one that the recognizer reads; every node is
of the standard's own operators, in the one version that is known here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Generic, NoReturn, TypeVar

import numpy as np

from ...errors import BackendError
from ...types import Floats
from .onnx_file import MALFORMED, STANDARD, Array, Border, Graph, Node

OPSET: Final = 18  # what DEFAULTS and the recognizers know
ANY: Final = object()  # an attribute that the caller reads itself, or that changes nothing here
_ABSENT: Final = None  # the default of attributes that have none
_WINDOW: Final = {"auto_pad": "NOTSET", "kernel_shape": _ABSENT, "pads": [0, 0, 0, 0], "strides": [1, 1]}
_CONV: Final = _WINDOW | {"dilations": [1, 1], "group": 1}
FLOAT: Final = 1  # TensorProto.FLOAT

# Attributes of the operators that the recognizers know, with their defaults (github.com/onnx/onnx,
# docs/Operators.md, version 18; convolutions of pictures).
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "Add": {},
    "BatchNormalization": {"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0},
    "Cast": {"to": _ABSENT},
    "Clip": {},
    "Concat": {"axis": _ABSENT},
    "Conv": _CONV,
    "ConvTranspose": _CONV | {"output_padding": [0, 0], "output_shape": _ABSENT},
    "Expand": {},
    "Gather": {"axis": 0},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    "GlobalAveragePool": {},
    "LeakyRelu": {"alpha": 0.01},
    "MatMul": {},
    "MaxPool": _WINDOW | {"ceil_mode": 0, "dilations": [1, 1], "storage_order": 0},
    "Mul": {},
    "PRelu": {},
    "Reciprocal": {},
    "ReduceMean": {"keepdims": 1, "noop_with_empty_axes": 0},
    "Relu": {},
    "Reshape": {"allowzero": 0},
    "Resize": {
        "antialias": 0,
        "axes": _ABSENT,
        "coordinate_transformation_mode": "half_pixel",
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "extrapolation_value": 0.0,
        "keep_aspect_ratio_policy": "stretch",
        "mode": "nearest",
        "nearest_mode": "round_prefer_floor",
    },
    "Sigmoid": {},
    "Split": {"axis": 0, "num_outputs": _ABSENT},
    "Sqrt": {},
    "Unsqueeze": {},
}


Network = TypeVar("Network")


class GraphReader(Generic[Network]):
    """What the recognizers share. ``kind``: the expected network; ``name``: of the file, for errors."""

    kind: str

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.file_name = graph, name
        self.makers = {output: node for node in graph.nodes for output in node.outputs}
        self.accounted: set[str] = set()  # outputs of the nodes that were accounted for
        if graph.opset != OPSET:
            self.refuse(f"operators of version {OPSET}, got {graph.opset or 'none'}")
        foreign = sorted({f"{node.domain}.{node.op}" for node in graph.nodes if node.domain not in STANDARD})
        if foreign:
            self.refuse(f"the standard's operators, got {', '.join(foreign)}")

    def read(self) -> Network:
        """The network, taken apart. Raises BackendError, with the place, for any other."""
        inputs, outputs = self.graph.inputs, self.graph.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            self.refuse(f"one input and one output, got {len(inputs)} and {len(outputs)}")
        try:
            return self.network(inputs[0], outputs[0])
        except MALFORMED as error:
            self.refuse(f"nodes with the inputs and sizes of their kind ({error})")

    def network(self, source: Border, result: Border) -> Network:
        """To be written by each kind: follow the graph from ``result`` to ``source``."""
        raise NotImplementedError

    def refuse(self, expected: str) -> NoReturn:
        raise BackendError(
            f"{self.file_name}: expected {self.kind} as doppelgan exports it in float32: "
            f"{expected}; another backend may take it"
        )

    def expect_codes(self, codes: Border) -> None:
        if codes.dtype != "float32" or len(codes.shape) != 3 or codes.shape[0] != 1 or min(codes.shape) < 1:
            self.refuse(f"codes float32 [1, rows, w_dim], got {codes}")

    def refuse_unseen(self) -> None:
        """To be called at the end: no node may be left over."""
        unknown = [node.op for node in self.graph.nodes if not self.accounted.issuperset(node.outputs)]
        if unknown:
            self.refuse(f"nothing else, got {', '.join(sorted(set(unknown)))}")

    def is_made_by(self, name: str, op: str) -> bool:
        return name in self.makers and self.makers[name].op == op

    def node(self, name: str, op: str, inputs: int, **attributes: Any) -> Node:
        """The node that makes ``name``: of that kind, with so many inputs and these attributes."""
        node = self.makers.get(name)
        if node is None or node.op != op:
            self.refuse(f"{op} to make {name!r}, got {'an input' if node is None else node.op}")
        if len(node.inputs) != inputs:
            self.refuse(f"{op} of {inputs} inputs, got {len(node.inputs)}")
        if len(node.outputs) != 1 and op != "Split":
            self.refuse(f"{op} with one output, got {len(node.outputs)}")
        defaults = DEFAULTS[op]
        for key in sorted(node.attributes.keys() | defaults.keys()):
            if key not in defaults:
                self.refuse(f"{op} without {key}")
            wanted = attributes.get(key, defaults[key])
            if wanted is ANY or (
                wanted is not _ABSENT and key not in node.attributes and key == "kernel_shape"
            ):
                continue  # where it is missing, a kernel's shape is its weight's
            value = self.attribute(node, key)
            if isinstance(wanted, float) and isinstance(value, float):
                same = math.isclose(value, wanted, rel_tol=1e-6)
            else:
                same = type(value) is type(wanted) and value == wanted
            if not same:
                self.refuse(f"{op} with {key} {wanted}, got {value}")
        self.accounted.update(node.outputs)
        return node

    def attribute(self, node: Node, key: str) -> Any:
        return node.attributes.get(key, DEFAULTS[node.op][key])

    def constant_operand(self, node: Node) -> tuple[str, Array]:
        """Of a node with two operands: the one that is computed, and the one that is constant."""
        first, second = node.inputs
        if self.is_constant(second):
            return first, self.constant(second)
        return second, self.constant(first)

    def stored_operand(self, node: Node) -> str:
        """Of a node with two operands: the name in the file of the one that is constant."""
        first, second = node.inputs
        return self.stored(second if self.is_constant(second) else first)

    def stored(self, name: str) -> str:
        """The name under which a constant is stored: its own, or that of what is cast to it."""
        return name if name in self.graph.constants else self.makers[name].inputs[0]

    def is_constant(self, name: str) -> bool:
        return name in self.graph.constants or (
            self.is_made_by(name, "Cast") and self.makers[name].inputs[0] in self.graph.constants
        )

    def constant(self, name: str) -> Array:
        """A constant, or one that is stored in float16 and cast."""
        if not self.is_constant(name):
            self.refuse(f"a constant {name!r}")
        if name in self.graph.constants:
            return self.graph.constants[name]
        stored = self.graph.constants[self.node(name, "Cast", 1, to=FLOAT).inputs[0]]
        if stored.dtype != np.float16:
            self.refuse(f"constants stored as float16 or float32, got {stored.dtype}")
        return stored.astype(np.float32)

    def integers(self, name: str) -> list[int]:
        """A constant list of integers, such as a shape."""
        array = self.constant(name)
        if array.dtype != np.int64 or array.ndim != 1:
            self.refuse(f"a list of integers as {name!r}, got {array.dtype} {list(array.shape)}")
        return [int(value) for value in array]

    def expect_integers(self, name: str, wanted: Sequence[int], what: str) -> None:
        got = self.integers(name)
        if got != list(wanted):
            self.refuse(f"{what} {list(wanted)}, got {got}")

    def reshaped(self, name: str, shape: Sequence[int]) -> str:
        """What is reshaped to ``shape``; one size may be left to be found out."""
        node = self.node(name, "Reshape", 2, allowzero=ANY)
        got = self.integers(node.inputs[1])
        known = len(got) == len(shape) and [a if b == -1 else b for a, b in zip(shape, got, strict=True)]
        if known != list(shape) or got.count(-1) > 1:
            self.refuse(f"a shape {list(shape)}, got {got}")
        return node.inputs[0]

    def shaped(self, array: Array, shape: Sequence[int], what: str) -> Floats:
        """float32 values of exactly that shape, for the kernels."""
        if array.dtype != np.float32 or array.shape != tuple(shape):
            self.refuse(f"{what} float32 {list(shape)}, got {array.dtype} {list(array.shape)}")
        return aligned_floats(array)


def aligned_floats(array: Array) -> Floats:
    """Contiguous and aligned: in a file, which is read in place, constants begin at any byte."""
    return np.require(array, np.float32, ["C", "A"])
