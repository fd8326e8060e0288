"""Reads a network's graph out of an ONNX file without the onnx package: nodes, constants, borders.

The format is a Protocol Buffers message (github.com/onnx/onnx, onnx.proto). Of it, this reads what an
exported network of fixed shapes consists of; functions, sub-graphs and constants kept in other files are not
read. Field numbers stand beside the code that uses them. Nothing in a file is executed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError

Array = NDArray[Any]

# TensorProto.DataType -> NumPy
_DTYPES: Final = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
# What following a graph raises whose nodes lack inputs, or whose constants or sizes do not fit.
MALFORMED: Final = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)
STANDARD: Final = ("", "ai.onnx")  # domains of the operators that the standard itself defines
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
# AttributeProto.AttributeType -> what a field that was not written holds
_EMPTY: Final[dict[int, Any]] = {1: 0.0, 2: 0, 3: "", 7: []}


@dataclass(frozen=True)
class Node:
    """One operation. ``attributes``: an int, a float, a text, a list of ints, or None for other kinds.

    Inputs left out at the end are not listed, those before others are "".
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""


@dataclass(frozen=True)
class Border:
    """An input or output; a size that is not fixed is -1."""

    name: str
    dtype: str  # NumPy's name
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed."""

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    inputs: tuple[Border, ...]
    outputs: tuple[Border, ...]
    opset: int = 0  # version of the standard's operators; 0: none is stated


def read_graph(path: Path) -> Graph:
    """Read ``path``. Raises BackendError if it cannot be read or is not such an ONNX file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackendError(f"{path}: expected a readable ONNX file; {error.strerror}") from None
    return parse_graph(data, str(path))


def parse_graph(
    data: bytes | bytearray,  # of an ONNX file; constants are views of it
    name: str,  # for errors
) -> Graph:
    """Read a graph from memory. Raises BackendError if it is not such an ONNX file."""
    try:
        opset, graphs = 0, []
        for number, value in _fields(memoryview(data)):  # ModelProto
            if number == 7:
                graphs.append(value)
            elif number == 8:  # OperatorSetIdProto: domain, version
                entry = dict(_fields(value))
                if _text(entry.get(1, b"")) in STANDARD:
                    opset = entry.get(2, 0)
        (graph,) = graphs
        return _graph(graph, opset)
    except (*MALFORMED, struct.error) as error:
        raise BackendError(
            f"{name}: expected an ONNX file, all in one; it cannot be read ({error}); export it again"
        ) from None


def with_constants(
    data: bytes,  # of an ONNX file
    constants: Mapping[str, Array],  # name of a stored constant -> new values, of its shape
    name: str = "network",  # for errors
) -> bytes:
    """The same file with other numbers in it, rounded to the types that it stores; nothing else changes.

    Raises BackendError for a constant that is not there, has another shape, or is not stored as raw bytes.
    """
    changed = bytearray(data)
    stored = parse_graph(changed, name).constants
    for key, values in constants.items():
        place = stored.get(key)
        if place is None or place.shape != values.shape:
            got = "none" if place is None else list(place.shape)
            raise BackendError(f"{name}: expected a constant {key!r} {list(values.shape)}, got {got}")
        if not np.shares_memory(place, np.frombuffer(changed, np.uint8)):
            raise BackendError(
                f"{name}: expected {key!r} to be stored as raw bytes; export the network again"
            )
        place[...] = values
    return bytes(changed)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """(field number, value) of one message; values are ints, or views of the bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(data):
            raise ValueError("it ends too early")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _ints(value: Any) -> list[int]:
    """A repeated int64 field: one number, or all of them packed."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(_signed(number))
    return numbers


def _text(value: Any) -> str:
    return str(value, "utf-8")


def _graph(data: memoryview, opset: int) -> Graph:
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    inputs: list[Border] = []
    outputs: list[Border] = []
    for number, value in _fields(data):  # GraphProto
        if number == 1:
            nodes.append(_node(value))
        elif number == 5:
            name, array = _tensor(value)
            constants[name] = array
        elif number == 11:
            inputs.append(_border(value))
        elif number == 12:
            outputs.append(_border(value))
    # Constants may be listed among the inputs as well.
    borders = tuple(border for border in inputs if border.name not in constants)
    return Graph(tuple(nodes), constants, borders, tuple(outputs), opset)


def _node(data: memoryview) -> Node:
    op, domain, inputs, outputs, attributes = "", "", [], [], {}
    for number, value in _fields(data):  # NodeProto
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            op = _text(value)
        elif number == 5:
            name, content = _attribute(value)
            attributes[name] = content
        elif number == 7:
            domain = _text(value)
    while inputs and not inputs[-1]:
        inputs.pop()
    return Node(op, tuple(inputs), tuple(outputs), attributes, domain)


def _attribute(data: memoryview) -> tuple[str, Any]:
    name, kind, content, many = "", 0, None, []
    for number, value in _fields(data):  # AttributeProto
        if number == 1:
            name = _text(value)
        elif number == 2:
            (content,) = struct.unpack("<f", value)
        elif number == 3:
            content = _signed(value)
        elif number == 4:
            content = _text(value)
        elif number == 8:
            many += _ints(value)
        elif number == 20:
            kind = value
    content = many or content
    return name, _EMPTY.get(kind) if content is None else content


def _tensor(data: memoryview) -> tuple[str, Array]:
    name, shape, kind, raw, floats, ints = "", [], 0, None, [], []
    for number, value in _fields(data):  # TensorProto
        if number == 1:
            shape += _ints(value)
        elif number == 2:
            kind = value
        elif number == 4:
            floats.append(np.frombuffer(value, "<f4"))
        elif number in (5, 7):
            ints += _ints(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = value
        elif number == 14 and value == 1:
            raise ValueError(f"the constant {name or '?'} lies in another file")
    if kind not in _DTYPES:
        return name, np.zeros(0)  # of a type that no network here computes with
    dtype = np.dtype(_DTYPES[kind])
    if raw is not None:
        return name, np.frombuffer(raw, dtype).reshape(shape)
    values: Any = np.concatenate(floats) if floats else np.array(ints)
    return name, values.astype(dtype).reshape(shape)


def _border(data: memoryview) -> Border:
    name, kind, shape = "", 0, []
    for number, value in _fields(data):  # ValueInfoProto
        if number == 1:
            name = _text(value)
        elif number == 2:
            for tensor in (v for n, v in _fields(value) if n == 1):  # TypeProto.tensor_type
                for part, content in _fields(tensor):
                    if part == 1:
                        kind = content
                    elif part == 2:  # TensorShapeProto.dim, of which dim_value
                        for dim in (v for n, v in _fields(content) if n == 1):
                            sizes = [v for n, v in _fields(dim) if n == 1]
                            shape.append(sizes[0] if sizes else -1)
    return Border(name, np.dtype(_DTYPES.get(kind, "V")).name, tuple(shape))
