"""Networks of a bundle, read back as tensors that can go on learning: the exporter's inverse.

What the exporter folded together comes apart again as the widespread ``stylegan2-pytorch`` layout names it
(`trainable.py` computes with it, ``torch.load`` finds the same names in a checkpoint)::

    synthesis = SynthesisFile(folder / "synthesis.onnx")
    module = synthesis.module()                  # trainable.Synthesis, float32
    ...                                          # train
    data = synthesis.rewritten(module)           # the same ONNX file with the module's numbers

Products of two stored factors can be told apart only up to a number: noise strengths are chosen so that every
noise map has unit variance. Gains of equalized learning rates are divided out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from doppelgan.runtime.backends.native.graph_reader import GraphReader
from doppelgan.runtime.backends.native.onnx_file import Border, parse_graph, with_constants
from doppelgan.runtime.backends.native.synthesis_graph import SLOPE, SynthesisNetwork, recognize
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.errors import BackendError, BundleError
from numpy.typing import NDArray
from torch import Tensor

from .trainable import Synthesis

Array = NDArray[Any]
_SQRT2 = math.sqrt(2)
_LR_MUL = 0.01  # of the mapping network in this layout
_FIR = np.array([1, 3, 3, 1], np.float64) / 4  # its outer product sums to 4


class SynthesisFile:
    """A synthesis network as ``doppelgan export`` writes it, in float32 or with constants stored in float16.

    Raises BackendError for any other network.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise BackendError(f"{path}: expected a readable ONNX file; {error.strerror}") from None
        self.network = recognize(parse_graph(self.data, str(path)), str(path))
        _check_fir(self.network, str(path))

    def module(self) -> Synthesis:
        """A new module that draws the same pictures."""
        network = self.network
        channels = [network.constant.shape[0], *(conv.demod.shape[0] for conv in network.convs[2::2])]
        module = Synthesis(channels, network.w_dim)
        for (_, layer), known in zip(module.layers(), network.layers(), strict=True):
            layer.clamp = known.clamp if math.isfinite(known.clamp) else None
        module.load_state_dict(synthesis_state(network))
        return module

    def rewritten(self, module: Synthesis) -> bytes:
        """The file with ``module``'s numbers in place of its own, in the types that it stores."""
        return with_constants(self.data, self.constants(module))

    def stored(self) -> dict[str, Array]:
        """All constants as the file stores them, by name."""
        return parse_graph(self.data, self.name).constants

    def constants(self, module: Synthesis) -> dict[str, Array]:
        """``module`` as constants of the file: name in the file -> float32 array of the stored shape."""
        state = {name: value.detach().cpu().double().numpy() for name, value in module.state_dict().items()}
        network, constants = self.network, _Constants()
        constants.put(network.constant_name, state["input.input"])
        for i, conv in enumerate(network.convs):
            prefix = "conv1" if i == 0 else f"convs.{i - 1}"
            weight = state[f"{prefix}.conv.weight"][0]
            weight = weight / math.sqrt(weight[0].size)
            constants.put(conv.names["weight"], weight if conv.fir is None else weight.swapaxes(0, 1))
            constants.put(conv.names["demod"], np.square(weight).sum(axis=(2, 3)) / 2)
            constants.put(conv.names["bias"], state[f"{prefix}.activate.bias"] * _SQRT2)
            strength = state[f"{prefix}.noise.weight"][0] * _SQRT2
            constants.put(conv.names["noise"], state[f"noises.noise_{i}"] * strength)
            _put_style(constants, conv.style, state, f"{prefix}.conv")
        for i, rgb in enumerate(network.rgbs):
            prefix = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
            weight = state[f"{prefix}.conv.weight"][0, :, :, 0, 0]
            constants.put(rgb.names["weight"], weight / math.sqrt(weight.shape[1]))
            constants.put(rgb.names["bias"], state[f"{prefix}.bias"])
            _put_style(constants, rgb.style, state, f"{prefix}.conv")
        return constants.finished(self.stored())


def synthesis_state(network: SynthesisNetwork) -> dict[str, Tensor]:
    """The network's tensors, float32, named and scaled as in ``stylegan2-pytorch``."""
    state: dict[str, Array] = {"input.input": network.constant[None]}

    def put_style(prefix: str, weight: Array, bias: Array) -> None:
        state[f"{prefix}.modulation.weight"] = weight * math.sqrt(network.w_dim)
        state[f"{prefix}.modulation.bias"] = bias

    kernel = np.outer(_FIR, _FIR)
    for i, conv in enumerate(network.convs):
        prefix = "conv1" if i == 0 else f"convs.{i - 1}"
        weight = conv.weight if conv.fir is None else conv.weight.swapaxes(0, 1)
        state[f"{prefix}.conv.weight"] = weight[None] * math.sqrt(weight[0].size)
        put_style(f"{prefix}.conv", conv.style.weight, conv.style.bias)
        spread = float(conv.noise.std()) or 1.0
        state[f"noises.noise_{i}"] = conv.noise[None, None] / spread
        state[f"{prefix}.noise.weight"] = np.array([spread / _SQRT2])
        state[f"{prefix}.activate.bias"] = conv.bias / _SQRT2
        if conv.fir is not None:
            state[f"{prefix}.conv.blur.kernel"] = kernel
    for i, rgb in enumerate(network.rgbs):
        prefix = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
        state[f"{prefix}.conv.weight"] = rgb.weight[None, :, :, None, None] * math.sqrt(rgb.weight.shape[1])
        put_style(f"{prefix}.conv", rgb.style.weight, rgb.style.bias)
        state[f"{prefix}.bias"] = rgb.bias.reshape(1, 3, 1, 1)
        if rgb.fir is not None:
            state[f"{prefix}.upsample.kernel"] = kernel
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in state.items()}


