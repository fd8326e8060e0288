"""CUDA through ``pycuda``, for machines where cuda-python has no package. It has no graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ....errors import BackendError
from .driver import DeviceInfo


class PycudaDriver:
    """The interface of :class:`.driver.Driver` on the CUDA driver API.

    It works in the primary context of device 0, which is the one that TensorRT uses, and makes it current
    around each call: a session may be opened in one thread and run in another.

    Raises ImportError if the package is missing, BackendError if there is no usable GPU.
    """

    name = "pycuda"
    can_capture = False

    def __init__(self) -> None:
        import pycuda.driver as cuda

        self._cuda: Any = cuda
        try:
            cuda.init()
            self._device = cuda.Device(0)
            self._context = self._device.retain_primary_context()
        except cuda.Error as error:
            raise BackendError(
                f"CUDA: expected an NVIDIA GPU with its driver, got {error}; "
                "install the driver, or use --backend onnxruntime"
            ) from None
        self._objects: dict[int, Any] = {}  # address or handle -> pycuda's object, which it keeps alive
        self._next = 1

    def device(self) -> DeviceInfo:
        major, minor = self._device.compute_capability()
        integrated = self._device.get_attribute(self._cuda.device_attribute.INTEGRATED)
        return DeviceInfo(
            name=self._device.name(),
            compute_capability=(int(major), int(minor)),
            integrated=bool(integrated),
            memory=int(self._device.total_memory()),
            driver_version=int(self._cuda.get_driver_version()),
        )

    def malloc(self, size: int) -> int:
        with self._current():
            memory = self._cuda.mem_alloc(size)
            self._objects[int(memory)] = memory
            return int(memory)

    def free(self, address: int) -> None:
        with self._current():
            self._objects.pop(address).free()

    def malloc_host(self, size: int) -> tuple[int, int]:
        flags = self._cuda.host_alloc_flags
        with self._current():
            array = self._cuda.pagelocked_empty(size, np.uint8, mem_flags=flags.DEVICEMAP | flags.PORTABLE)
            host = int(array.ctypes.data)
            self._objects[host] = array
            return host, int(array.base.get_device_pointer())

    def free_host(self, address: int) -> None:
        with self._current():
            self._objects.pop(address).base.free()

    def stream_create(self) -> int:
        with self._current():
            stream = self._cuda.Stream()
            return self._keep(stream, int(stream.handle))

    def stream_synchronize(self, stream: int) -> None:
        with self._current():
            self._objects[stream].synchronize()

    def stream_destroy(self, stream: int) -> None:
        with self._current():
            del self._objects[stream]

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        with self._current():
            self._cuda.memcpy_htod_async(target, self._objects[source][:size], self._objects[stream])

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        with self._current():
            self._cuda.memcpy_dtoh_async(self._objects[target][:size], source, self._objects[stream])

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        with self._current():
            self._cuda.memcpy_dtod_async(target, source, size, self._objects[stream])

    def fill(self, target: int, byte: int, size: int, stream: int) -> None:
        with self._current():
            self._cuda.memset_d8_async(target, byte, size, self._objects[stream])

    def capture_begin(self, stream: int) -> None:
        raise BackendError("CUDA: pycuda has no graphs; `pip install cuda-python` brings them")

    def capture_end(self, stream: int) -> int:
        raise BackendError("CUDA: pycuda has no graphs; `pip install cuda-python` brings them")

    def graph_launch(self, graph: int, stream: int) -> None:
        raise BackendError("CUDA: pycuda has no graphs; `pip install cuda-python` brings them")

    def graph_destroy(self, graph: int) -> None:
        raise BackendError("CUDA: pycuda has no graphs; `pip install cuda-python` brings them")

    def _keep(self, item: Any, handle: int) -> int:
        self._objects[handle] = item
        return handle

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except self._cuda.Error as error:
            raise BackendError(f"CUDA: {error}; see `doppelgan doctor`") from None
        finally:
            self._context.pop()
