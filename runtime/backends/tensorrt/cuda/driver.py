"""What the runtime needs of CUDA, as one small interface.

Handles and addresses are plain integers, so that an implementation is a table of thin calls.
:class:`DeviceBuffer` and :class:`HostBuffer` own memory: they free it once and refuse use after that.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ....errors import BackendError


@dataclass(frozen=True)
class DeviceInfo:
    """The GPU that everything runs on: CUDA's device 0 (CUDA_VISIBLE_DEVICES chooses another)."""

    name: str
    compute_capability: tuple[int, int]  # (8, 7) on Jetson Orin
    integrated: bool  # shares the memory of the CPU: every Jetson
    memory: int  # bytes
    driver_version: int  # 12060 is CUDA 12.6

    @property
    def arch(self) -> str:
        """ "sm87" and so on."""
        return f"sm{self.compute_capability[0]}{self.compute_capability[1]}"


class Driver(Protocol):
    """CUDA calls. Copies and fills are queued on a stream; a failure raises BackendError.

    Host addresses must come from :meth:`malloc_host`: only pinned memory is copied asynchronously.
    """

    @property
    def name(self) -> str:
        """The package behind it."""
        ...

    @property
    def can_capture(self) -> bool:
        """Whether streams can be captured into graphs."""
        ...

    def device(self) -> DeviceInfo: ...

    def malloc(self, size: int) -> int:
        """Device memory; returns its address."""
        ...

    def free(self, address: int) -> None: ...

    def malloc_host(self, size: int) -> tuple[int, int]:
        """Pinned memory that the GPU can reach as well: addresses for the CPU and for the GPU."""
        ...

    def free_host(self, address: int) -> None: ...

    def stream_create(self) -> int: ...
    def stream_synchronize(self, stream: int) -> None: ...
    def stream_destroy(self, stream: int) -> None: ...

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None: ...
    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None: ...
    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None: ...
    def fill(self, target: int, byte: int, size: int, stream: int) -> None: ...

    def capture_begin(self, stream: int) -> None:
        """From here on, calls on ``stream`` are recorded instead of run."""
        ...

    def capture_end(self, stream: int) -> int:
        """Stop recording; returns a graph that :meth:`graph_launch` runs."""
        ...

    def graph_launch(self, graph: int, stream: int) -> None: ...
    def graph_destroy(self, graph: int) -> None: ...


class _Buffer:
    """Memory with an owner: freed once, unusable after that."""

    def __init__(self, driver: Driver, size: int) -> None:
        if size <= 0:
            raise ValueError(f"size: expected at least one byte, got {size}")
        self.size = size
        self._driver: Driver | None = driver

    @property
    def closed(self) -> bool:
        return self._driver is None

    def _check_open(self) -> None:
        if self._driver is None:
            raise BackendError(
                f"CUDA: expected live memory, got a buffer of {self.size} bytes that was freed"
            )

    def __enter__(self: Any) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory; closing twice is allowed."""
        raise NotImplementedError


class DeviceBuffer(_Buffer):
    """Memory on the GPU."""

    def __init__(
        self,
        driver: Driver,
        size: int,  # bytes
    ) -> None:
        super().__init__(driver, size)
        self._address = driver.malloc(size)

    @property
    def address(self) -> int:
        """Device address. Raises BackendError once the buffer is closed."""
        self._check_open()
        return self._address

    def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.free(self._address)


class HostBuffer(_Buffer):
    """Pinned memory of the CPU that copies run from at full speed, and that the GPU can read directly."""

    def __init__(
        self,
        driver: Driver,
        size: int,  # bytes
    ) -> None:
        super().__init__(driver, size)
        self._host, self._device = driver.malloc_host(size)

    @property
    def host_address(self) -> int:
        """Address for the CPU and for copies. Raises BackendError once the buffer is closed."""
        self._check_open()
        return self._host

    @property
    def address(self) -> int:
        """Address for the GPU. Raises BackendError once the buffer is closed."""
        self._check_open()
        return self._device

    def array(self, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """The first bytes as an array; it must not outlive the buffer."""
        count = int(np.prod(shape, dtype=np.int64))
        if count * np.dtype(dtype).itemsize > self.size:
            raise ValueError(f"expected an array within {self.size} bytes, got {dtype} {list(shape)}")
        memory = (ctypes.c_uint8 * self.size).from_address(self.host_address)
        array: NDArray[Any] = np.ctypeslib.as_array(memory)[: count * np.dtype(dtype).itemsize]
        return array.view(dtype).reshape(shape)

    def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.free_host(self._host)
