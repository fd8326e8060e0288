"""Rewrite a TFLite graph as plain float32 ONNX.

Four-dimensional activations change from [N,H,W,C] to [N,C,H,W]; everything else keeps its layout.
Half-precision and sparse constants become dense float32. Every shape is fixed. One method per TFLite
operator, named after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from doppelgan.runtime.errors import CheckpointError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .tflite_reader import Model, Operator

OPSET = 18
_ACTIVATIONS = {0: None, 1: "Relu", 3: "Relu6"}


class GraphBuilder:
    """A growing ONNX graph: nodes in order, constants kept once, values known by name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def constant(self, value: NDArray[Any] | Sequence[float] | float, dtype: Any = np.float32) -> str:
        name = self.name("const")
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype)), name))
        return name

    def shape(self, *sizes: int) -> str:
        return self.constant(sizes, np.int64)

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or self.name(kind.lower())
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def input(self, name: str, shape: Sequence[int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def output(self, name: str, shape: Sequence[int]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def model(self, graph_name: str, doc: str = "") -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, graph_name, self.inputs, self.outputs, self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="doppelgan"
        )
        model.doc_string = doc
        model.ir_version = 9  # read by ONNX Runtime 1.16 and later, TensorRT 10's parser included
        onnx.checker.check_model(model, full_check=True)
        return model


class Converter:
    """Translates the operators of one TFLite model into a GraphBuilder.

    ``convert(operator)`` appends nodes. ``values`` maps a TFLite tensor index to its ONNX name,
    ``constants`` to its value in TFLite's layout.
    """

    def __init__(self, model: Model, graph: GraphBuilder) -> None:
        self.model, self.graph = model, graph
        self.values: dict[int, str] = {}
        self.constants: dict[int, NDArray[Any]] = {
            index: tensor.value for index, tensor in enumerate(model.tensors) if tensor.value is not None
        }

    def run(self, inputs: Mapping[int, str]) -> None:
        """Convert every operator, given the ONNX names of the model's inputs."""
        self.values.update(inputs)
        for operator in self.model.operators:
            self.convert(operator)

    def convert(self, operator: Operator) -> None:
        method = getattr(self, operator.kind.lower(), None)
        if method is None:
            raise CheckpointError(
                f"expected a model of known operators, got {operator.kind}; it is not supported"
            )
        result = method(operator, [i for i in operator.inputs if i >= 0])
        if result is None:
            return
        activation = operator.options.get("activation", 0)
        if activation not in _ACTIVATIONS:
            raise CheckpointError(
                f"{operator.kind}: expected activation none, relu or relu6, got code {activation}"
            )
        self.values[operator.outputs[0]] = self._activate(result, _ACTIVATIONS[activation])

    # Constants

    def dequantize(self, operator: Operator, inputs: list[int]) -> None:
        self.constants[operator.outputs[0]] = self._constant(inputs[0]).astype(np.float32)

    def densify(self, operator: Operator, inputs: list[int]) -> None:
        self.constants[operator.outputs[0]] = self._constant(inputs[0])

    # Convolutions

    def conv_2d(self, operator: Operator, inputs: list[int]) -> str:
        return self._convolve(operator, inputs, self._constant(inputs[1]).transpose(0, 3, 1, 2), groups=1)

    def depthwise_conv_2d(self, operator: Operator, inputs: list[int]) -> str:
        weight = self._constant(inputs[1]).transpose(3, 0, 1, 2)
        return self._convolve(operator, inputs, weight, groups=self._shape(inputs[0])[3])

    def _convolve(self, operator: Operator, inputs: list[int], weight: NDArray[Any], groups: int) -> str:
        options = operator.options
        strides = (options["stride_h"], options["stride_w"])
        dilations = (options["dilation_h"], options["dilation_w"])
        extent = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
        operands = [self.value(inputs[0]), self.graph.constant(weight)]
        if len(inputs) > 2:
            operands.append(self.graph.constant(self._constant(inputs[2])))
        return self.graph.op(
            "Conv",
            *operands,
            kernel_shape=list(weight.shape[2:]),
            strides=list(strides),
            dilations=list(dilations),
            group=groups,
            pads=self._padding(options, self._shape(inputs[0]), extent, strides),
        )

    def max_pool_2d(self, operator: Operator, inputs: list[int]) -> str:
        options = operator.options
        kernel, strides = (
            [options["filter_h"], options["filter_w"]],
            (options["stride_h"], options["stride_w"]),
        )
        pads = self._padding(options, self._shape(inputs[0]), kernel, strides)
        return self.graph.op(
            "MaxPool", self.value(inputs[0]), kernel_shape=kernel, strides=list(strides), pads=pads
        )

    @staticmethod
    def _padding(
        options: Mapping[str, int], shape: tuple[int, ...], kernel: Sequence[int], strides: Sequence[int]
    ) -> list[int]:
        """ONNX pads [top, left, bottom, right]. SAME keeps ceil(size / stride); the odd pixel goes after."""
        if options["padding"] == 1:
            return [0, 0, 0, 0]
        total = [
            max((-(-size // stride) - 1) * stride + k - size, 0)
            for size, k, stride in zip(shape[1:3], kernel, strides, strict=True)
        ]
        before = [t // 2 for t in total]
        return [*before, *(t - b for t, b in zip(total, before, strict=True))]

    # Element by element

    def add(self, operator: Operator, inputs: list[int]) -> str:
        return self._broadcast("Add", operator, inputs)

    def mul(self, operator: Operator, inputs: list[int]) -> str:
        return self._broadcast("Mul", operator, inputs)

    def _broadcast(self, kind: str, operator: Operator, inputs: list[int]) -> str:
        rank = len(self._shape(operator.outputs[0]))
        return self.graph.op(kind, *(self._operand(i, rank) for i in inputs))

    def _operand(self, index: int, rank: int) -> str:
        """An activation by name, or a constant laid out to broadcast against a result of that rank."""
        if index not in self.constants:
            return self.value(index)
        value = self.constants[index]
        if rank == 4:
            value = value.reshape((1,) * (4 - value.ndim) + value.shape).transpose(0, 3, 1, 2)
        return self.graph.constant(value)

    def relu(self, operator: Operator, inputs: list[int]) -> str:
        return self._activate(self.value(inputs[0]), "Relu")

    def relu6(self, operator: Operator, inputs: list[int]) -> str:
        return self._activate(self.value(inputs[0]), "Relu6")

    def prelu(self, operator: Operator, inputs: list[int]) -> str:
        # relu(x) + slope * min(x, 0) takes half of PRelu's time in ONNX Runtime and none more elsewhere.
        slope = self.graph.constant(self._constant(inputs[1]).transpose(2, 0, 1))
        value = self.value(inputs[0])
        below = self.graph.op("Mul", self.graph.op("Min", value, self.graph.constant(0.0)), slope)
        return self.graph.op("Add", self.graph.op("Relu", value), below)

    def _activate(self, value: str, activation: str | None) -> str:
        if activation is None:
            return value
        if activation == "Relu6":
            return self.graph.op("Clip", value, self.graph.constant(0.0), self.graph.constant(6.0))
        return self.graph.op(activation, value)

    # Layout

    def pad(self, operator: Operator, inputs: list[int]) -> str:
        amounts = self._constant(inputs[1]).astype(np.int64)
        if len(amounts) == 4:
            amounts = amounts[[0, 3, 1, 2]]
        return self.graph.op("Pad", self.value(inputs[0]), self.graph.constant(amounts.T.ravel(), np.int64))

    def concatenation(self, operator: Operator, inputs: list[int]) -> str:
        rank = len(self._shape(operator.outputs[0]))
        axis = operator.options["axis"] % rank
        if rank == 4:
            axis = (0, 2, 3, 1)[axis]
        return self.graph.op("Concat", *(self._operand(i, rank) for i in inputs), axis=axis)

    def reshape(self, operator: Operator, inputs: list[int]) -> str:
        shape = self._shape(operator.outputs[0])
        value = self.graph.op("Reshape", self.channels_last(inputs[0]), self.graph.shape(*shape))
        return self.graph.op("Transpose", value, perm=[0, 3, 1, 2]) if len(shape) == 4 else value

    def depth_to_space(self, operator: Operator, inputs: list[int]) -> str:
        block = operator.options["block_size"]
        return self.graph.op("DepthToSpace", self.value(inputs[0]), blocksize=block, mode="DCR")

    def resize_bilinear(self, operator: Operator, inputs: list[int]) -> str:
        mode = "asymmetric"
        if operator.options["half_pixel_centers"]:
            mode = "half_pixel"
        elif operator.options["align_corners"]:
            mode = "align_corners"
        n, h, w, c = self._shape(operator.outputs[0])
        return self.graph.op(
            "Resize",
            self.value(inputs[0]),
            "",
            "",
            self.graph.shape(n, c, h, w),
            mode="linear",
            coordinate_transformation_mode=mode,
        )

    # Access

    def value(self, index: int) -> str:
        if index not in self.values:
            raise CheckpointError(
                f"expected tensor {index} to be computed, got a constant; the graph is not supported"
            )
        return self.values[index]

    def channels_last(self, index: int) -> str:
        """The value in TFLite's own layout."""
        if len(self._shape(index)) != 4:
            return self.value(index)
        return self.graph.op("Transpose", self.value(index), perm=[0, 2, 3, 1])

    def _shape(self, index: int) -> tuple[int, ...]:
        return self.model.tensors[index].shape

    def _constant(self, index: int) -> NDArray[Any]:
        if index not in self.constants:
            raise CheckpointError(f"expected tensor {index} to be a constant; the graph is not supported")
        return self.constants[index]
