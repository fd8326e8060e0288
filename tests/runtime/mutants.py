"""Every way to change one thing in an ONNX graph: attributes, edges, constants, operators.

Used to ask of whoever takes graphs apart: is what it accepts still what ONNX Runtime computes?
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

TEXTS = {
    "auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
    "mode": ("linear", "nearest", "cubic"),
    "coordinate_transformation_mode": ("align_corners", "half_pixel", "asymmetric", "pytorch_half_pixel"),
    "nearest_mode": ("floor", "ceil", "round_prefer_ceil"),
    "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
}
OTHER_OPS = {
    "Add": ("Mul", "Sub", "Max"),
    "Mul": ("Add", "Div"),
    "Sqrt": ("Exp", "Abs"),
    "Reciprocal": ("Neg", "Sqrt"),
    "Relu": ("Sigmoid", "Tanh"),
    "Sigmoid": ("Relu", "Tanh"),
    "LeakyRelu": ("Elu",),
    "GlobalAveragePool": ("GlobalMaxPool",),
    "ReduceMean": ("ReduceMax", "ReduceSum"),
    "MaxPool": ("AveragePool",),
}
ACTIVATIONS = ("Neg", "Abs")  # put behind a result

Mutant = tuple[str, onnx.ModelProto]  # what was changed; the model is changed back when the next is asked for


def mutants(model: onnx.ModelProto, nodes: set[int] | None = None) -> Iterator[Mutant]:
    """All of them; ``nodes``: only in nodes of these numbers and in their constants."""
    shapes = _shapes(model)
    for number, node in enumerate(model.graph.node):
        if nodes is not None and number not in nodes:
            continue
        label = f"{number} {node.op_type} {node.output[0]}"
        kept = node.SerializeToString()
        for change in (*_attributes(node), *_edges(model, number, shapes), *_operators(node)):
            what = change(node)
            yield f"{label}: {what}", model
            node.ParseFromString(kept)
        for change in (_bias, _behind):
            yield from change(model, node, label, shapes)
    used = {
        name for k, node in enumerate(model.graph.node) if nodes is None or k in nodes for name in node.input
    }
    for tensor in model.graph.initializer:
        if tensor.name not in used:
            continue
        kept = tensor.SerializeToString()
        for what, array in _constants(numpy_helper.to_array(tensor)):
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            yield f"constant {tensor.name}: {what}", model
            tensor.ParseFromString(kept)


def new_kinds(model: onnx.ModelProto, known: set[str]) -> set[int]:
    """The first node of every kind (operator, attributes, inputs) that ``known`` lacks, and then has."""
    constants = {tensor.name for tensor in model.graph.initializer}
    numbers = set()
    for number, node in enumerate(model.graph.node):
        inputs = "".join("c" if name in constants else "x" if name else "-" for name in node.input)
        attributes = sorted(str(one) for one in node.attribute if one.name != "group")
        kind = f"{node.op_type} {inputs} {attributes}"
        if kind not in known:
            known.add(kind)
            numbers.add(number)
    return numbers


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in (*graph.value_info, *graph.input, *graph.output)
    }
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


# Each change is a function that changes a node and says how.


def _attributes(node: onnx.NodeProto) -> Iterator:
    schema = defs.get_schema(node.op_type, 18)
    present = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    for name, attribute in schema.attributes.items():
        default = (
            helper.get_attribute_value(attribute.default_value) if attribute.default_value.name else None
        )

        def remove(node: onnx.NodeProto, name: str = name) -> str:
            kept = [one for one in node.attribute if one.name != name]
            del node.attribute[:]
            node.attribute.extend(kept)
            return f"without {name}"

        if name in present:
            yield remove
        for value in _values(name, attribute.type, present.get(name, default)):

            def put(node: onnx.NodeProto, name: str = name, value: object = value) -> str:
                remove(node, name)
                node.attribute.append(helper.make_attribute(name, value))
                return f"{name} {value}"

            yield put


def _values(name: str, kind: object, now: object) -> Iterator[object]:
    if kind == defs.OpSchema.AttrType.INT:
        yield from {0, 1, 2, 3, -1} - {now}
    elif kind == defs.OpSchema.AttrType.FLOAT:
        yield from {0.0, 1.0, 0.7, -0.3} - {now}
    elif kind == defs.OpSchema.AttrType.STRING:
        text = now.decode() if isinstance(now, bytes) else now
        yield from (one for one in TEXTS[name] if one != text)
    elif kind == defs.OpSchema.AttrType.INTS:
        numbers = list(now) if now else [1] * (4 if name == "pads" else 2)
        if not now:
            yield numbers
        for k in range(len(numbers)):
            yield from ([*numbers[:k], numbers[k] + step, *numbers[k + 1 :]] for step in (-1, 1))
        yield [number + 1 for number in numbers]
        yield numbers[:-1] or [7]


def _edges(model: onnx.ModelProto, number: int, shapes: dict[str, tuple[int, ...]]) -> Iterator:
    node, before = model.graph.node[number], model.graph.node[:number]
    computed = [name for one in before for name in one.output][::-1] + [one.name for one in model.graph.input]
    constants = [tensor.name for tensor in model.graph.initializer]
    for k, name in enumerate(node.input):
        others = [one for one in computed + constants if one != name and shapes.get(one) == shapes.get(name)]
        for other in dict.fromkeys([*others[:3], *others[-2:], *computed[:1]]):

            def rewire(node: onnx.NodeProto, k: int = k, other: str = other) -> str:
                node.input[k] = other
                return f"input {k} from {other}"

            yield rewire

        def leave_out(node: onnx.NodeProto, k: int = k) -> str:
            node.input[k] = ""
            return f"without input {k}"

        yield leave_out

    def swap(node: onnx.NodeProto) -> str:
        node.input[0], node.input[1] = node.input[1], node.input[0]
        return "first two inputs swapped"

    def shorten(node: onnx.NodeProto) -> str:
        del node.input[-1]
        return "without the last input"

    def turn_outputs(node: onnx.NodeProto) -> str:
        outputs = list(node.output)[::-1]
        node.output[:] = outputs
        return "outputs turned round"

    if len(node.input) > 1:
        yield from (swap, shorten)
    if len(node.output) > 1:
        yield turn_outputs


def _operators(node: onnx.NodeProto) -> Iterator:
    for other in OTHER_OPS.get(node.op_type, ()):

        def replace(node: onnx.NodeProto, other: str = other) -> str:
            node.op_type = other
            allowed = defs.get_schema(other, 18).attributes
            kept = [one for one in node.attribute if one.name in allowed]
            del node.attribute[:]
            node.attribute.extend(kept)
            return f"now {other}"

        yield replace


def _bias(
    model: onnx.ModelProto, node: onnx.NodeProto, label: str, shapes: dict[str, tuple[int, ...]]
) -> Iterator[Mutant]:
    """Convolutions without a bias get one."""
    if node.op_type not in ("Conv", "ConvTranspose") or len(node.input) != 2:
        return
    channels = shapes[node.output[0]][1]
    bias = np.random.default_rng(0).normal(size=channels).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "a_new_bias"))
    node.input.append("a_new_bias")
    yield f"{label}: with a bias", model
    del node.input[-1]
    del model.graph.initializer[-1]


def _behind(
    model: onnx.ModelProto, node: onnx.NodeProto, label: str, shapes: dict[str, tuple[int, ...]]
) -> Iterator[Mutant]:
    """Something more is done with a result."""
    for op in ACTIVATIONS:
        place = list(model.graph.node).index(node)
        name = node.output[0]
        node.output[0] = "before"
        model.graph.node.insert(place + 1, helper.make_node(op, ["before"], [name]))
        yield f"{label}: {op} behind it", model
        del model.graph.node[place + 1]
        node.output[0] = name


def _constants(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if array.dtype.kind == "i":
        for k in range(array.size):
            for step in (-1, 1):
                changed = array.copy().reshape(-1)
                changed[k] += step
                yield f"number {k} is {changed[k]}", changed.reshape(array.shape)
        if array.ndim == 1 and array.size > 1:
            yield "turned round", array[::-1].copy()
        if array.ndim == 0:
            yield "a list of one", array.reshape(1)
        return
    if array.size:
        changed = array.copy().reshape(-1)
        changed[array.size // 2] = 1.5 * changed[array.size // 2] + 0.3
        yield "another value", changed.reshape(array.shape)
    yield "ten times", 10 * array
    for axis in range(1, array.ndim):
        yield f"axes 0 and {axis} exchanged", np.ascontiguousarray(array.swapaxes(0, axis))
    if array.ndim > 2:
        yield "last axes exchanged", np.ascontiguousarray(array.swapaxes(-1, -2))
        yield "axes 1 and 3 exchanged", np.ascontiguousarray(array.swapaxes(1, -1))
    yield "an axis more", array[None]
    if array.ndim and array.shape[0] == 1:
        yield "an axis less", array[0]
    if array.ndim and array.shape[0] > 1:
        yield "only the first", array[:1].copy()
    yield "one value for all", array.reshape(-1)[:1].copy()
