"""Read a TensorFlow Lite model as data: tensors, constants and operators, without TensorFlow.

A TFLite file is a FlatBuffer. The package ``tflite`` holds the classes generated from its public schema
(version 3); here their tables become plain values, and sparse constants dense ones.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite
from doppelgan.runtime.errors import CheckpointError
from numpy.typing import NDArray

# Only the operators that the converter knows; the names are the schema's.
OPERATORS = {
    "ADD", "CONCATENATION", "CONV_2D", "CUSTOM", "DENSIFY", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE",
    "DEQUANTIZE", "MAX_POOL_2D", "MUL", "PAD", "PRELU", "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR",
    "STRIDED_SLICE",
}  # fmt: skip

_WINDOW = {"padding": "Padding", "stride_w": "StrideW", "stride_h": "StrideH"}
_ACTIVATION = {"activation": "FusedActivationFunction"}
_DILATION = {"dilation_w": "DilationWFactor", "dilation_h": "DilationHFactor"}
# Operator -> the schema's option table, and its getter for each option.
OPTIONS: Mapping[str, tuple[Any, Mapping[str, str]]] = {
    "ADD": (tflite.AddOptions, _ACTIVATION),
    "MUL": (tflite.MulOptions, _ACTIVATION),
    "CONCATENATION": (tflite.ConcatenationOptions, {"axis": "Axis", **_ACTIVATION}),
    "CONV_2D": (tflite.Conv2DOptions, _WINDOW | _ACTIVATION | _DILATION),
    "DEPTHWISE_CONV_2D": (tflite.DepthwiseConv2DOptions, _WINDOW | _ACTIVATION | _DILATION),
    "MAX_POOL_2D": (
        tflite.Pool2DOptions,
        _WINDOW | _ACTIVATION | {"filter_w": "FilterWidth", "filter_h": "FilterHeight"},
    ),
    "RESIZE_BILINEAR": (
        tflite.ResizeBilinearOptions,
        {"align_corners": "AlignCorners", "half_pixel_centers": "HalfPixelCenters"},
    ),
    "DEPTH_TO_SPACE": (tflite.DepthToSpaceOptions, {"block_size": "BlockSize"}),
}
_LARGEST = 2**24  # numbers of a sparse constant, expanded: 64 MiB of float32
_ALL_DEFAULT = flatbuffers.table.Table(bytes((4, 0, 4, 0, 4, 0, 0, 0)), 4)  # a table without fields

DTYPES: Mapping[int, Any] = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 9: np.int8, 3: np.uint8}
_INDICES = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}  # by the schema's union
# What reading beyond a table, a vector or a union's known members raises, there and here.
_DAMAGE = (struct.error, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    value: NDArray[Any] | None  # the constant it holds, dense; None for activations


@dataclass(frozen=True, slots=True)
class Operator:
    kind: str
    inputs: tuple[int, ...]  # indices into Model.tensors, -1 for an absent optional input
    outputs: tuple[int, ...]
    options: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Model:
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_model(data: bytes, *, name: str = "model") -> Model:
    """Parse the first subgraph of a TFLite file.

    Raises CheckpointError for anything that is not a TFLite file or uses an operator outside OPERATORS.
    """
    if data[4:8] != b"TFL3":
        raise CheckpointError(
            f"{name}: expected a TensorFlow Lite file (mark TFL3), got {data[4:8]!r}; check the file"
        )
    try:
        return _parse(data, name)
    except _DAMAGE as error:
        raise CheckpointError(f"{name}: the TFLite file is damaged ({error}); fetch it again") from error


def read_model_file(path: Path) -> Model:
    return read_model(path.read_bytes(), name=str(path))


def _parse(data: bytes, name: str) -> Model:
    root = tflite.Model.GetRootAs(data)
    codes = [root.OperatorCodes(i).BuiltinCode() for i in range(root.OperatorCodesLength())]
    buffers = [_array(root.Buffers(i).DataAsNumpy()) for i in range(root.BuffersLength())]
    graph = root.Subgraphs(0)

    tensors = []
    for table in (graph.Tensors(i) for i in range(graph.TensorsLength())):
        if table.Type() not in DTYPES:
            raise CheckpointError(
                f"{name}: expected float or integer tensors, got TFLite type {table.Type()}; not supported"
            )
        shape, dtype = _integers(table.ShapeAsNumpy()), np.dtype(DTYPES[table.Type()])
        raw = buffers[table.Buffer()]
        value = None
        if raw.size:
            flat, sparsity = raw.view(dtype), table.Sparsity()
            value = flat.reshape(shape) if sparsity is None else _densify(flat, shape, sparsity)
        tensors.append(Tensor((table.Name() or b"").decode("utf-8", "replace"), shape, dtype, value))

    operators = []
    for table in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        code = codes[table.OpcodeIndex()]
        kind = tflite.BUILTIN_OPCODE2NAME.get(code)
        if kind not in OPERATORS:
            raise CheckpointError(
                f"{name}: TFLite operator {code} is not supported; use the files of mediapipe 0.10.21"
            )
        values = {}
        if kind in OPTIONS:
            options_class, getters = OPTIONS[kind]
            fields, options = table.BuiltinOptions() or _ALL_DEFAULT, options_class()
            options.Init(fields.Bytes, fields.Pos)
            values = {option: int(getattr(options, getter)()) for option, getter in getters.items()}
        operators.append(
            Operator(kind, _integers(table.InputsAsNumpy()), _integers(table.OutputsAsNumpy()), values)
        )
    ends = _integers(graph.InputsAsNumpy()), _integers(graph.OutputsAsNumpy())
    return Model(tuple(tensors), tuple(operators), *ends)


def _array(vector: Any) -> NDArray[Any]:
    """What the schema's classes answer as a vector: 0 where it is absent."""
    return vector if isinstance(vector, np.ndarray) else np.zeros(0, np.uint8)


