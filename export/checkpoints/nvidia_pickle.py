"""Read the tensors of a stylegan2-ada-pytorch pickle without running anything in it.

Such a file is a pickle of live module objects. Each is rebuilt by
``torch_utils.persistence._reconstruct_persistent_obj(meta)``; ``meta`` carries the *source code* of its
class and a ``state``. A normal load executes that source. Here every global that a pickle may name is
answered from a closed list: tensors by re-builders of ours, NVIDIA's module objects by a record of their
``state``, a few bystanders (options, augmentation) by objects that do nothing. Any other name is refused
before it is looked up.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from doppelgan.runtime.errors import CheckpointError

CONVERTERS = (
    "`python legacy.py --source=FILE --dest=NEW.pkl` of NVlabs/stylegan2-ada-pytorch "
    "or `python convert_weight.py FILE` of rosinality/stylegan2-pytorch"
)


@dataclass(frozen=True)
class ModuleRecord:
    """What a pickled module object holds: its class's name and its attributes."""

    class_name: str
    state: dict[str, Any]

    def tensors(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """Parameters and buffers by dotted name, as ``state_dict()`` would list them."""
        tensors: dict[str, torch.Tensor] = {}
        for group in ("_parameters", "_buffers"):
            for name, value in self._group(group).items():
                if isinstance(value, torch.Tensor):
                    tensors[prefix + name] = value
        for name, child in self.children().items():
            tensors.update(child.tensors(f"{prefix}{name}."))
        return tensors

    def children(self) -> dict[str, ModuleRecord]:
        """The modules directly below this one."""
        return {k: v for k, v in self._group("_modules").items() if isinstance(v, ModuleRecord)}

    def walk(self, name: str = "") -> Iterator[tuple[str, ModuleRecord]]:
        """This module and all below it, by dotted name."""
        yield name, self
        for child_name, child in self.children().items():
            yield from child.walk(f"{name}.{child_name}" if name else child_name)

    def _group(self, name: str) -> dict[str, Any]:
        group = self.state.get(name)
        return group if isinstance(group, dict) else {}


def read_pickle(path: Path) -> Any:
    """The pickled object with modules as :class:`ModuleRecord`.

    Raises CheckpointError if the file is damaged, was pickled by TensorFlow, or names anything that is
    not data; nothing it names is imported or called.
    """
    with path.open("rb") as file:
        try:
            return _Unpickler(file, path.name).load()
        except CheckpointError:
            raise
        except Exception as error:  # what unpickling damaged data raises has no common base
            raise _damaged(path.name, error) from None


def _damaged(source: str, error: Exception) -> CheckpointError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"{source}: expected a complete pickle, got one that ends or breaks early ({reason}); "
        "download it again"
    )


class _Inert:
    """Stands in for an object whose content does not matter; every way to fill it does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _value: Any) -> None: ...

    def extend(self, _values: Any) -> None: ...

    def add(self, _value: Any) -> None: ...


class _EasyDict(dict[Any, Any]):
    def __setstate__(self, _state: Any) -> None: ...


def _reconstruct_module(meta: Any) -> ModuleRecord:
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise pickle.UnpicklingError("a module object without a state")
    return ModuleRecord(str(meta.get("class_name")), meta["state"])


def _load_storage(data: Any) -> Any:
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("a storage that is not bytes")
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, (torch.storage.TypedStorage, torch.storage.UntypedStorage)):
        raise pickle.UnpicklingError(f"expected a storage, got {type(storage).__name__}")
    return storage


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("a tensor without a storage")
    # set_ checks that size and stride stay within the storage.
    return torch.empty(0, dtype=storage.dtype).set_(storage, int(offset), tuple(size), tuple(stride))


def _rebuild_parameter(data: Any, *_: Any) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise pickle.UnpicklingError("a parameter without a tensor")
    return data


def _reconstructor(cls: Any, _base: Any, _state: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, (_Inert, _EasyDict))):
        raise pickle.UnpicklingError("an object of an unexpected class")
    return cls()


class _ScalarType:
    """A NumPy dtype as pickled: its code, and the byte order that its state brings."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


_SCALAR_CODES = {
    "f8": "d",
    "f4": "f",
    "f2": "e",
    "i8": "q",
    "i4": "i",
    "i2": "h",
    "i1": "b",
    "u1": "B",
    "b1": "?",
}


def _scalar(kind: Any, data: Any = b"") -> Any:
    """A NumPy number as Python's: gains are stored so."""
    if isinstance(data, str):  # bytes of an old protocol, decoded as latin1
        data = data.encode("latin1")
    if not isinstance(kind, _ScalarType) or kind.code not in _SCALAR_CODES or not isinstance(data, bytes):
        return _Inert()
    try:
        return struct.unpack(kind.order + _SCALAR_CODES[kind.code], data)[0]
    except struct.error:
        raise pickle.UnpicklingError("a number of the wrong length") from None


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes of an unknown encoding")
    return text.encode("latin1")


_DATA: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _reconstruct_module,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): OrderedDict,
    ("dnnlib.util", "EasyDict"): _EasyDict,
    ("dnnlib", "EasyDict"): _EasyDict,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("copy_reg", "_reconstructor"): _reconstructor,
    ("numpy", "dtype"): _ScalarType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
    ("builtins", "set"): set,
    ("builtins", "object"): _Inert,
    ("__builtin__", "set"): set,
    ("__builtin__", "object"): _Inert,
}
_DTYPES = {"float16", "float32", "float64", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_BYSTANDERS = ("torch.nn.", "torch_utils.", "training.", "dnnlib.", "numpy.", "metrics.")
_BYSTANDER_MODULES = {"torch", "numpy", "dnnlib"}  # their top level has functions: classes named below only
_BYSTANDER_NAMES = {"device", "ndarray", "Generator"}


# The unpickler in Python: that in C makes room for as many notes as a damaged number says, up to 32 GiB.
class _Unpickler(pickle._Unpickler):
    def __init__(self, file: IO[bytes], source: str) -> None:
        super().__init__(file, encoding="latin1")
        self._source = source

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _DATA:
            return _DATA[module, name]
        if module == "torch" and name in _DTYPES:
            return getattr(torch, name)
        if module.startswith(("dnnlib.tflib", "tensorflow")):
            raise CheckpointError(
                f"{self._source}: expected a generator pickled by PyTorch, got one pickled by TensorFlow "
                f"({module}.{name}); convert it first with {CONVERTERS}"
            )
        if module.startswith(_BYSTANDERS) or (module in _BYSTANDER_MODULES and name in _BYSTANDER_NAMES):
            return type(name, (_Inert,), {})
        raise CheckpointError(
            f"{self._source}: expected a pickle of tensors and settings, got one that names {module}.{name}; "
            "nothing in it was run: do not trust this file, take the original"
        )

    def persistent_load(self, _pid: Any) -> Any:
        raise pickle.UnpicklingError("a reference to data outside of the file")
