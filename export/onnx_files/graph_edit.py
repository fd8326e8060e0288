"""A thin layer over an ONNX graph for rewriting it: who makes a tensor, who reads it, what is constant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


class GraphEditor:
    """Load with ``GraphEditor(onnx_bytes)``, rewrite, read back with ``data()``."""

    def __init__(self, data: bytes) -> None:
        self.model = onnx.load_model_from_string(data)
        self.nodes: list[onnx.NodeProto] = list(self.model.graph.node)
        outputs = {value.name for value in self.model.graph.output}
        self.constants: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer
        }
        for node in list(self.nodes):
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
                self.nodes.remove(node)
        for node in list(self.nodes):  # weights stored in half precision are float32 constants to everybody
            if node.op_type == "Cast" and node.input[0] in self.constants and node.output[0] not in outputs:
                to = helper.tensor_dtype_to_np_dtype(attribute(node, "to", onnx.TensorProto.FLOAT))
                self.constants[node.output[0]] = self.constants[node.input[0]].astype(to)
                self.nodes.remove(node)
        inferred = onnx.shape_inference.infer_shapes(self.model)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, int] = {}  # tensor name -> TensorProto data type
        for value in [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]:
            tensor = value.type.tensor_type
            self.shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
            self.types[value.name] = tensor.elem_type
        for name, array in self.constants.items():
            self.shapes[name] = array.shape
            self.types[name] = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.outputs = [value.name for value in self.model.graph.output]
        self._count = 0
        self.refresh()

    def refresh(self) -> None:
        """Find makers and readers again after nodes were added or rewired."""
        self.maker: dict[str, onnx.NodeProto] = {out: node for node in self.nodes for out in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def is_float(self, name: str) -> bool:
        return self.types.get(name) == onnx.TensorProto.FLOAT

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads ``name``, if there is exactly one and it is no output of the graph."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def constant(self, array: Array, name: str) -> str:
        """Add a constant; returns its (unique) name."""
        name = self.unique(name)
        self.constants[name] = array
        self.shapes[name] = array.shape
        self.types[name] = helper.np_dtype_to_tensor_dtype(array.dtype)
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        name: str,
        shape: tuple[int, ...],
        type_: int = 1,
        **attributes: Any,
    ) -> str:
        """Add a node with one output of the given shape; returns the output's (unique) name."""
        name = self.unique(name)
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        self.shapes[name], self.types[name] = shape, type_
        return name

    def unique(self, name: str) -> str:
        self._count += 1
        return f"{name}.{self._count}"

    def data(self) -> bytes:
        """The graph, sorted, without constants that nobody reads; checked by ONNX."""
        graph = self.model.graph
        nodes = list(self._sorted())
        used = {name for node in nodes for name in node.input} | set(self.outputs)
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.initializer[:]
        graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in used
        )
        del graph.value_info[:]
        onnx.checker.check_model(self.model)
        return bytes(self.model.SerializeToString())

    def _sorted(self) -> Iterator[onnx.NodeProto]:
        """Nodes that the outputs need, each after the makers of its inputs; order is kept otherwise."""
        self.refresh()
        needed: set[str] = set()
        stack = list(self.outputs)
        while stack:
            name = stack.pop()
            if name in needed:
                continue
            needed.add(name)
            if name in self.maker:
                stack.extend(self.maker[name].input)
        waiting = [node for node in self.nodes if needed.intersection(node.output)]
        known = {"", *self.constants, *(value.name for value in self.model.graph.input)}
        while waiting:
            ready = []
            rest = []
            for node in waiting:
                if known.issuperset(node.input):
                    ready.append(node)
                    known.update(node.output)
                else:
                    rest.append(node)
            assert ready, "the rewritten graph has a cycle or a missing tensor"
            yield from ready
            waiting = rest


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of an attribute, or ``default``."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def replace_input(node: onnx.NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new


class Modulated:
    """A convolution with constant weights and an input scaled by a style, as ``stylegan2.py`` writes it.

    ``style`` -> Unsqueeze -> ``scale`` = Mul(x, .) -> ``conv`` -> [``fir``] -> ``demod`` = Mul(., d)
    """

    def __init__(
        self, scale: onnx.NodeProto, conv: onnx.NodeProto, fir: onnx.NodeProto | None, demod: onnx.NodeProto,
        x: str, style: str, d: str,
    ) -> None:  # fmt: skip
        self.scale, self.conv, self.fir, self.demod = scale, conv, fir, demod
        self.x, self.style, self.d = x, style, d

    @property
    def weight(self) -> str:
        return str(self.conv.input[1])

    @property
    def out_axis(self) -> int:
        """Axis of the weight that counts output channels."""
        return 1 if self.conv.op_type == "ConvTranspose" else 0


def modulated_convolutions(graph: GraphEditor) -> list[Modulated]:
    """All style-modulated, demodulated convolutions, in the order of the graph."""
    convolutions = []
    for conv in graph.nodes:
        if not is_dense_convolution(graph, conv):
            continue
        scale = graph.maker.get(conv.input[0])
        if scale is None or scale.op_type != "Mul":
            continue
        split = _map_and_vector(graph, scale)
        after = graph.only_reader(conv.output[0])
        fir = None
        if after is not None and after.op_type == "Conv" and attribute(after, "group", 1) > 1:
            fir, after = after, graph.only_reader(after.output[0])
        if split is None or after is None or after.op_type != "Mul":
            continue
        convolved = (fir or conv).output[0]
        d = next((name for name in after.input if name != convolved), None)
        if d is None or d in graph.constants:
            continue
        convolutions.append(Modulated(scale, conv, fir, after, *split, d))
    return convolutions


def is_dense_convolution(graph: GraphEditor, node: onnx.NodeProto) -> bool:
    """Conv or ConvTranspose with constant weights and no groups."""
    return (
        node.op_type in ("Conv", "ConvTranspose")
        and attribute(node, "group", 1) == 1
        and node.input[1] in graph.constants
    )


def _map_and_vector(graph: GraphEditor, scale: onnx.NodeProto) -> tuple[str, str] | None:
    """Of Mul(map [1,I,H,W], vector [1,I,1,1]): which input is which; None for any other product."""
    for x, style in (scale.input, reversed(scale.input)):
        shape = graph.shapes.get(style, ())
        if len(shape) == 4 and shape[2:] == (1, 1) and style not in graph.constants and x != style:
            return x, style
    return None
