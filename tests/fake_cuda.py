"""A CUDA driver without a GPU, for tests: ordinary memory, queues that run late, and strict books.

Like a GPU, a stream runs nothing before somebody waits for it. Unlike a GPU, every address is checked:
reading freed memory, copying past an end, or destroying something in use raises AssertionError at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from doppelgan.runtime.backends.tensorrt.cuda.driver import DeviceInfo
from doppelgan.runtime.errors import BackendError

ORIN = DeviceInfo("Orin", (8, 7), True, 8 << 30, 12060)
RTX_3060 = DeviceInfo("NVIDIA GeForce RTX 3060", (8, 6), False, 12 << 30, 13000)

_Work = Callable[[], None]


class FakeDriver:
    """Implements Driver; ``calls`` lists what was asked, :meth:`alive` what was not given back."""

    name = "fake"

    def __init__(self, device: DeviceInfo = RTX_3060, *, can_capture: bool = True) -> None:
        self.can_capture = can_capture
        self.calls: list[str] = []
        self._device = device
        self._memory: dict[int, tuple[str, ctypes.Array[ctypes.c_uint8]]] = {}  # address -> kind, bytes
        self._queues: dict[int, list[_Work]] = {}
        self._graphs: dict[int, list[_Work]] = {}
        self._capturing: dict[int, list[_Work]] = {}
        self._next = 1000

    def alive(self) -> list[str]:
        """What is still allocated, e.g. ["device 64", "stream"]."""
        memory = [f"{kind} {len(block)}" for kind, block in self._memory.values()]
        return sorted([*memory, *["stream"] * len(self._queues), *["graph"] * len(self._graphs)])

    def enqueue(self, stream: int, work: _Work, name: str = "kernel") -> None:
        """Queue a function as a kernel would be."""
        self.calls.append(name)
        self._queue(stream).append(work)

    def check(self, address: int, size: int, kinds: tuple[str, ...] = ("device", "pinned")) -> None:
        """Assert that ``size`` bytes at ``address`` are live memory of one of ``kinds``."""
        for start, (kind, block) in self._memory.items():
            if start <= address and address + size <= start + len(block):
                assert kind in kinds, f"expected {kinds} memory, got {kind}"
                return
        raise AssertionError(f"{size} bytes at {address:#x} are not live memory")

    def device(self) -> DeviceInfo:
        return self._device

    def malloc(self, size: int) -> int:
        return self._allocate("device", size)

    def free(self, address: int) -> None:
        self._release("device", address)

    def malloc_host(self, size: int) -> tuple[int, int]:
        address = self._allocate("pinned", size)
        return address, address

    def free_host(self, address: int) -> None:
        self._release("pinned", address)

    def stream_create(self) -> int:
        self.calls.append("stream_create")
        handle = self._handle()
        self._queues[handle] = []
        return handle

    def stream_synchronize(self, stream: int) -> None:
        self.calls.append("synchronize")
        assert stream not in self._capturing, "a stream under capture cannot be waited for"
        queue = self._queues[stream]
        while queue:
            queue.pop(0)()

    def stream_destroy(self, stream: int) -> None:
        self.calls.append("stream_destroy")
        assert not self._queues.pop(stream), "a stream was destroyed with work waiting"

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        self.check(source, size, ("pinned",))
        self._copy("to_device", target, source, size, stream)

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        self.check(target, size, ("pinned",))
        self._copy("to_host", target, source, size, stream)

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._copy("on_device", target, source, size, stream)

    def fill(self, target: int, byte: int, size: int, stream: int) -> None:
        self.check(target, size)

        def work() -> None:
            self.check(target, size)
            ctypes.memset(target, byte, size)

        self.enqueue(stream, work, f"fill {size}")

    def capture_begin(self, stream: int) -> None:
        assert self.can_capture
        assert not self._queues[stream], "capture must begin on an idle stream here"
        self.calls.append("capture_begin")
        self._capturing[stream] = []

    def capture_end(self, stream: int) -> int:
        self.calls.append("capture_end")
        handle = self._handle()
        self._graphs[handle] = self._capturing.pop(stream)
        return handle

    def graph_launch(self, graph: int, stream: int) -> None:
        self.calls.append("graph_launch")
        self._queue(stream).extend(self._graphs[graph])

    def graph_destroy(self, graph: int) -> None:
        self.calls.append("graph_destroy")
        del self._graphs[graph]

    def _allocate(self, kind: str, size: int) -> int:
        self.calls.append(f"malloc {kind} {size}")
        if size > self._device.memory:
            raise BackendError("CUDA: malloc failed: out of memory; see `doppelgan doctor`")
        block = (ctypes.c_uint8 * size)()
        ctypes.memset(block, 0xCD, size)  # nobody may count on zeros
        address = ctypes.addressof(block)
        self._memory[address] = kind, block
        return address

    def _release(self, kind: str, address: int) -> None:
        self.calls.append(f"free {kind}")
        assert not any(self._queues.values()), "memory was freed while work is waiting"
        assert address in self._memory, "freed twice, or never allocated"
        found, _ = self._memory.pop(address)
        assert found == kind, f"{found} memory was freed as {kind}"

    def _copy(self, name: str, target: int, source: int, size: int, stream: int) -> None:
        def work() -> None:
            self.check(target, size)
            self.check(source, size)
            ctypes.memmove(target, source, size)

        self.check(target, size)
        self.check(source, size)
        self.enqueue(stream, work, f"{name} {size}")

    def _queue(self, stream: int) -> list[_Work]:
        assert stream in self._queues, "no such stream"
        return self._capturing.get(stream, self._queues[stream])

    def _handle(self) -> int:
        self._next += 1
        return self._next
