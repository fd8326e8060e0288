"""float32 -> float16 networks that cannot overflow.

Any network: feature maps (tensors of four dimensions) and what computes them become float16; vectors,
matrix products on them, and the network's inputs and outputs stay float32.

A StyleGAN2 generator gets more, because its activations times a style leave float16's range:

* Style and weights are divided by their largest magnitudes, and the weights by sqrt(I k k) too, before the
  convolution; the demodulation, computed in float32, takes the product of these factors. With
  activations of at most 256, a sum of I k k products then stays below 256 sqrt(I k k) <= 17378 for 512
  channels, and below 30893 after the up-sampling filter: less than float16's 65504 whatever the code is.
* Activations are clamped to +-256 (the remedy of StyleGAN2-ADA's own half precision).
* Mapping, styles and demodulation stay float32; to-RGB products are normalized in the same way, and the
  sum of the RGB pictures is float32.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..onnx_files.graph_edit import (
    Array,
    GraphEditor,
    Modulated,
    attribute,
    modulated_convolutions,
    replace_input,
)

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
CLAMP = 256.0
HALF_MAX = 65504.0
TINY = 1e-8  # keeps the normalization of an all-zero style from dividing by zero

# Operators between a demodulated convolution and the next one, which work on float16 as well.
_ELEMENTWISE = ("Add", "Mul", "LeakyRelu", "Clip", "Identity")


def to_float16(
    data: bytes,  # float32 ONNX
    *,
    naive: bool = False,  # only change the types; for comparison
) -> bytes:
    """The network with float16 feature maps; inputs and outputs keep their types."""
    graph = GraphEditor(data)
    modulated = [] if naive else modulated_convolutions(graph)
    if modulated:
        half = _safe_generator(graph, modulated)
    else:
        half = [node for node in graph.nodes if _makes_maps(graph, node)]
    _retype(graph, half)
    return graph.data()


def rounding_twin(data: bytes) -> bytes:
    """A float32 network that computes what ``data``, a float16 one, gives with float32 accumulation.

    Every float16 result is rounded to float16 and widened again. For measuring drift where nothing
    computes in float16: a CPU runs float16 networks in float32 and hides what overflows.
    """
    graph = GraphEditor(data)
    halves = {name for name, type_ in graph.types.items() if type_ == HALF}
    for name in halves & graph.constants.keys():
        graph.constants[name] = graph.constants[name].astype(np.float32)
    for node in list(graph.nodes):
        if node.op_type == "Cast" and attribute(node, "to", 0) == HALF:
            node.CopyFrom(onnx.helper.make_node("Cast", [*node.input], [*node.output], node.name, to=HALF))
        narrow_names = [name for name in node.output if name in halves]
        for name in narrow_names:
            exact = name
            if node.op_type != "Cast":
                exact = graph.unique(f"{name}.exact")
                node.output[list(node.output).index(name)] = exact
                narrow = graph.node("Cast", [exact], f"{name}.half", graph.shapes[name], HALF, to=HALF)
            else:
                narrow = graph.unique(f"{name}.half")
                node.output[0] = narrow
            graph.nodes.append(onnx.helper.make_node("Cast", [narrow], [name], to=FLOAT))
    return graph.data()


def _makes_maps(graph: GraphEditor, node: onnx.NodeProto) -> bool:
    return all(graph.is_float(name) and len(graph.shapes[name]) == 4 for name in node.output)


def _safe_generator(graph: GraphEditor, modulated: list[Modulated]) -> list[onnx.NodeProto]:
    """Normalize and clamp; returns the nodes that may compute in float16."""
    half: list[onnx.NodeProto] = []
    ends: set[str] = set()  # tensors that carry float16 activations
    for layer in modulated:
        _normalize(graph, layer)
        half += [layer.scale, layer.conv, *([layer.fir] if layer.fir is not None else []), layer.demod]
        node, last = layer.demod, layer.demod
        while (
            follower := graph.only_reader(node.output[0])
        ) is not None and follower.op_type in _ELEMENTWISE:
            if follower is not layer.demod and any(follower is other.scale for other in modulated):
                break
            half.append(follower)
            node = last = follower
        half.append(_clamp(graph, last))
        ends.add(half[-1].output[0])
    graph.refresh()
    for name in ends:
        for reader in graph.readers.get(name, []):
            if reader.op_type == "Reshape":
                product = graph.only_reader(reader.output[0])
                if product is not None and product.op_type == "MatMul":
                    half += [reader, product]
                    _normalize_rgb(graph, product, reader.output[0])
    return half


def _normalize(graph: GraphEditor, layer: Modulated) -> None:
    """Divide style and weights by their magnitudes before the convolution, multiply back after it."""
    weight = graph.constants[layer.weight].astype(np.float64)
    axes = tuple(axis for axis in range(4) if axis != layer.out_axis)
    per_output = weight.size / weight.shape[layer.out_axis]
    magnitude = np.maximum(np.abs(weight).max(axis=axes, keepdims=True), TINY) * np.sqrt(per_output)
    layer.conv.input[1] = graph.constant((weight / magnitude).astype(np.float32), "normalized_weight")

    one = (1, 1, 1, 1)
    style = layer.style
    size = graph.node("Abs", [style], "style_magnitude", graph.shapes[style])
    axes_name = graph.constant(np.array([1], np.int64), "channel_axis")
    size = graph.node("ReduceMax", [size, axes_name], "style_magnitude", one, keepdims=1)
    size = graph.node(
        "Max", [size, graph.constant(np.full(one, TINY, np.float32), "tiny")], "style_magnitude", one
    )
    small = graph.node("Div", [style, size], "normalized_style", graph.shapes[style])
    replace_input(layer.scale, style, small)

    shape = graph.shapes[layer.d]
    factor = magnitude.reshape(1, -1, 1, 1).astype(np.float32)
    back = graph.node("Mul", [size, graph.constant(factor, "weight_magnitude")], "magnitude", shape)
    back = graph.node("Mul", [layer.d, back], "denormalized", shape)
    limit = graph.constant(np.array(HALF_MAX, np.float32), "half_max")
    back = graph.node("Min", [back, limit], "denormalized", shape)
    replace_input(layer.demod, layer.d, back)


def _clamp(graph: GraphEditor, last: onnx.NodeProto) -> onnx.NodeProto:
    """Clip the result of ``last`` to +-256 under its old name; returns the Clip."""
    name = last.output[0]
    wide = graph.unique(f"{name}.wide")
    graph.shapes[wide], graph.types[wide] = graph.shapes[name], graph.types[name]
    last.output[0] = wide
    limits = [graph.constant(np.array(sign * CLAMP, np.float32), "clamp") for sign in (-1, 1)]
    clip = onnx.helper.make_node("Clip", [wide, *limits], [name], name=f"{name}.clamp")
    graph.nodes.append(clip)
    return clip


def _normalize_rgb(graph: GraphEditor, product: onnx.NodeProto, x: str) -> None:
    """Make the left factor of to-RGB small before the product and multiply back in float32 after it."""
    left = next(name for name in product.input if name != x)
    shape = graph.shapes[left]
    size = graph.node("Abs", [left], "rgb_magnitude", shape)
    axes = graph.constant(np.array([1, 2], np.int64), "rgb_axes")
    size = graph.node("ReduceMax", [size, axes], "rgb_magnitude", (1, 1, 1), keepdims=1)
    scale = graph.constant(np.full((1, 1, 1), np.sqrt(shape[-1]), np.float32), "rgb_root")
    size = graph.node("Mul", [size, scale], "rgb_magnitude", (1, 1, 1))
    size = graph.node(
        "Max", [size, graph.constant(np.full((1, 1, 1), TINY, np.float32), "tiny")], "rgb", (1, 1, 1)
    )
    replace_input(product, left, graph.node("Div", [left, size], "normalized_rgb", shape))
    result = product.output[0]
    small = graph.unique(f"{result}.small")
    graph.shapes[small], graph.types[small] = graph.shapes[result], FLOAT
    product.output[0] = small
    graph.nodes.append(onnx.helper.make_node("Mul", [small, size], [result], name=f"{result}.rescaled"))


def _retype(graph: GraphEditor, half: list[onnx.NodeProto]) -> None:
    """Give the nodes of ``half`` float16 tensors, with casts where float32 begins and ends."""
    chosen = {id(node) for node in half}
    computed = {name for node in half for name in node.output if graph.is_float(name)}
    narrowed: dict[str, str] = {}
    for node in half:
        for index, name in enumerate(node.input):
            if not graph.is_float(name) or name in computed:
                continue
            if name not in narrowed:
                narrowed[name] = _narrow(graph, name)
            node.input[index] = narrowed[name]
    for name in computed:
        graph.types[name] = HALF
    graph.refresh()
    for name in computed:
        outside = [
            reader
            for reader in graph.readers.get(name, [])
            if id(reader) not in chosen and not _is_cast(reader)
        ]
        if not outside and name not in graph.outputs:
            continue
        if name in graph.outputs:
            inner = graph.unique(f"{name}.half")
            graph.shapes[inner], graph.types[inner], graph.types[name] = graph.shapes[name], HALF, FLOAT
            maker = graph.maker[name]
            maker.output[list(maker.output).index(name)] = inner
            for reader in graph.readers.get(name, []):
                if id(reader) in chosen:
                    replace_input(reader, name, inner)
            graph.nodes.append(onnx.helper.make_node("Cast", [inner], [name], to=FLOAT))
            continue
        wide = graph.node("Cast", [name], f"{name}.float", graph.shapes[name], FLOAT, to=FLOAT)
        for reader in outside:
            replace_input(reader, name, wide)


def _is_cast(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "Cast")


def _narrow(graph: GraphEditor, name: str) -> str:
    """``name`` in float16: a converted constant, or a cast."""
    if name in graph.constants:
        array: Array = np.clip(graph.constants[name], -HALF_MAX, HALF_MAX).astype(np.float16)
        return graph.constant(array, f"{name}.half")
    return graph.node("Cast", [name], f"{name}.half", graph.shapes[name], HALF, to=HALF)
