"""Read a TensorFlow Lite model as data: tensors, constants and operators, without TensorFlow.

A TFLite file is a FlatBuffer. Every table starts with a signed offset back to its vtable; the vtable lists,
per field number, where in the table the field sits (0 = absent, use the default). Vectors, strings and
sub-tables are reached through unsigned relative offsets. The public schema (version 3) numbers the fields:

    Model      1 operator_codes  2 subgraphs  4 buffers
    OpCode     0 old builtin code (int8)  1 custom code  3 builtin code (int32)
    SubGraph   0 tensors  1 inputs  2 outputs  3 operators
    Tensor     0 shape  1 type  2 buffer  3 name  6 sparsity
    Operator   0 code index  1 inputs  2 outputs  4 options  5 custom options
    Buffer     0 data
    Sparsity   0 traversal order  1 block map  2 dimensions
    Dimension  0 format (0 dense, 1 CSR)  1 dense size  2/3 segments (type, table)  4/5 indices (type, table)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from doppelgan.runtime.errors import CheckpointError
from numpy.typing import NDArray

# Only the operators that the converter knows; the number is the schema's BuiltinOperator.
OPERATORS: Mapping[int, str] = {
    0: "ADD",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    5: "DEPTH_TO_SPACE",
    6: "DEQUANTIZE",
    17: "MAX_POOL_2D",
    18: "MUL",
    19: "RELU",
    21: "RELU6",
    22: "RESHAPE",
    23: "RESIZE_BILINEAR",
    32: "CUSTOM",
    34: "PAD",
    45: "STRIDED_SLICE",
    54: "PRELU",
    124: "DENSIFY",
}

# Operator -> option name -> (field number, struct format, default).
OPTIONS: Mapping[str, Mapping[str, tuple[int, str, int]]] = {
    "ADD": {"activation": (0, "b", 0)},
    "MUL": {"activation": (0, "b", 0)},
    "CONCATENATION": {"axis": (0, "i", 0), "activation": (1, "b", 0)},
    "CONV_2D": {
        "padding": (0, "b", 0),
        "stride_w": (1, "i", 0),
        "stride_h": (2, "i", 0),
        "activation": (3, "b", 0),
        "dilation_w": (4, "i", 1),
        "dilation_h": (5, "i", 1),
    },
    "DEPTHWISE_CONV_2D": {
        "padding": (0, "b", 0),
        "stride_w": (1, "i", 0),
        "stride_h": (2, "i", 0),
        "activation": (4, "b", 0),
        "dilation_w": (5, "i", 1),
        "dilation_h": (6, "i", 1),
    },
    "MAX_POOL_2D": {
        "padding": (0, "b", 0),
        "stride_w": (1, "i", 0),
        "stride_h": (2, "i", 0),
        "filter_w": (3, "i", 0),
        "filter_h": (4, "i", 0),
        "activation": (5, "b", 0),
    },
    "RESIZE_BILINEAR": {"align_corners": (2, "b", 0), "half_pixel_centers": (3, "b", 0)},
    "DEPTH_TO_SPACE": {"block_size": (0, "i", 0)},
}

DTYPES: Mapping[int, Any] = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 9: np.int8, 3: np.uint8}


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


class _Table:
    """One FlatBuffer table at a byte position."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - self._read("i", position)
        self.vtable_size = self._read("H", self.vtable)

    def _read(self, form: str, position: int) -> int:
        return int(struct.unpack_from("<" + form, self.data, position)[0])

    def _field(self, number: int) -> int | None:
        slot = 4 + 2 * number
        offset = self._read("H", self.vtable + slot) if slot < self.vtable_size else 0
        return self.position + offset if offset else None

    def scalar(self, number: int, form: str, default: int = 0) -> int:
        at = self._field(number)
        return default if at is None else self._read(form, at)

    def table(self, number: int) -> _Table | None:
        at = self._field(number)
        return None if at is None else _Table(self.data, at + self._read("I", at))

    def tables(self, number: int) -> list[_Table]:
        at = self._field(number)
        if at is None:
            return []
        start = at + self._read("I", at)
        slots = range(start + 4, start + 4 + 4 * self._read("I", start), 4)
        return [_Table(self.data, slot + self._read("I", slot)) for slot in slots]

    def array(self, number: int, dtype: Any) -> NDArray[Any]:
        at = self._field(number)
        if at is None:
            return np.zeros(0, dtype)
        start = at + self._read("I", at)
        return np.frombuffer(self.data, dtype, self._read("I", start), start + 4)

    def text(self, number: int) -> str:
        return self.array(number, np.uint8).tobytes().decode("utf-8", "replace")


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
    except (struct.error, IndexError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: the TFLite file is damaged ({error}); fetch it again") from error


def read_model_file(path: Path) -> Model:
    return read_model(path.read_bytes(), name=str(path))


def _parse(data: bytes, name: str) -> Model:
    root = _Table(data, struct.unpack_from("<I", data)[0])
    codes = [max(code.scalar(0, "b"), code.scalar(3, "i")) for code in root.tables(1)]
    buffers = [buffer.array(0, np.uint8) for buffer in root.tables(4)]
    graph = root.tables(2)[0]

    tensors = []
    for table in graph.tables(0):
        kind = table.scalar(1, "b")
        if kind not in DTYPES:
            raise CheckpointError(
                f"{name}: expected float or integer tensors, got TFLite type {kind}; not supported"
            )
        shape = tuple(int(size) for size in table.array(0, "<i4"))
        dtype = np.dtype(DTYPES[kind])
        raw = buffers[table.scalar(2, "I")]
        value = None
        if raw.size:
            flat = raw.view(dtype)
            sparsity = table.table(6)
            value = flat.reshape(shape) if sparsity is None else _densify(flat, shape, sparsity)
        tensors.append(Tensor(table.text(3), shape, dtype, value))

    operators = []
    for table in graph.tables(3):
        code = codes[table.scalar(0, "I")]
        if code not in OPERATORS:
            raise CheckpointError(
                f"{name}: TFLite operator {code} is not supported; use the files of mediapipe 0.10.21"
            )
        kind_name = OPERATORS[code]
        fields = table.table(4)
        options = {
            option: default if fields is None else fields.scalar(number, form, default)
            for option, (number, form, default) in OPTIONS.get(kind_name, {}).items()
        }
        inputs, outputs = (tuple(int(i) for i in table.array(number, "<i4")) for number in (1, 2))
        operators.append(Operator(kind_name, inputs, outputs, options))

    inputs, outputs = (tuple(int(i) for i in graph.array(number, "<i4")) for number in (1, 2))
    return Model(tuple(tensors), tuple(operators), inputs, outputs)


def _densify(values: NDArray[Any], shape: tuple[int, ...], sparsity: _Table) -> NDArray[Any]:
    """Expand a sparse constant.

    Dimensions are visited in traversal order; the first len(shape) are the tensor's (in blocks), any further
    ones run inside a block of the dimension that the block map names. A dense level counts through its size,
    a CSR level lists the occupied positions of each parent.
    """
    order = [int(i) for i in sparsity.array(0, "<i4")]
    block_map = [int(i) for i in sparsity.array(1, "<i4")]
    rank = len(shape)
    coordinates = np.zeros((1, 0), np.int64)
    block_sizes = [1] * rank
    for level, dimension in zip(order, sparsity.tables(2), strict=True):
        if dimension.scalar(0, "b") == 0:
            size = dimension.scalar(1, "i")
            parents = np.repeat(np.arange(len(coordinates)), size)
            positions = np.tile(np.arange(size), len(coordinates))
            if level >= rank:
                block_sizes[block_map[level - rank]] = size
        else:
            segments, positions = _indices(dimension, 2), _indices(dimension, 4)
            parents = np.repeat(np.arange(len(coordinates)), np.diff(segments))
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


def _indices(dimension: _Table, number: int) -> NDArray[np.int64]:
    dtype = {1: "<i4", 2: "<u2", 3: "<u1"}[dimension.scalar(number, "b")]
    holder = dimension.table(number + 1)
    return np.zeros(0, np.int64) if holder is None else holder.array(0, dtype).astype(np.int64)
