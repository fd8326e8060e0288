"""Read the tensors of a ``torch.save`` file without torch, and without running anything in it.

A file is a pickle plus raw storages. The pickle is read by a stack machine of ours that knows some forty
opcodes and a closed list of names; a name is text to it, never something that is imported. Two layouts:

zip       (torch 1.6 and later) ``*/data.pkl`` and one uncompressed member ``*/data/KEY`` per storage
legacy    five pickles in a row (magic number, version, machine, the object, storage keys), then for each
          key the number of elements (int64) and the elements

A tensor is (storage, offset, sizes, strides); a device such as ``cuda:0`` is ignored. What comes back is
made of dict, list, tuple, str, numbers, None and NumPy arrays.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EditError

MAX_PICKLE_BYTES = 8 << 20
MAX_ELEMENTS = 1 << 27  # of one tensor
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_STORAGE_MODULES = ("torch", "torch.cuda")
_CALLS = {
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("collections", "OrderedDict"),
    ("torch", "Size"),
}


class _Refused(Exception):
    """The file is damaged or holds something that is not data; the text says what."""


@dataclass(frozen=True)
class _Name:
    """A global that a pickle names."""

    module: str
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    elements: int


@dataclass(frozen=True)
class _View:
    """A tensor before its numbers are known."""

    storage: _Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: Path) -> Any:
    """The saved object with NumPy arrays in place of tensors.

    Raises EditError if the file is damaged or holds anything but tensors and plain containers.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        return _read_legacy(path.read_bytes())
    except _Refused as refused:
        reason = str(refused)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        reason = f"it is damaged ({error})"
    # What pickletools and a stack machine on wrong input raise.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        reason = f"its pickle is damaged ({type(error).__name__}: {error})".splitlines()[0]
    raise EditError(
        f"{path.name}: expected tensors saved by torch.save, but {reason}; "
        "download it again, or save the tensor alone with torch.save or np.save"
    )


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Refused(f"it is a zip with {len(pickles)} data.pkl inside")
        folder = pickles[0][: -len("data.pkl")]

        def member(name: str) -> bytes:
            info = members.get(folder + name)
            if info is None:
                raise _Refused(f"its member {name} is missing")
            if info.compress_type != zipfile.ZIP_STORED:
                raise _Refused(f"its member {name} is compressed, which torch never does")
            return archive.read(info)

        big = folder + "byteorder" in members and member("byteorder").strip() == b"big"
        value = _Machine(member("data.pkl")).run()
        return _resolve(value, lambda storage: member(f"data/{storage.key}"), big)


def _read_legacy(data: bytes) -> Any:
    stream = io.BytesIO(data)
    try:
        magic = _Machine(stream).run()
    except (_Refused, ValueError, IndexError, KeyError, TypeError):
        magic = None
    if magic != _LEGACY_MAGIC:
        raise _Refused("it is neither the zip nor the older stream that torch.save writes")
    _Machine(stream).run()
    machine = _Machine(stream).run()
    big = isinstance(machine, dict) and machine.get("little_endian") is False
    value = _Machine(stream).run()
    keys = _Machine(stream).run()
    found: dict[str, _Storage] = {}
    _visit(value, lambda view: found.setdefault(view.storage.key, view.storage))
    raw: dict[str, bytes] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = found.get(str(key))
        if storage is None:
            raise _Refused(f"storage {key!r} belongs to no tensor")
        (elements,) = struct.unpack(">q" if big else "<q", stream.read(8).ljust(8, b"\0"))
        if elements != storage.elements:
            raise _Refused(f"storage {key!r} has {elements} elements instead of {storage.elements}")
        raw[str(key)] = stream.read(elements * _item_bytes(storage.dtype))
    return _resolve(value, lambda storage: raw.get(storage.key, b""), big)


