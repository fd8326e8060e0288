"""Inference backends: one file each, opened by name through :func:`open_session`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BackendError
from .base import ChooseRows, GeneratorSession, Session, TensorSpec

__all__ = [
    "BACKENDS",
    "Backend",
    "ChooseRows",
    "GeneratorSession",
    "Session",
    "TensorSpec",
    "installed",
    "open_session",
    "register_backend",
]


class Backend(NamedTuple):
    """Where a backend lies and what it needs."""

    module: str  # beside this file; it has ``open(path, threads, **options)``
    package: str | None  # that must be importable; None: the module's ``why_not()`` tells what is missing
    runs_onnx: bool = True  # so that `doppelgan compile` tries it; False: it runs engines built before


BACKENDS: dict[str, Backend] = {
    "onnxruntime": Backend("onnxruntime", "onnxruntime"),
    "native": Backend("native", None),
    "openvino": Backend("openvino", "openvino"),
    "cuda": Backend("onnxruntime_cuda", None),
    "tensorrt": Backend("tensorrt", "tensorrt", runs_onnx=False),
}

Opener = Callable[..., Session]  # (path, *, threads, **options)
_REGISTERED: dict[str, Opener] = {}


def register_backend(name: str, opener: Opener) -> None:
    """Make a backend of your own known by name: ``opener(path, threads=..., **options) -> Session``.

    ``path`` is the network's ONNX file, ``threads`` an int or None; see ``backends/base.py`` for what a
    session is. Raises ValueError if the name is taken.
    """
    if name in BACKENDS or name in _REGISTERED:
        raise ValueError(f"backend {name!r}: expected a new name, got one that is taken; choose another")
    _REGISTERED[name] = opener


def installed(backend: str) -> bool:
    """Whether what ``backend`` needs is on this machine."""
    if backend in _REGISTERED:
        return True
    if backend not in BACKENDS:
        return False
    module, package, _ = BACKENDS[backend]
    if package is None:
        return not import_module(f".{module}", __name__).why_not()
    return find_spec(package) is not None


def open_session(
    path: Path | str,  # the network's file: .onnx, or an engine where the backend compiles
    *,
    backend: str = "onnxruntime",
    threads: int | None = None,  # for this network alone; None: the backend's choice
    **options: Any,
) -> Session:
    """Load a network. Raises BackendError if the backend is unknown, not installed, or refuses it."""
    if backend not in BACKENDS and backend not in _REGISTERED:
        known = ", ".join([*BACKENDS, *_REGISTERED])
        raise BackendError(f"backend: expected one of {known}, got {backend!r}")
    opener = _REGISTERED.get(backend) or import_module(f".{BACKENDS[backend].module}", __name__).open
    return opener(Path(path), threads=threads, **options)
