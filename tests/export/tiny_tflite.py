"""Write kilobyte-sized TFLite files for tests, field by field as the public schema numbers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

TYPES = {"float32": 0, "float16": 1, "int32": 2}
CODES = {
    "ADD": 0, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "DEPTH_TO_SPACE": 5, "DEQUANTIZE": 6,
    "MAX_POOL_2D": 17, "MUL": 18, "RELU": 19, "RELU6": 21, "RESHAPE": 22, "RESIZE_BILINEAR": 23, "PAD": 34,
    "PRELU": 54, "DENSIFY": 124, "SOFTMAX": 25,
}  # fmt: skip
# Operator -> (number of its option table in the schema's union, field number and type of each option).
OPTION_TABLES: Mapping[str, tuple[int, Mapping[str, tuple[int, str]]]] = {
    "CONV_2D": (1, {"padding": (0, "b"), "stride_w": (1, "i"), "stride_h": (2, "i"), "activation": (3, "b"),
                    "dilation_w": (4, "i"), "dilation_h": (5, "i")}),
    "DEPTHWISE_CONV_2D": (2, {"padding": (0, "b"), "stride_w": (1, "i"), "stride_h": (2, "i"),
                              "multiplier": (3, "i"), "activation": (4, "b"), "dilation_w": (5, "i"),
                              "dilation_h": (6, "i")}),
    "MAX_POOL_2D": (5, {"padding": (0, "b"), "stride_w": (1, "i"), "stride_h": (2, "i"), "filter_w": (3, "i"),
                        "filter_h": (4, "i"), "activation": (5, "b")}),
    "CONCATENATION": (10, {"axis": (0, "i"), "activation": (1, "b")}),
    "ADD": (11, {"activation": (0, "b")}),
    "RESIZE_BILINEAR": (15, {"align_corners": (2, "b"), "half_pixel_centers": (3, "b")}),
    "RESHAPE": (17, {}),
    "MUL": (21, {"activation": (0, "b")}),
    "PAD": (22, {}),
    "DEQUANTIZE": (38, {}),
    "PRELU": (0, {}),
    "DEPTH_TO_SPACE": (94, {"block_size": (0, "i")}),
    "DENSIFY": (99, {}),
}  # fmt: skip


@dataclass
class Sparse:
    """A constant stored sparsely: per dimension, in traversal order, its size or CSR (segments, indices)."""

    shape: Sequence[int]
    values: NDArray[Any]
    traversal: Sequence[int]
    block_map: Sequence[int]
    dimensions: Sequence[int | tuple[Sequence[int], Sequence[int]]]


@dataclass
class TinyModel:
    """Tensors and operators in order; ``bytes()`` is the file."""

    tensors: list[tuple[Sequence[int], str, Any]] = field(default_factory=list)
    operators: list[tuple[str, list[int], list[int], Mapping[str, int]]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def input(self, *shape: int) -> int:
        self.inputs.append(self._tensor(shape, "float32", None))
        return self.inputs[-1]

    def constant(self, value: Any, dtype: str = "float32") -> int:
        value = np.asarray(value, dtype)
        return self._tensor(value.shape, dtype, value)

    def sparse(self, value: Sparse) -> int:
        return self._tensor(value.shape, str(value.values.dtype), value)

    def op(self, kind: str, *inputs: int, shape: Sequence[int], output: bool = False, **options: int) -> int:
        result = self._tensor(shape, "float32", None)
        self.operators.append((kind, list(inputs), [result], options))
        if output:
            self.outputs.append(result)
        return result

    def _tensor(self, shape: Sequence[int], dtype: str, value: Any) -> int:
        self.tensors.append((shape, dtype, value))
        return len(self.tensors) - 1

    def bytes(self) -> bytes:
        b = flatbuffers.Builder(1024)
        kinds = list(dict.fromkeys(kind for kind, *_ in self.operators))
        codes = [_table(b, 4, {0: ("b", CODES[kind]), 2: ("i", 1), 3: ("i", CODES[kind])}) for kind in kinds]
        buffers = [_table(b, 1, {})]
        tensors = []
        for index, (shape, dtype, value) in enumerate(self.tensors):
            fields: dict[int, tuple[str, int]] = {1: ("b", TYPES[dtype])}
            if value is not None:
                raw = value.values if isinstance(value, Sparse) else value
                fields[2] = ("I", len(buffers))
                data = b.CreateByteVector(raw.tobytes())
                buffers.append(_table(b, 1, {0: ("o", data)}))
            if isinstance(value, Sparse):
                fields[6] = ("o", _sparsity(b, value))
            name = b.CreateString(f"tensor_{index}")
            tensors.append(_table(b, 7, {0: ("o", _ints(b, shape)), 3: ("o", name), **fields}))
        operators = []
        for kind, inputs, outputs, options in self.operators:
            union, numbers = OPTION_TABLES.get(kind, (0, {}))
            fields = {0: ("I", kinds.index(kind)), 1: ("o", _ints(b, inputs)), 2: ("o", _ints(b, outputs))}
            if union:
                values = {numbers[name][0]: (numbers[name][1], value) for name, value in options.items()}
                fields |= {3: ("b", union), 4: ("o", _table(b, 8, values))}
            operators.append(_table(b, 5, fields))
        graph = _table(
            b,
            4,
            {
                0: ("o", _tables(b, tensors)),
                1: ("o", _ints(b, self.inputs)),
                2: ("o", _ints(b, self.outputs)),
                3: ("o", _tables(b, operators)),
            },
        )
        root = _table(
            b,
            5,
            {
                0: ("I", 3),
                1: ("o", _tables(b, codes)),
                2: ("o", _tables(b, [graph])),
                4: ("o", _tables(b, buffers)),
            },
        )
        b.Finish(root, file_identifier=b"TFL3")
        return bytes(b.Output())


def _table(b: flatbuffers.Builder, size: int, fields: Mapping[int, tuple[str, int]]) -> int:
    b.StartObject(size)
    for number, (kind, value) in fields.items():
        adders: dict[str, Callable[[int, int, int], None]] = {
            "b": b.PrependInt8Slot,
            "i": b.PrependInt32Slot,
            "I": b.PrependUint32Slot,
            "o": b.PrependUOffsetTRelativeSlot,
        }
        adders[kind](number, value, 0)
    return int(b.EndObject())


def _ints(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    return int(b.CreateNumpyVector(np.asarray(values, np.int32)))


def _tables(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _sparsity(b: flatbuffers.Builder, value: Sparse) -> int:
    dimensions = []
    for dimension in value.dimensions:
        if isinstance(dimension, int):
            dimensions.append(_table(b, 6, {1: ("i", dimension)}))
            continue
        segments, indices = dimension
        first = _table(b, 1, {0: ("o", _ints(b, segments))})  # Int32Vector
        second = _table(b, 1, {0: ("o", int(b.CreateByteVector(bytes(indices))))})  # Uint8Vector
        dimensions.append(
            _table(b, 6, {0: ("b", 1), 2: ("b", 1), 3: ("o", first), 4: ("b", 3), 5: ("o", second)})
        )
    order, blocks = _ints(b, value.traversal), _ints(b, value.block_map)
    return _table(b, 3, {0: ("o", order), 1: ("o", blocks), 2: ("o", _tables(b, dimensions))})
