"""The compiled StyleGAN2 synthesis of this package: one program instead of a graph.

Runs synthesis networks as ``doppelgan export`` writes them, on x86-64 with AVX2 and on aarch64, and refuses
every other network. Convolutions are Winograd's; demodulation, noise, bias, activation, the next style and
the RGB sum happen in the same pass over a feature map (``runtime/native/synthesis.h``).

``precision="int16"`` rounds both sides of the large layers' products to 16-bit integers, weights once, the
transformed pixels of every tile as they come, each row to a scale of its own; sums are exact in 32 bits and
cannot overflow. Maps between such layers are kept in bfloat16; everything else stays float32. It pays where a
processor multiplies twice as many integers at once as floats: AVX2.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import native
from ..errors import BackendError
from ..onnx_file import read_graph
from ..synthesis_graph import Style, SynthesisNetwork, recognize
from .base import Array, TensorSpec, check_feeds, check_outputs


def available() -> bool:
    """Whether the compiled module is there and serves this processor."""
    return native.synthesis() is not None


def precisions() -> tuple[str, ...]:
    """What is worth trying here: "float32", and "int16" on x86-64."""
    return ("float32", "int16") if platform.machine() in ("x86_64", "AMD64") else ("float32",)


class NativeSession:
    """A synthesis network of fixed shapes, batch 1."""

    def __init__(
        self, path: Path, network: SynthesisNetwork, compiled: Any, threads: int, precision: str
    ) -> None:
        self._name = path.name
        self._compiled = compiled
        self._threads = threads
        self.inputs = (TensorSpec(network.input, "float32", (1, network.rows, network.w_dim)),)
        self.outputs = (TensorSpec(network.output, "float32", (1, 3, network.size, network.size)),)
        self.backend = "native CPU" if precision == "float32" else f"native CPU {precision}"

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        if self._compiled is None:
            raise BackendError(f"{self._name}: expected an open session, got a closed one; open it again")
        feeds = check_feeds(self.inputs, feeds, self._name)
        out = out or {}
        check_outputs(self.outputs, out, self._name)
        (codes,), (image,) = self.inputs, self.outputs
        buffer = out[image.name] if image.name in out else np.empty(image.shape, image.dtype)
        self._compiled.run(feeds[codes.name][0], buffer[0], self._threads)
        return {image.name: buffer}

    def close(self) -> None:
        self._compiled = None


def open(  # noqa: A001 - the backends' common verb
    path: Path,
    *,
    threads: int | None = None,
    precision: str = "float32",
    **options: Any,
) -> NativeSession:
    """Compile ``path``. Raises BackendError for other networks, and where the compiled module is missing."""
    if options:
        raise BackendError(f"native: expected the options threads, precision; got {sorted(options)}")
    if precision not in ("float32", "int16"):
        raise BackendError(f"native: expected the precision float32 or int16, got {precision!r}")
    module = native.synthesis()
    if module is None:
        raise BackendError(
            "native: expected the compiled kernels and a processor with AVX2 and FMA, or aarch64; "
            "reinstall doppelgan with a C++17 compiler, or use another backend"
        )
    network = recognize(read_graph(path), path.name)
    compiled = module(
        network.w_dim,
        network.rows,
        network.constant,
        [
            {
                "inputs": conv.style.weight.shape[0],
                "outputs": conv.demod.shape[0],
                "weight": conv.weight,
                "demod": conv.demod,
                "eps": conv.eps,
                "noise": conv.noise,
                "bias": conv.bias,
                "clamp": conv.clamp,
                **_style(conv.style),
                **_fir(conv.fir),
            }
            for conv in network.convs
        ],
        [
            {
                "inputs": rgb.style.weight.shape[0],
                "weight": rgb.weight,
                "bias": rgb.bias,
                "clamp": rgb.clamp,
                **_style(rgb.style),
                **_fir(rgb.fir),
            }
            for rgb in network.rgbs
        ],
        precision,
    )
    return NativeSession(path, network, compiled, threads or os.cpu_count() or 1, precision)


def _style(style: Style) -> dict[str, Any]:
    return {"row": style.row, "style_weight": style.weight, "style_bias": style.bias}


def _fir(fir: tuple[Array, Array] | None) -> dict[str, Array]:
    return {} if fir is None else {"fir_down": fir[0], "fir_across": fir[1]}
