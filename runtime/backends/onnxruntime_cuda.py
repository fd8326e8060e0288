"""ONNX Runtime on an NVIDIA GPU: its CUDA execution provider, or an error that says why not.

ONNX Runtime itself runs a network on the CPU, without a word, if its CUDA provider cannot be loaded. Here
that is a BackendError with the missing library's name, and a network of which some nodes stay on the CPU
says so in ``backend``.

Buffers on the GPU are allocated once, when a session opens, and bound to the network; a run copies the
inputs into them and the outputs out of them. The first run happens at opening: convolution algorithms are
chosen and, with ``graph``, the launches are captured as one CUDA graph.

``precision="tf32"`` multiplies float32 numbers with 10 bits of mantissa on the tensor cores (Ampere and
newer); "float32" keeps all 23. "float16" is for a network that computes in float16 (``doppelgan compile``,
``export/variants/fp16.py``) and is chosen by itself: ONNX Runtime's switch for TF32 also keeps float16 from
the tensor cores, so it must be on there, and the network's few float32 products are TF32 then.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ..errors import BackendError
from ..host.files import under_plain_name
from .base import Array, check_feeds, check_outputs
from .native.onnx_file import read_graph
from .onnxruntime import spec_of

PROVIDER = "CUDAExecutionProvider"
PRECISIONS = ("float32", "tf32", "float16")
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_HALF = 10  # float16 among ONNX's data types
# y = x * x for float32 [4], as ONNX: what `doctor` computes.
_PRODUCT = bytes.fromhex(
    "080812003a350a0e0a01780a017812017922034d756c1201705a0f0a0178120a0a08080112040a020804620f0a0179"
    "120a0a08080112040a02080442040a001012"
)
_MISSING = "a library missing: "
LAYOUTS = ("channels_first", "channels_last")
REMEDY = (
    '`pip install "doppelgan[gpu]"`, then `pip uninstall -y onnxruntime onnxruntime-gpu` and '
    "`pip install onnxruntime-gpu`: the two packages overwrite each other; or use another backend"
)


class CudaSession:
    """A fixed-shape ONNX network with its buffers on the GPU."""

    def __init__(
        self,
        name: str,  # of the network, for messages
        session: ort.InferenceSession,
        backend: str,  # what computes, for people
        device: str = "cuda",  # where the buffers lie: ONNX Runtime's word
    ) -> None:
        self._name = name
        self._session: ort.InferenceSession | None = session
        self.backend = backend
        self.inputs = tuple(map(spec_of, session.get_inputs()))
        self.outputs = tuple(map(spec_of, session.get_outputs()))
        self._binding = session.io_binding()
        self._buffers: dict[str, Any] = {}
        self._copy = _copy_to_host() if device == "cuda" else None
        for specs, bind in (
            (self.inputs, self._binding.bind_ortvalue_input),
            (self.outputs, self._binding.bind_ortvalue_output),
        ):
            for spec in specs:
                buffer = ort.OrtValue.ortvalue_from_shape_and_type(
                    list(spec.shape), np.dtype(spec.dtype).type, device, 0
                )
                bind(spec.name, buffer)
                self._buffers[spec.name] = buffer
        self._warm_up()

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        checked = check_feeds(self.inputs, feeds, self._name)
        out = out or {}
        check_outputs(self.outputs, out, self._name)
        session = self._opened()
        for name, array in checked.items():
            self._buffers[name].update_inplace(array)
        self._compute(session)
        results: dict[str, Array] = {}
        for spec in self.outputs:
            target = out[spec.name] if spec.name in out else np.empty(spec.shape, spec.dtype)
            self._fetch(spec.name, target)
            results[spec.name] = target
        return results

    def compute(self) -> None:
        """Run on what the buffers hold and leave the outputs on the GPU: for measuring."""
        self._compute(self._opened())

    def close(self) -> None:
        self._binding = None
        self._buffers.clear()
        self._session = None

    def _fetch(self, name: str, target: Array) -> None:
        """Copy an output to the CPU, straight to where it is wanted if the driver does that."""
        buffer = self._buffers[name]
        if self._copy is None or self._copy(target.ctypes.data, buffer.data_ptr(), target.nbytes):
            np.copyto(target, buffer.numpy())  # by way of an array of its own

    def _opened(self) -> ort.InferenceSession:
        if self._session is None:
            raise BackendError(f"{self._name}: expected an open session, got a closed one; open it again")
        return self._session

    def _compute(self, session: ort.InferenceSession) -> None:
        try:
            session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise BackendError(f"{self._name}: the GPU failed: {_first_line(error)}") from error

    def _warm_up(self) -> None:
        for spec in self.inputs:
            self._buffers[spec.name].update_inplace(np.zeros(spec.shape, spec.dtype))
        self._compute(self._opened())


def open(  # noqa: A001 - the backends' common verb
    path: Path,
    *,
    threads: int | None = None,  # of what stays on the CPU
    precision: str | None = None,  # of PRECISIONS; None: "float16" or "float32", as the network computes
    graph: bool = True,  # capture a CUDA graph, if the whole network is on the GPU
    layout: str = "channels_first",  # of LAYOUTS: of feature maps inside the network
    **options: Any,
) -> CudaSession:
    """Open ``path`` on the GPU. Raises BackendError if there is none, or if the network is bad."""
    if options:
        raise BackendError(f"cuda: expected options precision, graph, layout; got {sorted(options)}")
    for what, value, allowed in (("precision", precision, PRECISIONS), ("layout", layout, LAYOUTS)):
        if value is not None and value not in allowed:
            raise BackendError(f"cuda: expected a {what} of {', '.join(allowed)}, got {value!r}")
    if reason := why_not():
        raise BackendError(f"cuda: expected ONNX Runtime on an NVIDIA GPU, got {reason}")
    if precision is None:
        precision = "float16" if _computes_in_half(path) else "float32"
    provider = {
        "use_tf32": str(int(precision != "float32")),
        "prefer_nhwc": str(int(layout == "channels_last")),
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }
    label = f"onnxruntime CUDA {precision}"
    captured = {**provider, "enable_cuda_graph": "1"}
    # From the best way to the last resort.
    ways = ((captured, True, ""), (provider, True, ""), (provider, False, ", partly CPU"))
    for settings, whole, note in ways:
        if settings is captured and not graph:
            continue
        try:
            session = create_session(path, threads, (PROVIDER, settings), whole)
            return CudaSession(path.name, session, label + note)
        except BackendError:
            if not whole:
                raise
    raise AssertionError("the last resort returns or raises")


def create_session(
    path: Path,
    threads: int | None,
    provider: tuple[str, dict[str, str]],
    whole: bool,  # refuse a network of which nodes would run on the CPU
) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4 if whole else 3
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if whole and provider[0] != "CPUExecutionProvider":
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if threads is not None:
        settings.intra_op_num_threads = threads
    try:
        with under_plain_name(path) as file:
            session = ort.InferenceSession(str(file), settings, providers=[provider])
    except Exception as error:  # ONNX Runtime raises many unrelated types
        raise BackendError(
            f"{path}: expected a network that ONNX Runtime can load; {_first_line(error)}"
        ) from error
    if session.get_providers()[0] != provider[0]:
        raise BackendError(f"{path}: expected {provider[0]}, got {session.get_providers()}; {REMEDY}")
    return session


@cache
def why_not() -> str:
    """Why networks cannot run on a GPU here, with the remedy; empty if they can."""
    if PROVIDER not in ort.get_available_providers():
        return f"{package()}, which has no CUDA; {REMEDY}"
    with contextlib.redirect_stdout(io.StringIO()) as said:  # it prints what it does not find
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
    if sys.platform == "linux":
        if reason := _unloadable():
            missing = reason.removeprefix(_MISSING).split(":")[0]
            others = [line.strip() for line in said.getvalue().splitlines() if missing not in line]
            return f"{package()} with {reason}" + (f" ({others[0]})" if others and others[0] else "")
    return _no_device()


@cache
def _copy_to_host() -> Any:
    """The driver's ``(target, source, bytes) -> 0 or an error``; None if it cannot be reached.

    It works in the context of the thread, which ONNX Runtime has made current by running there.
    """
    try:
        function = ctypes.CDLL(_DRIVER).cuMemcpyDtoH_v2
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t]
    return function


def really_runs() -> tuple[bool, str]:
    """Whether a network computes on the GPU here, and what to tell people: a product is computed there."""
    if reason := why_not():
        return False, reason
    try:
        with tempfile.TemporaryDirectory(prefix="doppelgan-") as folder:
            path = Path(folder) / "product.onnx"
            path.write_bytes(_PRODUCT)
            session = open(path, graph=False)
            x = np.arange(4, dtype=np.float32)
            (result,) = session.run({"x": x}).values()
            session.close()
    except BackendError as error:
        return False, str(error)
    right = bool(np.array_equal(result, x * x))
    return (
        right,
        f"--backend cuda; computed there: {session.backend}" if right else f"got {result} for {x} squared",
    )


def package() -> str:
    """Which of the packages that share the name is loaded, e.g. "onnxruntime-gpu 1.31.1 for CUDA 13.0"."""
    from onnxruntime.capi import build_and_package_info as info

    cuda = getattr(info, "cuda_version", "")
    name = getattr(info, "package_name", "onnxruntime")
    return f"{name} {ort.__version__}" + (f" for CUDA {cuda}" if cuda else "")


def _unloadable() -> str:
    """What the provider's library lacks."""
    folder = Path(ort.__file__).parent / "capi"
    try:
        for name, mode in (("shared", ctypes.RTLD_GLOBAL), ("cuda", ctypes.DEFAULT_MODE)):
            ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"), mode=mode)
    except OSError as error:
        return f'{_MISSING}{error}; `pip install "onnxruntime-gpu[cuda,cudnn]"` brings NVIDIA\'s'
    return ""


def _no_device() -> str:
    """Ask the driver for a GPU."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        return f"no NVIDIA driver ({error}); install it"
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return f"no usable NVIDIA GPU (the driver answers {code}); `nvidia-smi` must list one"
    return ""


def _computes_in_half(path: Path) -> bool:
    """Whether anything in the network is cast to float16; a file that cannot be read is reported later."""
    try:
        nodes = read_graph(path).nodes
    except BackendError:
        return False
    return any(node.op == "Cast" and node.attributes.get("to") == _HALF for node in nodes)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
