"""Inference backends: one file each, opened by name through :func:`open_session`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import BackendError
from .base import PairSession, Session, TensorSpec

__all__ = ["BACKENDS", "PairSession", "Session", "TensorSpec", "installed", "open_session"]

# Backend name -> module beside this file; each module has ``open(path, threads, **options)``.
BACKENDS: dict[str, str] = {
    "onnxruntime": "onnxruntime",
    "native": "native",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
}


def installed(backend: str) -> bool:
    """Whether what ``backend`` needs is on this machine."""
    if backend == "native":
        from .native import available

        return available()
    return backend in BACKENDS and find_spec(backend) is not None


def open_session(
    path: Path | str,  # the network's file: .onnx, or an engine where the backend compiles
    *,
    backend: str = "onnxruntime",
    threads: int | None = None,  # for this network alone; None: all physical cores
    **options: Any,
) -> Session:
    """Load a network. Raises BackendError if the backend is unknown, not installed, or refuses it."""
    if backend not in BACKENDS:
        raise BackendError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    opener: Callable[..., Session] = import_module(f".{BACKENDS[backend]}", __name__).open
    return opener(Path(path), threads=threads, **options)
