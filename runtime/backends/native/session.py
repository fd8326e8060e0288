"""The compiled networks of this package: one program instead of a graph.

Runs synthesis networks and encoders of the pSp family as ``doppelgan export`` writes them, on x86-64 with
AVX2 and on aarch64, and refuses every other network. Convolutions are Winograd's, and what follows one
happens in the same pass over a map: ``runtime/native/networks``.

``precision="int16"`` rounds both sides of the large layers' products to 16-bit integers, weights once, the
transformed pixels of every tile as they come, each row to a scale of its own; sums are exact in 32 bits and
cannot overflow. Maps between such layers are kept in bfloat16; everything else stays float32. It pays where a
processor multiplies twice as many integers at once as floats: AVX2.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ... import native
from ...errors import BackendError
from ...host.machine import this_machine
from ..base import Array, ChooseRows, TensorSpec, check_feeds, check_outputs
from . import encoder_graph, synthesis_graph
from .encoder_graph import Convolution, Doubling, EncoderNetwork
from .onnx_file import read_graph
from .synthesis_graph import Style, SynthesisNetwork

if TYPE_CHECKING:
    from typing_extensions import Self

_Network = TypeVar("_Network")


def why_not() -> str:
    """Why networks cannot run here, with the remedy; empty if they can."""
    if native.synthesis() is not None and native.encoder() is not None:
        return ""
    return "no compiled module that serves this processor; reinstall doppelgan with GCC or Clang"


def precisions() -> tuple[str, ...]:
    """What is worth trying here: "float32", and "int16" on x86-64."""
    return ("float32", "int16") if platform.machine() in ("x86_64", "AMD64") else ("float32",)


class NativeSession:
    """A network of fixed shapes, batch 1, one input and one output."""

    def __init__(
        self,
        path: Path,
        feed: TensorSpec,
        result: TensorSpec,
        compiled: Any,
        threads: int,
        precision: str,
    ) -> None:
        self._name = path.name
        self._compiled = compiled
        self._threads = threads
        self.inputs = (feed,)
        self.outputs = (result,)
        self.backend = "native CPU" if precision == "float32" else f"native CPU {precision}"

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        if self._compiled is None:
            raise BackendError(f"{self._name}: expected an open session, got a closed one; open it again")
        feeds = check_feeds(self.inputs, feeds, self._name)
        out = out or {}
        check_outputs(self.outputs, out, self._name)
        (feed,), (result,) = self.inputs, self.outputs
        buffer = out[result.name] if result.name in out else np.empty(result.shape, result.dtype)
        self._compiled.run(feeds[feed.name][0], buffer[0], self._threads)
        return {result.name: buffer}

    @property
    def bytes(self) -> int:
        """Memory of weights and feature maps; all of it after the first run."""
        return 0 if self._compiled is None else int(self._compiled.bytes)

    def with_threads(self, threads: int) -> Self:
        """The same network on other threads, in the same memory: one run at a time; close each."""
        other = copy(self)
        other._threads = threads
        return other

    def close(self) -> None:
        self._compiled = None


class NativeGenerator(NativeSession):
    """A synthesis network, which also draws several pictures in one pass, at any of its resolutions."""

    most_pictures = 3

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides, in pixels, that :meth:`run_together` draws: 4, 8 ... the network's own."""
        whole = self.outputs[0].shape[-1]
        return tuple(4 << level for level in range((whole // 4).bit_length()))

    def run_together(
        self, codes: Sequence[Array], pictures: Sequence[Array], rows: ChooseRows | None = None
    ) -> None:
        """Draw each of up to three codes into its picture, as runs of their own would.

        codes     float32 [1,n_styles,w_dim] each
        pictures  float32 [1,3,S,S] each, C-contiguous, written; S is one of ``sizes``. A smaller one gets the
                  network's RGB sum of that resolution, at the price of the layers to it
        rows      asked on the way, with the pictures at a quarter of S or 64 px, whichever is more; the rows
                  that it chooses are drawn as without it, and the others are those coarser pictures doubled.
                  Not asked where S is 64 or less

        Weights are read once for all; layers before the first row of codes that differs are computed once.
        Raises BackendError for other arrays.
        """
        if self._compiled is None:
            raise BackendError(f"{self._name}: expected an open session, got a closed one; open it again")
        if len(codes) != len(pictures) or not 1 <= len(codes) <= self.most_pictures:
            raise BackendError(
                f"{self._name}: expected up to {self.most_pictures} codes and a picture for each, "
                f"got {len(codes)} and {len(pictures)}"
            )
        (feed,), (result,) = self.inputs, self.outputs
        size = pictures[0].shape[-1] if pictures[0].ndim else 0
        if size not in self.sizes:
            raise BackendError(
                f"{self._name}: expected pictures of a size in {self.sizes}, got {size} pixels"
            )
        wanted = TensorSpec(result.name, result.dtype, (1, 3, size, size))
        for k, picture in enumerate(pictures):
            check_outputs((wanted,), {result.name: picture}, self._name)
            if any(np.shares_memory(picture, other) for other in pictures[:k]):
                raise BackendError(f"{self._name}: expected a picture for each code, got one array twice")
        checked = [check_feeds(self.inputs, {feed.name: one}, self._name)[feed.name][0] for one in codes]
        self._compiled.run_together(checked, [picture[0] for picture in pictures], self._threads, rows)


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
    if why_not():
        raise BackendError(
            "native: expected the compiled kernels and a processor with AVX2 and FMA, or aarch64; "
            "reinstall doppelgan with a C++17 compiler, or use another backend"
        )
    graph = read_graph(path)
    threads = threads or this_machine().cores
    if len(graph.inputs) == 1 and len(graph.inputs[0].shape) == 3:
        synthesis = synthesis_graph.recognize(graph, path.name)
        codes = TensorSpec(synthesis.input, "float32", (1, synthesis.rows, synthesis.w_dim))
        image = TensorSpec(synthesis.output, "float32", (1, 3, synthesis.size, synthesis.size))
        compiled = _compiled(path, _compiled_synthesis, synthesis, precision)
        return NativeGenerator(path, codes, image, compiled, threads, precision)
    encoder = encoder_graph.recognize(graph, path.name)
    crop = TensorSpec(encoder.input, "float32", (1, encoder.planes, encoder.size, encoder.size))
    codes = TensorSpec(encoder.output, "float32", (1, len(encoder.rows), encoder.w_dim))
    compiled = _compiled(path, _compiled_encoder, encoder, precision)
    return NativeSession(path, crop, codes, compiled, threads, precision)


def _compiled(path: Path, build: Callable[[_Network, str], Any], network: _Network, precision: str) -> Any:
    try:
        return build(network, precision)
    except (ValueError, TypeError) as error:  # an array of another size than its layer's
        raise BackendError(
            f"{path.name}: expected layers whose arrays fit each other: {error}; another backend may take it"
        ) from None
    except MemoryError:
        raise BackendError(
            f"{path.name}: expected memory for its weights and feature maps, got too little; "
            "use another backend or a smaller network"
        ) from None


def _compiled_synthesis(network: SynthesisNetwork, precision: str) -> Any:
    return native.synthesis()(
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


def _style(style: Style) -> dict[str, Any]:
    return {"row": style.row, "style_weight": style.weight, "style_bias": style.bias}


def _fir(fir: tuple[Array, Array] | None) -> dict[str, Array]:
    return {} if fir is None else {"fir_down": fir[0], "fir_across": fir[1]}


def _compiled_encoder(network: EncoderNetwork, precision: str) -> Any:
    return native.encoder()(
        network.planes,
        network.size,
        network.w_dim,
        list(network.maps),
        [_step(step) for step in network.steps],
        [
            {
                "source": row.source,
                "base": -1 if row.base is None else row.base,
                "bias": row.bias,
                **_given(weight=row.weight),
            }
            for row in network.rows
        ],
        precision,
    )


def _step(step: encoder_graph.Step) -> dict[str, Any]:
    ends = {"source": step.source, "target": step.target}
    if isinstance(step, Doubling):
        return {"kind": "double", **ends}
    if not isinstance(step, Convolution):
        return {
            "kind": "gate",
            "other": step.other,
            "stride": step.stride,
            "squeezed": step.squeeze.shape[0],
            "gate1": step.squeeze,
            "gate2": step.excite,
            **ends,
        }
    return {
        "kind": "conv",
        "side": step.weight.shape[-1],
        "stride": step.stride,
        "weight": step.weight,
        "bias": step.bias,
        "slope": step.slope,
        **_given(other=step.other, scale=step.scale, shift=step.shift),
        **ends,
    }


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
