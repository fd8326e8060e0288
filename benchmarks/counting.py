"""Operations and bytes of an ONNX network, counted from its graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from doppelgan.export.onnx_files.graph_edit import GraphEditor


@dataclass(frozen=True)
class Layer:
    """One node that multiplies and adds."""

    name: str
    op: str
    multiply_adds: float
    weight_bytes: float
    activation_bytes: float  # read and written


@dataclass(frozen=True)
class Count:
    """A whole network; bytes as if nothing stayed in a cache between nodes."""

    layers: tuple[Layer, ...]

    @property
    def multiply_adds(self) -> float:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def weight_bytes(self) -> float:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def activation_bytes(self) -> float:
        return sum(layer.activation_bytes for layer in self.layers)


def count(graph: GraphEditor) -> Count:
    """Convolutions, transposed ones and matrix products; elementwise work is left out (it is fused)."""
    layers = []
    for node in graph.nodes:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        out = graph.shapes.get(node.output[0], ())
        first, second = (graph.shapes.get(name, ()) for name in node.input[:2])
        if node.op_type == "Conv":
            work = float(np.prod(second)) * out[2] * out[3]
        elif node.op_type == "ConvTranspose":
            work = float(np.prod(second)) * first[2] * first[3]
        else:
            work = float(np.prod(out)) * first[-1]
        constant = [name for name in node.input if name in graph.constants]
        moving = [name for name in node.input if name not in graph.constants]
        layers.append(
            Layer(
                node.output[0],
                node.op_type,
                work,
                sum(4.0 * float(np.prod(graph.shapes[name])) for name in constant),
                4.0
                * (sum(float(np.prod(graph.shapes.get(name, ()))) for name in moving) + float(np.prod(out))),
            )
        )
    return Count(tuple(layers))
