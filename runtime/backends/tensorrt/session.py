"""TensorRT and TensorRT for RTX: engines that were built beforehand, run on an NVIDIA GPU.

``open_session("synthesis.onnx", backend="tensorrt")`` looks up the engine that was built from that very file
for this TensorRT and this GPU (see ``engine_record.py``); nothing is built here. Both products have one
Python interface and share this code, which keeps to what is in TensorRT 10.3, 10.16, 11 and RTX 1.4.

All memory is allocated when a session opens: pinned buffers on the CPU and their twins on the GPU, or, where
CPU and GPU share memory (Jetson), one buffer that both reach, without copies. One run is: write inputs,
launch, read outputs. From the second run on the launch is a captured CUDA graph, if the driver can capture.

"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BackendError
from ..base import Array, TensorSpec, check_feeds, check_outputs
from .cuda import DeviceBuffer, DeviceInfo, Driver, HostBuffer, open_driver
from .engine_record import Engine, read_engines, read_vouched, record_folders

# Module -> what people call it; in the order in which they are tried.
PRODUCTS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}
# `doppelgan compile --for` each of them.
TARGETS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
PREFERENCE = ("float16", "int8", "float32")


class TensorRtSession:
    """A fixed-shape engine and everything it needs on the GPU."""

    def __init__(
        self,
        name: str,  # of the network, for messages
        plan: bytes,  # the engine; it is trusted here: `open` checks
        trt: Any,  # the module tensorrt or tensorrt_rtx
        driver: Driver,
        precision: str = "float32",
        graph: bool = True,  # capture a CUDA graph
    ) -> None:
        self._name = name
        self._driver = driver
        self._capture = graph and driver.can_capture
        device = driver.device()
        self.backend = f"{trt.__name__} {device.name} {precision}"
        self._open = True
        self._graph: int | None = None
        self._runs = 0
        self._host: dict[str, HostBuffer] = {}
        self._device: dict[str, DeviceBuffer] = {}
        self._log = make_logger(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BackendError(
                f"{name}: expected an engine that {product_name(trt)} {trt.__version__} can load, "
                f"got {self._log.first_error()}; compile again on this machine"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendError(
                f"{name}: expected {device.name} to have memory for the engine, "
                f"got {self._log.first_error()}; close other programs, or compile in float16"
            )
        self.inputs, self.outputs = _border(self._engine, trt, name)
        self._stream = driver.stream_create()
        try:
            for spec in (*self.inputs, *self.outputs):
                size = max(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize, 1)
                self._host[spec.name] = HostBuffer(driver, size)
                if not device.integrated:
                    self._device[spec.name] = DeviceBuffer(driver, size)
                self._set_address(spec.name, self.address(spec.name))
        except BackendError:
            self.close()
            raise

    def address(self, tensor: str) -> int:
        """Device address of an input or output. Raises BackendError once the session is closed."""
        self._check_open()
        return (self._device.get(tensor) or self._host[tensor]).address

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        self.enqueue(feeds)
        return self.fetch(out)

    def enqueue(self, feeds: Mapping[str, Array]) -> None:
        """Write the inputs and start computing; returns at once."""
        self._check_open()
        checked = check_feeds(self.inputs, feeds, self._name)
        if self._runs:  # the last run may still read the buffers
            self._driver.stream_synchronize(self._stream)
        for spec in self.inputs:
            np.copyto(self._host[spec.name].array(spec.dtype, spec.shape), checked[spec.name])
        # The first run is plain: kernels are loaded (for RTX compiled) then, which cannot be captured.
        if self._runs == 1 and self._capture:
            self._record()
        if self._graph is None:
            self._queue()
        else:
            self._driver.graph_launch(self._graph, self._stream)
        self._runs += 1

    def fetch(self, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Wait, and read the outputs; into the arrays of ``out`` where given."""
        self._check_open()
        out = out or {}
        check_outputs(self.outputs, out, self._name)
        results: dict[str, Array] = {}
        for spec in self.outputs:
            buffer = out.get(spec.name)
            results[spec.name] = np.empty(spec.shape, spec.dtype) if buffer is None else buffer
            if spec.name in self._device:
                host, device = self._host[spec.name], self._device[spec.name]
                self._driver.copy_to_host(host.host_address, device.address, host.size, self._stream)
        self._driver.stream_synchronize(self._stream)
        for spec in self.outputs:
            np.copyto(results[spec.name], self._host[spec.name].array(spec.dtype, spec.shape))
        return results

    def close(self) -> None:
        """Wait for the GPU and give everything back, in the order of use. Closing twice is allowed."""
        if not self._open:
            return
        self._driver.stream_synchronize(self._stream)
        self._drop_graph()
        self._open = False
        # TensorRT's objects before the memory that they point at.
        self._context = None
        self._engine = None
        self._runtime = None
        for buffer in (*self._host.values(), *self._device.values()):
            buffer.close()
        self._driver.stream_destroy(self._stream)

    def _queue(self) -> None:
        """Queue one run: uploads, then the engine."""
        for spec in self.inputs:
            if spec.name in self._device:
                host, device = self._host[spec.name], self._device[spec.name]
                self._driver.copy_to_device(device.address, host.host_address, host.size, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise BackendError(f"{self._name}: the engine failed: {self._log.first_error()}; compile again")

    def _record(self) -> None:
        """Capture one run; where the engine cannot be captured, plain launches stay."""
        self._capture = False
        capturable = getattr(self._context, "is_stream_capturable", None)  # TensorRT for RTX only
        if capturable is not None and not capturable(self._stream):
            return
        self._driver.capture_begin(self._stream)
        failed = None
        try:
            self._queue()
        except BackendError as error:
            failed = error
        try:
            graph = self._driver.capture_end(self._stream)
        except BackendError:
            return
        if failed is None:
            self._graph = graph
        else:
            self._driver.graph_destroy(graph)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._driver.stream_synchronize(self._stream)
            self._driver.graph_destroy(self._graph)
            self._graph, self._capture, self._runs = None, True, 1

    def _set_address(self, tensor: str, address: int) -> None:
        if not self._context.set_tensor_address(tensor, address):
            raise BackendError(f"{self._name}: TensorRT refused the buffer of {tensor!r}")

    def _check_open(self) -> None:
        if not self._open:
            raise BackendError(f"{self._name}: expected an open session, got a closed one; open it again")


def open(  # noqa: A001 - the backends' common verb
    path: Path,  # the network (.onnx) whose engine is wanted
    *,
    threads: int | None = None,  # has no meaning here
    precision: str | None = None,  # None: the first of PREFERENCE that was built
    driver: Driver | None = None,  # None: the one of this machine
    graph: bool = True,  # capture a CUDA graph from the second run on
    **options: Any,
) -> TensorRtSession:
    """Open the engine that was built from ``path`` for this machine.

    Raises BackendError that says what is missing (TensorRT, CUDA, a GPU, an engine) and how to get it.
    """
    if options:
        raise BackendError(f"tensorrt: expected options precision, driver, graph; got {sorted(options)}")
    trt = find_tensorrt()
    driver = driver or open_driver()
    folder, engine = choose_engine(path, trt, driver.device(), precision)
    plan = read_vouched(folder / engine.file, engine.sha256)
    return TensorRtSession(path.name, plan, trt, driver, engine.precision, graph)


def find_tensorrt(
    product: str | None = None,  # of PRODUCTS; None: the first that is installed
) -> Any:
    """The module. Raises BackendError that says where to get it."""
    for name in PRODUCTS if product is None else (product,):
        try:
            return import_module(name)
        except ImportError:
            continue
    wanted = " or ".join(PRODUCTS if product is None else (product,))
    raise BackendError(
        f"tensorrt: expected {wanted} to be installed, got none; JetPack brings tensorrt "
        '(docs/jetson.md), `pip install "doppelgan[rtx]"` brings tensorrt_rtx for x86-64'
    )


def choose_engine(
    path: Path,
    trt: Any,
    device: DeviceInfo,
    precision: str | None = None,
) -> tuple[Path, Engine]:
    """Folder and entry of the engine for ``path``, this TensorRT and this GPU. Raises BackendError."""
    try:
        source = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BackendError(f"{path}: expected a network, got {error.strerror}") from None
    product, here = trt.__name__, this_platform()
    built: list[tuple[Path, Engine]] = []
    for folder in record_folders(path.parent):
        built += [(folder, engine) for engine in read_engines(folder) if engine.source_sha256 == source]
    fitting = [
        (folder, e)
        for folder, e in built
        if (e.product, e.version, e.arch, e.platform) == (product, trt.__version__, device.arch, here)
        and e.precision == (precision or e.precision)
    ]
    if fitting:
        return min(fitting, key=lambda pair: PREFERENCE.index(pair[1].precision))
    wanted = f" in {precision}" if precision else ""
    others = sorted(
        {f"{PRODUCTS[e.product]} {e.version} {e.arch} {e.precision} ({e.platform})" for _, e in built}
    )
    raise BackendError(
        f"{path}: expected an engine{wanted} for {PRODUCTS[product]} {trt.__version__} {device.arch} "
        f"({here}), got {'only ' + ', '.join(others) if others else 'none'}; run "
        f"`doppelgan compile {path.parent} --for {TARGETS[product]}` on this machine"
    )


def product_name(trt: Any) -> str:
    """ "TensorRT" or "TensorRT for RTX"."""
    return PRODUCTS[trt.__name__]


def this_platform() -> str:
    """Engines do not move between these, e.g. "Linux aarch64"."""
    return f"{platform.system()} {'x86_64' if platform.machine() == 'AMD64' else platform.machine()}"


def make_logger(trt: Any, *, verbose: bool = False) -> Any:
    """A TensorRT logger that keeps what it hears: ``messages``, and ``first_error()`` for people."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)
            elif verbose:
                self.messages.append(message)

        def first_error(self) -> str:
            """One line."""
            return self.errors[0].splitlines()[0].strip() if self.errors else "no reason given"

    return Logger()


def _border(engine: Any, trt: Any, name: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(tensor))
        if any(size < 0 for size in shape):
            raise BackendError(f"{name}: expected a fixed shape of {tensor}, got {shape}; export again")
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(tensor))).name
        is_input = engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(TensorSpec(tensor, dtype, shape))
    return tuple(inputs), tuple(outputs)
