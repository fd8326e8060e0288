"""ONNX Runtime: the backend that runs everywhere and the reference for all others.

Execution providers are tried in the order given; the CPU is always the last. Inputs and outputs are
bound by address, so a call with ``out`` buffers copies nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ..errors import BackendError
from ..host.files import under_plain_name
from .base import Array, TensorSpec, check_feeds, check_outputs

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class OnnxRuntimeSession:
    """A fixed-shape ONNX network in ONNX Runtime."""

    def __init__(self, path: Path, session: ort.InferenceSession) -> None:
        self._name = path.name
        self._session: ort.InferenceSession | None = session
        self.inputs = tuple(map(spec_of, session.get_inputs()))
        self.outputs = tuple(map(spec_of, session.get_outputs()))
        provider = session.get_providers()[0].removesuffix("ExecutionProvider")
        self.backend = f"onnxruntime {provider}"
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        if self._session is None:
            raise BackendError(f"{self._name}: expected an open session, got a closed one; open it again")
        feeds = check_feeds(self.inputs, feeds, self._name)
        if not out:
            return dict(zip(self._output_names, self._session.run(self._output_names, feeds), strict=True))
        check_outputs(self.outputs, out, self._name)
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for spec in self.outputs:
            if spec.name not in out:
                binding.bind_output(spec.name)
                continue
            array = out[spec.name]
            binding.bind_output(spec.name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
        self._session.run_with_iobinding(binding)
        results = binding.get_outputs()
        return {
            name: out[name] if name in out else value.numpy()
            for name, value in zip(self._output_names, results, strict=True)
        }

    def close(self) -> None:
        self._session = None


def open(  # noqa: A001 - the backends' common verb
    path: Path,
    *,
    threads: int | None = None,
    providers: Sequence[str] = (),  # execution providers to prefer, e.g. "CUDAExecutionProvider"
    **options: Any,
) -> OnnxRuntimeSession:
    """Open ``path`` with ONNX Runtime. Raises BackendError for a bad network or missing provider."""
    if options:
        raise BackendError(f"onnxruntime: expected options threads, providers; got {sorted(options)}")
    missing = [name for name in providers if name not in ort.get_available_providers()]
    if missing:
        raise BackendError(
            f"onnxruntime: expected one of {ort.get_available_providers()}, got {missing}; "
            "install onnxruntime-gpu in place of onnxruntime for CUDA and TensorRT"
        )
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # A pipeline runs one network after the other: workers that spin on would slow the next one.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        settings.intra_op_num_threads = threads
    try:
        with under_plain_name(path) as file:
            session = ort.InferenceSession(
                str(file), settings, providers=[*providers, "CPUExecutionProvider"]
            )
    except Exception as error:  # ONNX Runtime raises many unrelated types
        reason = str(error).splitlines()[0]
        raise BackendError(f"{path}: expected a network that ONNX Runtime can load; {reason}") from error
    return OnnxRuntimeSession(path, session)


def spec_of(node: Any) -> TensorSpec:
    if node.type not in _DTYPES or not all(isinstance(size, int) for size in node.shape):
        raise BackendError(
            f"{node.name}: expected a fixed shape and a numeric type, got {node.type} {node.shape}; "
            "export with fixed shapes"
        )
    return TensorSpec(node.name, _DTYPES[node.type], tuple(node.shape))
