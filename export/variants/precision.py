"""Cheaper variants of a bundle's float32 networks, each measured against float32 and refused past its bound.

``float16``  feature maps in half precision, safe by construction: see ``fp16.py``
``int8``     Q/DQ around the dense convolutions, calibrated, mixed with float32 where it must: see ``int8.py``

bfloat16 needs no file of its own: where a CPU computes in it, OpenVINO takes the float32 network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from doppelgan.runtime.drift import BOUNDS, Bound, Drift, measure, require
from doppelgan.runtime.errors import ParityError
from doppelgan.runtime.types import Announce
from numpy.typing import NDArray

from ..onnx_files.graph_edit import GraphEditor, is_dense_convolution
from . import int8
from .fp16 import rounding_twin, to_float16

__all__ = ["VARIANTS", "Variant", "make_variant"]

VARIANTS = ("float16", "int8")
MARGIN = 0.8  # of the bound: what the search for mixed layers aims at, to hold on other samples too
SEARCH_SAMPLES = 4

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Variant:
    """A network in another precision with its measured drift."""

    precision: str
    onnx: bytes
    drift: Drift
    kept: tuple[str, ...] = ()  # convolutions left in float32
    note: str = ""


def make_variant(
    network: str,  # its name, for messages
    data: bytes,  # float32 ONNX
    precision: str,  # of VARIANTS
    calibration: Sequence[Feeds],  # inputs as they occur; used by int8 only
    samples: Sequence[Feeds],  # other inputs as they occur: the drift is measured on these
    *,
    bound: Bound | None = None,
    weight_bits: int = 8,
    symmetric: bool = False,
    transposed: bool = True,  # False: leave them alone, for engines that run transposed ones in float32
    report: Announce = lambda step: None,
) -> Variant:
    """Convert ``data`` and measure. Raises ParityError with the figure if the drift is past the bound."""
    bound = bound or BOUNDS[precision]
    report(f"{network}: float32 results of {len(samples)} samples")
    reference = _results(data, samples)
    image = "image" in GraphEditor(data).outputs
    if precision == "float16":
        report(f"{network}: convert to float16")
        converted = to_float16(data)
        report(f"{network}: measure float16")
        drift = measure(reference, _results(rounding_twin(converted), samples), image=image)
        return Variant(precision, converted, require(network, precision, drift, bound))
    if precision != "int8":
        raise ValueError(f"precision: expected one of {', '.join(VARIANTS)}, got {precision!r}")

    report(f"{network}: calibrate int8")
    fixed = () if transposed else transposed_layers(data)
    if len(int8.layers(data)) == len(fixed):
        raise ParityError(
            f"network {network!r} in int8: expected convolutions to quantize, got none; keep float32"
        )
    few, few_reference = samples[:SEARCH_SAMPLES], reference[:SEARCH_SAMPLES]
    best: tuple[Drift, bytes, dict[str, int8.Scale], str] | None = None
    for base, note in _equalizations(data, calibration):
        scales = int8.calibrate(base, calibration)
        quantized = int8.to_int8(base, scales, keep=fixed, weight_bits=weight_bits, symmetric=symmetric)
        drift = measure(few_reference, _results(quantized, few), image=image)
        if best is None or drift.relative_l2 < best[0].relative_l2:
            best = drift, base, scales, note
    assert best is not None
    drift, base, scales, note = best
    keep: tuple[str, ...] = fixed
    if not drift.within(_tightened(bound)):
        report(f"{network}: choose the layers that stay float32")
        keep = _choose_float32(base, scales, few, few_reference, bound, weight_bits, symmetric, image, fixed)
    if len(keep) == len(int8.layers(base)):
        raise ParityError(
            f"network {network!r} in int8: expected a layer that can be quantized within "
            f"{_told(bound, image)}, got none; keep float32"
        )
    converted = int8.to_int8(base, scales, keep=keep, weight_bits=weight_bits, symmetric=symmetric)
    report(f"{network}: measure int8")
    drift = measure(reference, _results(converted, samples), image=image)
    return Variant(precision, converted, require(network, precision, drift, bound), keep, note)


def _equalizations(data: bytes, calibration: Sequence[Feeds]) -> list[tuple[bytes, str]]:
    equalized = int8.equalize(data, calibration)
    plain = [(data, "")]
    return plain if equalized is data else [(equalized, "equalized channels"), *plain]


def _choose_float32(
    data: bytes,
    scales: Mapping[str, int8.Scale],
    samples: Sequence[Feeds],
    reference: Sequence[NDArray[Any]],
    bound: Bound,
    weight_bits: int,
    symmetric: bool,
    image: bool,
    fixed: tuple[str, ...],  # stay float32 in any case
) -> tuple[str, ...]:
    """The layers with the largest error per operation, as few as bring the drift within the bound.

    Each layer is quantized alone to learn its error; errors of layers add up in squares, nearly.
    """
    names = [name for name in int8.layers(data) if name not in fixed]
    cost = layer_operations(data)
    error = {}
    for name in names:
        others = [*fixed, *(other for other in names if other != name)]
        alone = int8.to_int8(data, scales, keep=others, weight_bits=weight_bits, symmetric=symmetric)
        error[name] = measure(reference[:2], _results(alone, samples[:2]), image=image).relative_l2 ** 2
    ranked = sorted(names, key=lambda name: error[name] / max(cost[name], 1), reverse=True)
    first, last = (
        0,
        len(ranked),
    )  # bisection: keeping ``last`` of them is enough, keeping ``first`` - 1 is not
    while first < last:
        middle = (first + last) // 2
        kept = (*fixed, *ranked[:middle])
        mixed = int8.to_int8(data, scales, keep=kept, weight_bits=weight_bits, symmetric=symmetric)
        if measure(reference, _results(mixed, samples), image=image).within(_tightened(bound)):
            last = middle
        else:
            first = middle + 1
    return (*fixed, *ranked[:last])


def transposed_layers(data: bytes) -> tuple[str, ...]:
    """Those of ``int8.layers`` that are transposed convolutions."""
    graph = GraphEditor(data)
    return tuple(
        node.output[0]
        for node in graph.nodes
        if node.op_type == "ConvTranspose" and is_dense_convolution(graph, node)
    )


def layer_operations(data: bytes) -> dict[str, float]:
    """Multiply-adds of each dense convolution, by its output's name."""
    graph = GraphEditor(data)
    operations = {}
    for node in graph.nodes:
        if is_dense_convolution(graph, node):
            side = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
            height, width = graph.shapes[side][2:]
            operations[node.output[0]] = float(graph.constants[node.input[1]].size * height * width)
    return operations


def _told(bound: Bound, image: bool) -> str:
    return f"{bound.psnr_db:g} dB" if image else f"a relative L2 distance of {bound.relative_l2:.0e}"


def _tightened(bound: Bound) -> Bound:
    return Bound(bound.psnr_db - 20 * float(np.log10(MARGIN)), bound.relative_l2 * MARGIN)


def _results(data: bytes, samples: Sequence[Feeds]) -> list[NDArray[Any]]:
    """First output for each sample, in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(session.run(None, dict(feeds))[0]) for feeds in samples]