def _integers(vector: Any) -> tuple[int, ...]:
    return tuple(_array(vector).tolist())


def _densify(values: NDArray[Any], shape: tuple[int, ...], sparsity: Any) -> NDArray[Any]:
    """Expand a sparse constant.

    Dimensions are visited in traversal order; the first len(shape) are the tensor's (in blocks), any further
    ones run inside a block of the dimension that the block map names. A dense level counts through its size,
    a CSR level lists the occupied positions of each parent.
    """
    order, block_map = _integers(sparsity.TraversalOrderAsNumpy()), _integers(sparsity.BlockMapAsNumpy())
    dimensions = [sparsity.DimMetadata(i) for i in range(sparsity.DimMetadataLength())]
    rank, total = len(shape), math.prod(shape)
    if not 0 < total <= _LARGEST:
        raise ValueError(f"a sparse constant of shape {shape}")
    coordinates = np.zeros((1, 0), np.int64)
    block_sizes = [1] * rank
    for level, dimension in zip(order, dimensions, strict=True):
        if dimension.Format() == tflite.DimensionType.DENSE:
            size = dimension.DenseSize()
            if size * len(coordinates) > total:
                raise ValueError(f"more than {total} entries in a sparse constant of shape {shape}")
            parents = np.repeat(np.arange(len(coordinates)), size)
            positions = np.tile(np.arange(size), len(coordinates))
            if level >= rank:
                block_sizes[block_map[level - rank]] = size
        else:
            segments = _indices(dimension.ArraySegmentsType(), dimension.ArraySegments())
            positions = _indices(dimension.ArrayIndicesType(), dimension.ArrayIndices())
            counts = np.diff(segments)
            if counts.sum() != len(positions):
                raise ValueError(
                    f"{len(positions)} positions for {counts.sum()} entries of a sparse constant"
                )
            parents = np.repeat(np.arange(len(coordinates)), counts)
        coordinates = np.concatenate([coordinates[parents], positions[:, None]], axis=1)

    index = np.zeros((rank, len(coordinates)), np.int64)
    for column, level in enumerate(order):
        if level < rank:
            index[level] += coordinates[:, column] * block_sizes[level]
        else:
            index[block_map[level - rank]] += coordinates[:, column]
    dense = np.zeros(shape, values.dtype)
    dense[tuple(index)] = values[: index.shape[1]]
    return dense


def _indices(kind: int, holder: Any) -> NDArray[np.int64]:
    vector = _INDICES[kind]()
    vector.Init(holder.Bytes, holder.Pos)
    return _array(vector.ValuesAsNumpy()).astype(np.int64)
