"""Which implementation of the kernels serves: C++ where it was compiled, NumPy everywhere else."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from . import reference


class NativeKernelsMissing(UserWarning):
    """The C++ kernels are not installed; the slow NumPy twins serve instead."""


def _load() -> ModuleType | None:
    if os.environ.get("DOPPELGAN_KERNELS") == "numpy":
        return None
    try:
        return importlib.import_module("._native", __package__)
    except ImportError as error:
        warnings.warn(
            f"the C++ pixel kernels are missing ({error}): NumPy serves, many times slower; "
            "install a C++17 compiler and reinstall doppelgan, or set DOPPELGAN_KERNELS=numpy to accept it",
            NativeKernelsMissing,
            stacklevel=2,
        )
        return None


kernels = _load()
KERNELS: Final = "numpy" if kernels is None else "native"
THREADS: Final = min(4, os.cpu_count() or 1)  # of a kernel while no network computes; more hardly gain


def serve(name: str, check: Callable[[], None], *arguments: Any) -> None:
    """Run a kernel or its twin of that name. Only what a kernel refuses is looked at again, to say why."""
    if kernels is None:
        check()
        getattr(reference, name)(*arguments)
        return
    try:
        getattr(kernels, name)(*arguments)
    except TypeError:
        check()
        raise


def synthesis() -> Any:
    """The class that computes a StyleGAN2 synthesis network; None where it is missing or cannot run."""
    return _network_class("Synthesis")


def encoder() -> Any:
    """The class that computes an encoder of the pSp family; None where it is missing or cannot run."""
    return _network_class("Encoder")


def _network_class(name: str) -> Any:
    module: Any = kernels  # compiled by GCC or Clang only
    if not hasattr(module, name) or not module.networks_available():
        return None
    return getattr(module, name)
