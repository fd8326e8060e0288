"""OpenVINO on the CPU: compiled in this process, tuned for the latency of one frame.

Needs the extra ``openvino``. ``precision`` is what the CPU computes in: ``"f32"`` everywhere, ``"bf16"``
or ``"f16"`` only where the CPU has instructions for it (:func:`cpu_precisions` tells). Networks with
Q/DQ nodes run their convolutions in int8 whatever the precision of the rest.

Compiling takes longer than all else at a start, so what was compiled is kept for the next one where the
caller vouches for the file by its sha256: in ``openvino/`` of the user's cache, under the rules of
``host/private_cache.py`` (it is executed, so it never comes from a bundle), for one machine, version of
OpenVINO, network and set of options.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError
from ..host.files import under_plain_name
from ..host.machine import this_machine
from ..host.private_cache import read_private, write_private
from .base import Array, TensorSpec, check_feeds, check_outputs

# OPTIMIZATION_CAPABILITIES -> the name that INFERENCE_PRECISION_HINT takes.
_PRECISIONS = {"FP32": "f32", "BF16": "bf16", "FP16": "f16"}
_CONVERTER = "openvino.tools.ovc"
_KIND = "openvino"  # folder of the user's cache
_SINK = "/sink_port_0"  # what OpenVINO adds to the name of an output


class OpenVinoSession:
    """A fixed-shape network compiled by OpenVINO."""

    def __init__(self, path: Path, compiled: Any, precision: str) -> None:
        self._name = path.name
        self.inputs = tuple(map(_spec, compiled.inputs))
        self.outputs = tuple(map(_spec, compiled.outputs))
        self.backend = f"openvino CPU {precision}"
        self._request: Any = compiled.create_infer_request()

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        if self._request is None:
            raise BackendError(f"{self._name}: expected an open session, got a closed one; open it again")
        feeds = check_feeds(self.inputs, feeds, self._name)
        out = out or {}
        check_outputs(self.outputs, out, self._name)
        # The engine's own tensors are filled and read: a request would keep hold of the caller's.
        for index, spec in enumerate(self.inputs):
            np.copyto(self._request.get_input_tensor(index).data, feeds[spec.name])
        self._request.infer()
        results: dict[str, Array] = {}
        for index, spec in enumerate(self.outputs):
            buffer = out[spec.name] if spec.name in out else np.empty(spec.shape, spec.dtype)
            np.copyto(buffer, self._request.get_output_tensor(index).data)
            results[spec.name] = buffer
        return results

    def close(self) -> None:
        self._request = None


def open(  # noqa: A001 - the backends' common verb
    path: Path,
    *,
    threads: int | None = None,
    precision: str = "f32",  # "f32", or "bf16" / "f16" where the CPU computes in it
    verified_sha256: str = "",  # of the file, compared by the caller: keep what is compiled under it
    **options: Any,
) -> OpenVinoSession:
    """Compile ``path`` for the CPU. Raises BackendError for a bad network or a precision the CPU lacks."""
    if options:
        raise BackendError(f"openvino: expected options threads, precision; got {sorted(options)}")
    core = _core()
    if precision not in cpu_precisions():
        raise BackendError(
            f"openvino: expected a precision of {', '.join(cpu_precisions())} (what this CPU computes in), "
            f"got {precision!r}; use f32, or int8 through a quantized network"
        )
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        # Capture, other networks and other programs want the same cores: let the system place the threads.
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    key = _key(verified_sha256, settings)
    compiled = _compiled_before(core, key, settings) if verified_sha256 else None
    if compiled is None:
        try:
            with under_plain_name(path) as file:
                compiled = core.compile_model(str(file), "CPU", settings)
        except Exception as error:  # OpenVINO raises plain RuntimeErrors of many lines
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[-1] if lines else type(error).__name__
            raise BackendError(f"{path}: expected a network that OpenVINO can load; {reason}") from error
        if verified_sha256:
            _keep(key, compiled)
    return OpenVinoSession(path, compiled, precision)


def _key(sha256: str, settings: Mapping[str, Any]) -> list[str]:
    """All that a compiled network depends on."""
    from openvino import get_version

    options = (f"{name}={value}" for name, value in sorted(settings.items()))
    return [this_machine().key, get_version(), sha256, *options]


def _compiled_before(core: Any, key: Sequence[str], settings: Mapping[str, Any]) -> Any | None:
    data = read_private(_KIND, key)
    if data is None:
        return None
    try:
        return core.import_model(data, "CPU", settings)
    except Exception:  # whatever it dislikes about its own file: compiling anew replaces it
        return None


def _keep(key: Sequence[str], compiled: Any) -> None:
    try:
        data = compiled.export_model().getbuffer()
    except Exception:  # a network that cannot be exported is compiled at every start
        return
    write_private(_KIND, key, data)


@lru_cache(maxsize=1)
def cpu_precisions() -> tuple[str, ...]:
    """Floating-point precisions that this CPU computes in, e.g. ("f32", "bf16"). Raises BackendError."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for capability, name in _PRECISIONS.items() if capability in capabilities)


@lru_cache(maxsize=1)
def _core() -> Any:
    try:
        if "openvino" not in sys.modules:
            _import_without_converter()
        from openvino import Core
    except ModuleNotFoundError:
        raise BackendError(
            "openvino: expected the package to be installed, got none; "
            'run `pip install "doppelgan[openvino]"`'
        ) from None
    return Core()


def _import_without_converter() -> None:
    """Import OpenVINO without its converter of other frameworks' models, which it can do without.

    The converter takes most of the import's time, and on being imported it reports the import to its maker's
    statistics server, unless the user has opted out. Later it can be imported as ever.
    """
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # Python's way to say "not to be found"
    try:
        import_module("openvino")
    except ImportError:  # not installed, or a version that insists: the caller's own import tells
        sys.modules.pop("openvino", None)
    finally:
        del sys.modules[_CONVERTER]


def _spec(port: Any) -> TensorSpec:
    # Tensors that were merged keep all their names; the node at the border has the one of the file.
    names = port.get_names()
    name = port.node.friendly_name.removesuffix(_SINK)
    name = name if name in names else port.get_any_name()
    if port.partial_shape.is_dynamic:
        raise BackendError(
            f"{name}: expected a fixed shape, got {port.partial_shape}; export with fixed shapes"
        )
    return TensorSpec(name, np.dtype(port.element_type.to_dtype()).name, tuple(port.shape))
