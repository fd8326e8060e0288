"""The same network for another batch size, or stopped at a lower resolution: edits of its ONNX file."""

from __future__ import annotations

import numpy as np
import onnx
from doppelgan.export.onnx_files.graph_edit import GraphEditor, attribute
from onnx import TensorProto, helper


def batched(
    data: bytes,  # of a network for one sample, with axis 0 as the batch
    n: int,
) -> bytes:
    """The network for ``n`` samples at once. Compare the results: a graph may mix samples in other ways."""
    graph = GraphEditor(data)
    for value in [*graph.model.graph.input, *graph.model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = n
    for node in graph.nodes:
        at = {"Reshape": 1, "Resize": 3}.get(node.op_type)  # the input that names the result's shape
        if at is None or len(node.input) <= at or node.input[0] in graph.constants:
            continue
        shape = graph.constants[node.input[at]].copy()
        if shape[0] == 1:
            shape[0] = n
            node.input[at] = graph.constant(shape, "shape")
    return graph.data()


def stopped_at(
    data: bytes,  # of a StyleGAN2 synthesis network: codes -> image
    side: int,  # px
) -> bytes:
    """The network up to the RGB sum of ``side`` px: each resolution has one, made by upsampling the last."""
    model = onnx.load_model_from_string(data)
    graph = GraphEditor(data)
    (output,) = model.graph.output
    if graph.shapes[output.name][-1] == side:
        return data
    wanted = (1, 3, side, side)
    sums = [
        node.input[0]
        for node in graph.nodes
        if node.op_type == "ConvTranspose"
        and attribute(node, "group", 1) == 3
        and graph.shapes.get(node.input[0]) == wanted
    ]
    if len(sums) != 1:
        raise ValueError(f"expected one upsampled RGB sum of {side} px, found {len(sums)}")
    for node in model.graph.node:
        if output.name in node.output:
            node.output[list(node.output).index(output.name)] = f"{output.name}.full"
    model.graph.node.append(helper.make_node("Identity", sums, [output.name], name="stop"))
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, wanted))
    return GraphEditor(model.SerializeToString()).data()


def sides(data: bytes) -> list[int]:
    """Resolutions at which a synthesis network can stop, rising; the last is its own."""
    graph = GraphEditor(data)
    doubled = {
        graph.shapes[node.input[0]][-1]
        for node in graph.nodes
        if node.op_type == "ConvTranspose" and attribute(node, "group", 1) == 3
    }
    return sorted({int(side) for side in doubled} | {int(np.asarray(graph.shapes[graph.outputs[0]])[-1])})