def mapping_state(path: Path) -> dict[str, Tensor]:
    """A mapping network's tensors, ``1.weight``, ``1.bias``, ``2.weight`` ...: see ``trainable.Mapping``."""
    layers = _MappingReader(parse_graph(path.read_bytes(), str(path)), str(path)).read()
    state: dict[str, Tensor] = {}
    for i, (weight, bias) in enumerate(layers, 1):
        gain = _SQRT2 * _LR_MUL
        state[f"{i}.weight"] = torch.tensor(weight * (math.sqrt(weight.shape[1]) / gain), dtype=torch.float32)
        state[f"{i}.bias"] = torch.tensor(bias / gain, dtype=torch.float32)
    return state


def generator_state(bundle: Bundle, style: str = "photo") -> dict[str, Tensor]:
    """A generator of the bundle as one ``stylegan2-pytorch`` state dict (``g_ema``).

    Its mapping network is included if there is one.

    Raises BundleError for an unknown style, BackendError for a generator of another make.
    """
    if style not in bundle.styles:
        raise BundleError(f"{bundle.path}: expected a style of {', '.join(bundle.styles)}, got {style!r}")
    file = bundle.manifest.networks[bundle.manifest.generators[style]].file
    state = synthesis_state(SynthesisFile(bundle.path / file).network)
    if "mapping" in bundle.manifest.networks:
        path = bundle.path / bundle.manifest.networks["mapping"].file
        state.update({f"style.{name}": value for name, value in mapping_state(path).items()})
    return state


class _MappingReader(GraphReader[list[tuple[Array, Array]]]):
    """Follows a mapping network from its output to its input."""

    kind = "a StyleGAN2 mapping network"

    def network(self, z: Border, w: Border) -> list[tuple[Array, Array]]:
        """(weight [w_dim, inputs], bias [w_dim]) of every layer, gains folded in."""
        layers: list[tuple[Array, Array]] = []
        name = w.name
        while self.is_made_by(name, "LeakyRelu"):
            activation = self.node(name, "LeakyRelu", 1, alpha=SLOPE)
            gemm = self.node(activation.inputs[0], "Gemm", 3, transB=1)
            layers.append((self.constant(gemm.inputs[1]), self.constant(gemm.inputs[2])))
            name = gemm.inputs[0]
        if not layers or not self.is_made_by(name, "Mul"):
            self.refuse("PixelNorm and layers with leaky ReLU")
        return layers[::-1]


class _Constants:
    """Collects constants by name; parts of a stacked one are joined in the end."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[int, Array]] = {}

    def put(self, name: str, array: Array, first: int = 0) -> None:
        """``first``: the row at which ``array`` begins in a stacked constant.

        Raises BackendError where two layers share one constant and would no longer be equal.
        """
        parts = self._parts.setdefault(name, {})
        if first in parts and not np.allclose(parts[first], array, rtol=1e-6):
            raise BackendError(
                f"network: expected constants of their own for all layers, got {name!r} shared by two"
            )
        parts[first] = array

    def finished(self, stored: dict[str, Array]) -> dict[str, Array]:
        whole = {
            name: np.concatenate([parts[first] for first in sorted(parts)])
            for name, parts in self._parts.items()
        }
        return {name: array.astype(np.float32).reshape(stored[name].shape) for name, array in whole.items()}


def _put_style(constants: _Constants, style: Any, state: dict[str, Array], prefix: str) -> None:
    weight = state[f"{prefix}.modulation.weight"]
    constants.put(style.names["weight"], weight / math.sqrt(weight.shape[1]), style.first)
    constants.put(style.names["bias"], state[f"{prefix}.modulation.bias"], style.first)


def _check_fir(network: SynthesisNetwork, name: str) -> None:
    for fir in [*(conv.fir for conv in network.convs), *(rgb.fir for rgb in network.rgbs)]:
        if fir is not None and not np.allclose(np.outer(*fir), np.outer(_FIR, _FIR), atol=1e-4):
            raise BackendError(
                f"{name}: expected the FIR filter [1, 3, 3, 1] to be trained with, got another"
            )
