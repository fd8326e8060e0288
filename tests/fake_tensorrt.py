"""A stand-in for the modules ``tensorrt`` and ``tensorrt_rtx``, with engines that double their input.

An engine here is JSON: its tensors, in order. Running it writes twice the first input, flattened, into every
output, on the fake driver's stream, through the addresses that were set. Attributes that a version lacks are
left out, so that code which touches them fails.
"""

from __future__ import annotations

import ctypes
import enum
import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.fake_cuda import FakeDriver


def plan(
    inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], dtype: str = "float32"
) -> bytes:
    """An engine."""
    return json.dumps({"inputs": inputs, "outputs": outputs, "dtype": dtype}).encode()


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        self.ready = True


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.fails = False

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name in self.engine.shapes
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, addresses = self.engine, dict(self.addresses)
        assert engine.driver is not None
        assert addresses.keys() == engine.shapes.keys(), "a tensor has no address"
        if self.fails:
            return False

        def work() -> None:
            for name, address in addresses.items():
                engine.driver.check(address, engine.bytes_of(name))
            first = _array(addresses[engine.inputs[0]], engine.shapes[engine.inputs[0]], engine.dtype)
            for name in engine.outputs:
                shape = engine.shapes[name]
                _array(addresses[name], shape, engine.dtype)[...] = np.resize(2 * first.ravel(), shape)

        engine.driver.enqueue(stream_handle, work, f"execute {engine.outputs[0]}")
        return True


class Engine:
    device_memory_size_v2 = 4096

    def __init__(self, data: dict[str, Any], driver: FakeDriver | None) -> None:
        self.inputs, self.outputs = list(data["inputs"]), list(data["outputs"])
        self.shapes = {k: tuple(v) for k, v in {**data["inputs"], **data["outputs"]}.items()}
        self.dtype, self.driver = data["dtype"], driver
        self.contexts: list[Context] = []

    @property
    def num_io_tensors(self) -> int:
        return len(self.shapes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> str:
        return self.dtype

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def create_execution_context(self) -> Context:
        self.contexts.append(Context(self))
        return self.contexts[-1]

    def create_engine_inspector(self) -> Any:
        text = json.dumps(
            {"Layers": [layer("conv", "Convolution", "Half"), layer("add", "PointWiseV2", "Half")]}
        )
        return SimpleNamespace(get_engine_information=lambda _format: text)

    def bytes_of(self, name: str) -> int:
        return int(np.prod(self.shapes[name])) * np.dtype(self.dtype).itemsize


def layer(name: str, kind: str, dtype: str) -> dict[str, Any]:
    """One layer as the inspector of TensorRT 10 writes it."""
    tensor = {"Name": f"{name}.x", "Dimensions": [1, 8, 4, 4], "Format/Datatype": dtype}
    return {"Name": name, "LayerType": kind, "Inputs": [tensor], "Outputs": [{**tensor, "Name": f"{name}.y"}]}


def module(name: str, version: str, driver: FakeDriver | None = None) -> Any:
    """The module ``name`` ("tensorrt", "tensorrt_rtx") at ``version``, as far as this project uses it.

    ``driver`` None: a machine without a GPU, which can build but not load.
    """
    major = 11 if name == "tensorrt_rtx" else int(version.split(".")[0])
    made: list[Engine] = []
    built: list[SimpleNamespace] = []

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            assert logger.ready, "ILogger.__init__ was not called"
            self.logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            try:
                content = json.loads(data)
            except ValueError:
                self.logger.log(
                    Severity.ERROR, "Error Code 1: Serialization (magic tag does not match)\nmore"
                )
                return None
            if driver is None:
                self.logger.log(Severity.ERROR, "Error Code 1: Cuda Runtime (no device)")
                return None
            made.append(Engine(content, driver))
            return made[-1]

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            self.logger = logger

        def create_network(self, flags: int) -> Any:
            assert flags == (2 if flagged else 0), "networks are strongly typed"
            return SimpleNamespace()

        def create_builder_config(self) -> Any:
            return Config()

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            built.append(SimpleNamespace(network=network, config=config))
            if network.onnx == b"unsupported":
                self.logger.log(Severity.ERROR, "no implementation for node Odd")
                return None
            self.logger.log(Severity.INFO, "Total Weights Memory: 1000 bytes")
            self.logger.log(Severity.INFO, "Total Activation Memory: 2000 bytes")
            return plan({"z": (1, 6)}, {"w": (1, 6)})

    class Config:
        def __init__(self) -> None:
            self.cleared: list[Any] = []
            self.profiling_verbosity = None
            if name == "tensorrt_rtx":
                self.num_compute_capabilities = 0
                self.set_compute_capability = self._set
                self.archs: dict[int, str] = {}

        def clear_flag(self, flag: Any) -> None:
            self.cleared.append(flag)

        def _set(self, arch: str, index: int) -> None:
            assert index < self.num_compute_capabilities, "the number of compute capabilities comes first"
            self.archs[index] = arch

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Any, logger: ILogger) -> None:
            self.network = network

        def parse(self, data: bytes) -> bool:
            self.network.onnx = data
            return data != b"nonsense"

        def get_error(self, index: int) -> Any:
            return SimpleNamespace(desc=lambda: "Failed to parse\n  the model")

    flagged = major < 12
    flags = SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)
    found = SimpleNamespace(
        __name__=name, __version__=version, ILogger=ILogger, Runtime=Runtime, Builder=Builder,
        OnnxParser=OnnxParser, TensorIOMode=TensorIOMode, nptype=np.dtype,
        NetworkDefinitionCreationFlag=flags if flagged else SimpleNamespace(),
        BuilderFlag=SimpleNamespace(TF32="TF32"),  # those for precisions are gone in 11
        ProfilingVerbosity=SimpleNamespace(DETAILED="DETAILED"),
        LayerInformationFormat=SimpleNamespace(JSON="JSON"),
        engines=made, built=built,
    )  # fmt: skip
    if name == "tensorrt_rtx":
        found.ComputeCapability = SimpleNamespace(SM75="75", SM86="86", SM89="89", SM120="120")
    return found


def _array(address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)
