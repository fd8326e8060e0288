"""CUDA through NVIDIA's ``cuda-python`` (package ``cuda-bindings``, 11.8 to 13)."""

from __future__ import annotations

from typing import Any

from ....errors import BackendError
from .driver import DeviceInfo


class CudaPythonDriver:
    """The interface of :class:`.driver.Driver` on the CUDA runtime API.

    Raises ImportError if the package is missing, BackendError if there is no usable GPU.
    """

    name = "cuda-python"
    can_capture = True

    def __init__(self) -> None:
        self._cuda = cuda = _runtime()
        error, count = cuda.cudaGetDeviceCount()
        if int(error) != 0 or not count:
            reason = f"{error.name} (no driver, or one too old)" if int(error) else "no device"
            raise BackendError(
                f"CUDA: expected an NVIDIA GPU with its driver, got {reason}; "
                "install the driver, or use --backend onnxruntime"
            )
        self._call("cudaSetDevice", 0)
        self._objects: dict[int, Any] = {}  # integer handle -> the package's own

    def device(self) -> DeviceInfo:
        kinds = self._cuda.cudaDeviceAttr
        properties = self._call("cudaGetDeviceProperties", 0)
        name = properties.name
        return DeviceInfo(
            name=name.decode() if isinstance(name, bytes) else str(name),
            compute_capability=(
                int(self._call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, 0)),
                int(self._call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, 0)),
            ),
            integrated=bool(self._call("cudaDeviceGetAttribute", kinds.cudaDevAttrIntegrated, 0)),
            memory=int(properties.totalGlobalMem),
            driver_version=int(self._call("cudaDriverGetVersion")),
        )

    def malloc(self, size: int) -> int:
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def malloc_host(self, size: int) -> tuple[int, int]:
        flags = self._cuda.cudaHostAllocMapped | self._cuda.cudaHostAllocPortable
        host = int(self._call("cudaHostAlloc", size, flags))
        return host, int(self._call("cudaHostGetDevicePointer", host, 0))

    def free_host(self, address: int) -> None:
        self._call("cudaFreeHost", address)

    def stream_create(self) -> int:
        return self._keep(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))

    def stream_synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", self._objects[stream])

    def stream_destroy(self, stream: int) -> None:
        self._call("cudaStreamDestroy", self._objects.pop(stream))

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._copy(target, source, size, "cudaMemcpyHostToDevice", stream)

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        self._copy(target, source, size, "cudaMemcpyDeviceToHost", stream)

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._copy(target, source, size, "cudaMemcpyDefault", stream)  # mapped memory counts as both

    def fill(self, target: int, byte: int, size: int, stream: int) -> None:
        self._call("cudaMemsetAsync", target, byte, size, self._objects[stream])

    def capture_begin(self, stream: int) -> None:
        # Of this thread only: other threads go on allocating and copying while an engine is captured.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._objects[stream], mode)

    def capture_end(self, stream: int) -> int:
        graph = self._call("cudaStreamEndCapture", self._objects[stream])
        try:
            return self._keep(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def graph_launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", self._objects[graph], self._objects[stream])

    def graph_destroy(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", self._objects.pop(graph))

    def _copy(self, target: int, source: int, size: int, kind: str, stream: int) -> None:
        kinds = self._cuda.cudaMemcpyKind
        self._call("cudaMemcpyAsync", target, source, size, getattr(kinds, kind), self._objects[stream])

    def _keep(self, handle: Any) -> int:
        key = int(handle)
        self._objects[key] = handle
        return key

    def _call(self, function: str, *arguments: Any) -> Any:
        error, *results = getattr(self._cuda, function)(*arguments)
        if int(error) != 0:
            _, text = self._cuda.cudaGetErrorString(error)
            reason = text.decode() if isinstance(text, bytes) else str(text)
            raise BackendError(f"CUDA: {function} failed: {reason} ({error.name}); see `doppelgan doctor`")
        return results[0] if results else None


def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError:  # before 12.6
        from cuda import cudart as runtime  # type: ignore[no-redef,attr-defined,unused-ignore]
    return runtime