class _Machine:
    """Runs one pickle on a stack; what it cannot name it refuses."""

    def __init__(self, data: bytes | io.BytesIO) -> None:
        if isinstance(data, bytes):
            if len(data) > MAX_PICKLE_BYTES:
                raise _Refused(f"its pickle has {len(data)} bytes, more than {MAX_PICKLE_BYTES}")
            data = io.BytesIO(data)
        self._data = data
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self._data):
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name in _PUSH_ARGUMENT:
                self._stack.append(argument)
            elif opcode.name in _PUSH_CONSTANT:
                self._stack.append(_PUSH_CONSTANT[opcode.name])
            else:
                step = getattr(self, f"_{opcode.name.lower()}", None)
                if step is None:
                    raise _Refused(f"it holds objects that are not tensors (pickle opcode {opcode.name})")
                step(argument)
        raise _Refused("its pickle has no end")

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _proto(self, version: int) -> None:
        if version > 5:
            raise _Refused(f"its pickle has version {version}")

    def _frame(self, _size: int) -> None: ...

    def _mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _pop(self, _: None) -> None:
        self._stack.pop()

    def _tuple(self, _: None) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple1(self, _: None) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _tuple2(self, _: None) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _tuple3(self, _: None) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def _empty_list(self, _: None) -> None:
        self._stack.append([])

    def _empty_dict(self, _: None) -> None:
        self._stack.append({})

    def _append(self, _: None) -> None:
        item = self._stack.pop()
        self._list().append(item)

    def _appends(self, _: None) -> None:
        items = self._since_mark()
        self._list().extend(items)

    def _setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._dict()[key] = value

    def _setitems(self, _: None) -> None:
        items = self._since_mark()
        self._dict().update(zip(items[::2], items[1::2], strict=True))

    def _list(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise _Refused("its pickle appends to what is no list")
        return self._stack[-1]

    def _dict(self) -> dict[Any, Any]:
        if not isinstance(self._stack[-1], dict):
            raise _Refused("its pickle stores into what is no dict")
        return self._stack[-1]

    def _binput(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _long_binput = _binput

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _binget(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _long_binget = _binget

    def _global(self, names: str) -> None:
        self._push_name(*names.split(" ", 1))

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        if (module, name) not in _CALLS and not (module in _STORAGE_MODULES and name in _STORAGES):
            raise _Refused(f"it names {module}.{name}, which is no plain tensor data; nothing was run")
        self._stack.append(_Name(module, name))

    def _binpersid(self, _: None) -> None:
        kind, name, key, _device, elements = tuple(self._stack.pop())[:5]
        if kind != "storage" or not isinstance(name, _Name) or name.name not in _STORAGES:
            raise _Refused("it refers to something outside that is no tensor storage")
        if not isinstance(elements, int) or elements < 0:
            raise _Refused("a storage has no valid length")
        self._stack.append(_Storage(str(key), _STORAGES[name.name], elements))

    def _reduce(self, _: None) -> None:
        arguments, call = self._stack.pop(), self._stack.pop()
        if not isinstance(call, _Name) or (call.module, call.name) not in _CALLS:
            raise _Refused("its pickle calls what is no function")
        if call.name == "OrderedDict":
            self._stack.append(dict(*arguments))
        elif call.name == "Size":
            self._stack.append(tuple(*arguments))
        elif call.name == "_rebuild_parameter":
            self._stack.append(arguments[0])
        else:
            storage, offset, sizes, strides = arguments[:4]
            self._stack.append(_check_view(_View(storage, offset, tuple(sizes), tuple(strides))))

    def _build(self, _: None) -> None:
        # An OrderedDict that was a state_dict carries a _metadata attribute; tensors carry theirs likewise.
        self._stack.pop()
        if not isinstance(self._stack[-1], dict | _View):
            raise _Refused("its pickle sets attributes of what is no container")


_PUSH_ARGUMENT = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES"),
}
_PUSH_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _check_view(view: _View) -> _View:
    numbers = (view.offset, *view.sizes, *view.strides)
    if not isinstance(view.storage, _Storage) or len(view.sizes) != len(view.strides):
        raise _Refused("a tensor has no valid storage or shape")
    if any(type(number) is not int or number < 0 for number in numbers) or len(view.sizes) > 16:
        raise _Refused("a tensor has no valid shape")
    elements, last = 1, view.offset
    for size, stride in zip(view.sizes, view.strides, strict=True):
        elements *= size
        last += (size - 1) * stride
    if elements > MAX_ELEMENTS:
        raise _Refused(f"a tensor {list(view.sizes)} is larger than any code or direction")
    if elements and last >= view.storage.elements:
        raise _Refused(f"a tensor {list(view.sizes)} reaches beyond its {view.storage.elements} numbers")
    return view


def _visit(value: Any, see: Callable[[_View], Any], depth: int = 0) -> int:
    """Call ``see`` for every tensor; bounds what a small pickle can unfold into."""
    if depth > 8:
        raise _Refused("it is nested too deeply")
    if isinstance(value, _View):
        see(value)
    children: list[Any] = []
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list | tuple):
        children = list(value)
    count = 1
    for child in children:
        count += _visit(child, see, depth + 1)
        if count > 100_000:
            raise _Refused("it unfolds into too many objects")
    return count


def _resolve(value: Any, read: Callable[[_Storage], bytes], big: bool) -> Any:
    """Replace every tensor by its array."""
    raw: dict[str, bytes] = {}
    arrays: dict[int, NDArray[Any]] = {}

    def see(view: _View) -> None:
        storage = view.storage
        if storage.key not in raw:
            raw[storage.key] = read(storage)
        if id(view) not in arrays:
            arrays[id(view)] = _array(view, raw[storage.key], big)

    _visit(value, see)

    def rebuild(item: Any) -> Any:
        if isinstance(item, _View):
            return arrays[id(item)]
        if isinstance(item, dict):
            return {key: rebuild(child) for key, child in item.items()}
        if isinstance(item, list | tuple):
            return type(item)(rebuild(child) for child in item)
        if isinstance(item, _Name | _Storage):
            raise _Refused("it holds objects that are not tensors")
        return item

    return rebuild(value)


def _item_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _array(view: _View, data: bytes, big: bool) -> NDArray[Any]:
    """A contiguous copy in native byte order; bfloat16 becomes float32."""
    size = _item_bytes(view.storage.dtype)
    if len(data) < view.storage.elements * size:
        raise _Refused(f"a storage has {len(data)} bytes instead of {view.storage.elements * size}")
    kind = np.dtype("<u2" if view.storage.dtype == "bfloat16" else view.storage.dtype)
    flat = np.frombuffer(data, kind.newbyteorder(">") if big else kind, count=view.storage.elements)
    strided = np.lib.stride_tricks.as_strided(
        flat[view.offset :], view.sizes, [stride * size for stride in view.strides], writeable=False
    )
    array = np.ascontiguousarray(strided, kind.newbyteorder("="))
    if array.ndim != len(view.sizes):  # a scalar tensor
        array = array.reshape(view.sizes)
    if view.storage.dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
