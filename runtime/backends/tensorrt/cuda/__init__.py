"""CUDA for the TensorRT backend: memory, streams and graphs through whichever package is importable.

``cuda-python`` comes first: it can capture graphs and has wheels for x86-64 and aarch64. ``pycuda`` serves
where it is what the machine has. Nothing here is imported by CPU backends.
"""

from __future__ import annotations

from collections.abc import Callable

from ....errors import BackendError
from .driver import DeviceBuffer, DeviceInfo, Driver, HostBuffer

__all__ = ["DRIVERS", "DeviceBuffer", "DeviceInfo", "Driver", "HostBuffer", "open_driver"]


def _cuda_python() -> Driver:
    from .cuda_python import CudaPythonDriver

    return CudaPythonDriver()


def _pycuda() -> Driver:
    from .pycuda import PycudaDriver

    return PycudaDriver()


# In the order of preference.
DRIVERS: dict[str, Callable[[], Driver]] = {"cuda-python": _cuda_python, "pycuda": _pycuda}


def open_driver(
    name: str | None = None,  # of DRIVERS; None: the first whose package is installed
) -> Driver:
    """Connect to the GPU. Raises BackendError saying what is missing: a package, or the GPU itself."""
    if name is not None and name not in DRIVERS:
        raise BackendError(f"CUDA: expected a package of {', '.join(DRIVERS)}, got {name!r}")
    wanted = DRIVERS if name is None else {name: DRIVERS[name]}
    for create in wanted.values():
        try:
            return create()
        except ImportError:
            continue
    raise BackendError(
        f"CUDA: expected {' or '.join(wanted)} to be installed, got neither; "
        "run `pip install cuda-python` (or use --backend onnxruntime)"
    )
