"""Following an ONNX graph from its output to its input, for the programs that take one kind of network."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from ...errors import BackendError
from ...types import Floats
from .onnx_file import Array, Graph, Node


class GraphReader:
    """What the recognizers share. ``kind``: the expected network; ``name``: of the file, for errors."""

    kind: str

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph, self._name = graph, name
        self._maker = {output: node for node in graph.nodes for output in node.outputs}
        self._seen: set[str] = set()  # outputs of the nodes that were accounted for

    def refuse(self, expected: str) -> NoReturn:
        raise BackendError(
            f"{self._name}: expected {self.kind} as doppelgan exports it in float32: "
            f"{expected}; another backend may take it"
        )

    def _is(self, name: str, op: str) -> bool:
        return name in self._maker and self._maker[name].op == op

    def _node(self, name: str, op: str) -> Node:
        node = self._maker.get(name)
        if node is None or node.op != op:
            self.refuse(f"{op} to make {name!r}, got {'an input' if node is None else node.op}")
        self._seen.update(node.outputs)
        return node

    def _constant_operand(self, node: Node) -> tuple[str, Array]:
        """Of a node with two operands: the one that is computed, and the one that is constant."""
        first, second = node.inputs
        if self._is_constant(second):
            return first, self._constant(second)
        return second, self._constant(first)

    def _stored_operand(self, node: Node) -> str:
        """Of a node with two operands: the name in the file of the one that is constant."""
        first, second = node.inputs
        return self._stored(second if self._is_constant(second) else first)

    def _stored(self, name: str) -> str:
        """The name under which a constant is stored: its own, or that of what is cast to it."""
        return name if name in self._graph.constants else self._maker[name].inputs[0]

    def _is_constant(self, name: str) -> bool:
        return name in self._graph.constants or (
            self._is(name, "Cast") and self._maker[name].inputs[0] in self._graph.constants
        )

    def _constant(self, name: str) -> Array:
        """A constant, or one that is stored in float16 and cast."""
        if not self._is_constant(name):
            self.refuse(f"a constant {name!r}")
        if name in self._graph.constants:
            return self._graph.constants[name]
        return self._graph.constants[self._node(name, "Cast").inputs[0]].astype(np.float32)


def aligned_floats(array: Array) -> Floats:
    """Contiguous and aligned: in a file, which is read in place, constants begin at any byte."""
    return np.require(array, np.float32, ["C", "A"])
