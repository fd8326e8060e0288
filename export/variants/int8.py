"""float32 -> int8 networks: QuantizeLinear / DequantizeLinear around the dense convolutions.

Activations get one scale per tensor, weights one per output channel. The scale of an activation covers the
whole range seen in calibration: cutting outliers, even where it makes the squared error of the tensor
smaller, costs 1 to 4 dB in a generator's picture, because what is cut are whole channels of some styles.

Convolutions that a style modulates are equalized first, at no cost: the style vector is multiplied by a
constant per channel and the weights are divided by it, so that channels of different magnitude share one
scale. (The idea of SmoothQuant, Xiao et al. 2023; here the multiplication is there anyway.)

Filters, to-RGB products, linear layers and everything on vectors stay float32: they are a few percent of
the work. Single convolutions can be left in float32 too (``keep``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from ..onnx_files.graph_edit import (
    Array,
    GraphEditor,
    is_dense_convolution,
    modulated_convolutions,
    replace_input,
)

Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Scale:
    """``real = scale * (stored - zero)``, stored in 0..255."""

    scale: float
    zero: int


def layers(data: bytes) -> tuple[str, ...]:
    """Outputs of the convolutions that can be quantized, in order; these names identify them."""
    graph = GraphEditor(data)
    return tuple(node.output[0] for node in graph.nodes if is_dense_convolution(graph, node))


def equalize(data: bytes, samples: Sequence[Feeds]) -> bytes:
    """The same float32 function with the channels of modulated convolutions at similar magnitude."""
    graph = GraphEditor(data)
    modulated = modulated_convolutions(graph)
    if not modulated:
        return data
    peaks = _channel_peaks(data, [layer.conv.input[0] for layer in modulated], samples)
    for layer in modulated:
        weight = graph.constants[layer.weight]
        inputs = 1 - layer.out_axis
        column = np.abs(weight).max(axis=tuple(axis for axis in range(4) if axis != inputs))
        peak = peaks[layer.conv.input[0]]
        # Channels that never fire keep their scale.
        factor = np.where(
            (peak > 0) & (column > 0), np.sqrt(np.maximum(column, 1e-12) / np.maximum(peak, 1e-12)), 1
        )
        factor = (factor / np.exp(np.log(factor).mean())).astype(np.float32)
        shape = [1, 1, 1, 1]
        shape[inputs] = -1
        layer.conv.input[1] = graph.constant(weight / factor.reshape(shape), "equalized_weight")
        constant = graph.constant(factor.reshape(1, -1, 1, 1), "equalizer")
        style = graph.node("Mul", [layer.style, constant], "equalized_style", graph.shapes[layer.style])
        replace_input(layer.scale, layer.style, style)
    return graph.data()


def calibrate(data: bytes, samples: Sequence[Feeds]) -> dict[str, Scale]:
    """Scale of every tensor that a dense convolution reads; zero is always one of the levels."""
    graph = GraphEditor(data)
    names = sorted({node.input[0] for node in graph.nodes if is_dense_convolution(graph, node)})
    names = [name for name in names if name not in graph.constants]
    session = _observe(data, names)
    low = dict.fromkeys(names, 0.0)
    high = dict.fromkeys(names, 0.0)
    for feeds in samples:
        for name, value in zip(names, session.run(names, dict(feeds)), strict=True):
            low[name] = min(low[name], float(value.min()))
            high[name] = max(high[name], float(value.max()))
    return {name: _scale(low[name], high[name]) for name in names}


def to_int8(
    data: bytes,  # float32 ONNX, equalized or not
    scales: Mapping[str, Scale],  # of calibrate(data, ...)
    *,
    keep: Collection[str] = (),  # convolutions (as in ``layers``) that stay float32
    weight_bits: int = 8,  # 7 for CPUs whose int8 products saturate in 16 bits (x86 without VNNI)
    symmetric: bool = False,  # signed activations with zero at 0, as TensorRT wants them
) -> bytes:
    """The network with Q/DQ nodes; inputs and outputs keep their types."""
    graph = GraphEditor(data)
    dequantized: dict[str, str] = {}
    for node in list(graph.nodes):
        if not is_dense_convolution(graph, node) or node.output[0] in keep or node.input[0] not in scales:
            continue
        name = node.input[0]
        if name not in dequantized:
            dequantized[name] = _quantize_activation(graph, name, scales[name], symmetric)
        node.input[0] = dequantized[name]
        node.input[1] = _quantize_weight(graph, node, weight_bits)
    return graph.data()


def _quantize_activation(graph: GraphEditor, name: str, scale: Scale, symmetric: bool) -> str:
    step, zero, kind = scale.scale, np.array(scale.zero, np.uint8), onnx.TensorProto.UINT8
    if symmetric:
        step = scale.scale * max(255 - scale.zero, scale.zero) / 127
        zero, kind = np.array(0, np.int8), onnx.TensorProto.INT8
    operands = [graph.constant(np.array(step, np.float32), "scale"), graph.constant(zero, "zero")]
    shape = graph.shapes[name]
    stored = graph.node("QuantizeLinear", [name, *operands], f"{name}.stored", shape, kind)
    return graph.node("DequantizeLinear", [stored, *operands], f"{name}.restored", shape)


def _quantize_weight(graph: GraphEditor, node: onnx.NodeProto, bits: int) -> str:
    weight = graph.constants[node.input[1]]
    axis = 1 if node.op_type == "ConvTranspose" else 0
    limit = 2 ** (bits - 1) - 1
    peak = np.abs(weight).max(axis=tuple(a for a in range(4) if a != axis), keepdims=True)
    step = (np.maximum(peak, 1e-12) / limit).astype(np.float32)
    stored = np.clip(np.rint(weight / step), -limit, limit).astype(np.int8)
    operands = [
        graph.constant(stored, f"{node.input[1]}.stored"),
        graph.constant(step.reshape(-1), "scale"),
        graph.constant(np.zeros(step.size, np.int8), "zero"),
    ]
    return graph.node("DequantizeLinear", operands, f"{node.input[1]}.restored", weight.shape, axis=axis)


def _scale(low: float, high: float) -> Scale:
    if high <= low:
        return Scale(1.0, 0)
    step = (high - low) / 255
    return Scale(step, round(-low / step))


def _channel_peaks(data: bytes, names: Sequence[str], samples: Sequence[Feeds]) -> dict[str, Array]:
    session = _observe(data, names)
    peaks: dict[str, Array] = {}
    for feeds in samples:
        for name, value in zip(names, session.run(list(names), dict(feeds)), strict=True):
            peak = np.maximum(np.abs(value.min(axis=(0, 2, 3))), np.abs(value.max(axis=(0, 2, 3))))
            peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
    return peaks


def _observe(data: bytes, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session that gives the tensors ``names`` as outputs."""
    model = onnx.load_model_from_string(data)
    there = {value.name for value in model.graph.output}
    for name in names:
        if name not in there:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
