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
from collections import OrderedDict
from collections.abc import Callable
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
        found: dict[str, torch.Tensor] = {}
        for group in ("_parameters", "_buffers"):
            for name, value in self._group(group).items():
                if isinstance(value, torch.Tensor):
                    found[prefix + name] = value
        for name, child in self._group("_modules").items():
            if isinstance(child, ModuleRecord):
                found.update(child.tensors(f"{prefix}{name}."))
        return found

    def attributes(self, name: str) -> list[Any]:
        """The values of attribute ``name`` in this module and all below it."""
        found = [self.state[name]] if name in self.state else []
        for child in self._group("_modules").values():
            if isinstance(child, ModuleRecord):
                found.extend(child.attributes(name))
        return found

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
        except (EOFError, pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError) as error:
            raise _damaged(path.name, error) from None
        except (AttributeError, RuntimeError, MemoryError, UnicodeDecodeError, OverflowError) as error:
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
    ("builtins", "set"): set,
    ("builtins", "object"): _Inert,
    ("__builtin__", "set"): set,
    ("__builtin__", "object"): _Inert,
}
_DTYPES = {"float16", "float32", "float64", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_BYSTANDERS = ("torch.nn.", "torch_utils.", "training.", "dnnlib.", "numpy.", "metrics.")
_BYSTANDER_MODULES = {"torch", "numpy", "dnnlib"}  # their top level has functions: classes named below only
_BYSTANDER_NAMES = {"device", "dtype", "ndarray", "Generator"}


class _Unpickler(pickle.Unpickler):
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
