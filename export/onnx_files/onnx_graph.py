"""Torch module -> ONNX bytes with fixed shapes, checked against the module in ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from doppelgan.runtime.manifest import Parity, Tensor
from doppelgan.runtime.types import Announce
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .parity import TOLERANCE, compare_all

OPSET = 18  # understood by TensorRT 10.3 (JetPack 6), OpenVINO 2024 and ONNX Runtime 1.17, and all later ones
IR_VERSION = 10


def no_report(_step: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class ExportedNetwork:
    """One network of a bundle: pass its fields to ``BundleWriter.add_network``."""

    name: str
    onnx: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    parity: tuple[Parity, ...]
    gflop: float


def export_module(
    name: str,  # of the network in the bundle: "encoder", "synthesis" ...
    module: nn.Module,  # forward takes tensors in the order of ``inputs``
    inputs: Mapping[
        str, torch.Tensor
    ],  # name -> float32 [N, ...]: N samples; their shapes without N are fixed
    outputs: Sequence[str],
    *,
    tolerance: float = TOLERANCE,  # on the relative L2 distance
    threads: int = 0,  # of the check; 0 lets ONNX Runtime decide
    report: Announce = no_report,  # is told "encoder: convert to ONNX" and so on
) -> ExportedNetwork:
    """Export any module at batch 1 and compare it with torch on every sample.

    An encoder takes "crop" [N,3,S,S] and, if it wants them, "landmarks" [N,468,3], and gives "codes".
    Raises ParityError if ONNX Runtime's result is farther than ``tolerance`` from torch's.
    """
    module = module.eval()
    samples = [
        {k: v[i : i + 1].contiguous() for k, v in inputs.items()}
        for i in range(len(next(iter(inputs.values()))))
    ]

    report(f"{name}: run in torch")
    with FlopCounterMode(display=False) as counter:
        references = [run_torch(module, samples[0], outputs)]
    references += [run_torch(module, sample, outputs) for sample in samples[1:]]

    report(f"{name}: convert to ONNX")
    data = to_onnx(module, samples[0], outputs)

    report(f"{name}: compare in ONNX Runtime")
    session = _open(data, threads)
    got = [_run(session, {k: v.numpy() for k, v in sample.items()}) for sample in samples]
    return ExportedNetwork(
        name=name,
        onnx=data,
        inputs=tuple(Tensor(k, "float32", tuple(v.shape)) for k, v in samples[0].items()),
        outputs=tuple(Tensor(k, "float32", tuple(v.shape)) for k, v in references[0].items()),
        parity=compare_all(
            name,
            "torch float32 -> onnxruntime float32",
            {k: np.concatenate([r[k] for r in references]) for k in outputs},
            {k: np.concatenate([g[k] for g in got]) for k in outputs},
            tolerance=tolerance,
            samples=len(samples),
        ),
        gflop=round(counter.get_total_flops() / 1e9, 3),
    )


def run_torch(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """The module's outputs by name."""
    with torch.inference_mode():
        result = module(*inputs.values())
    results = result if isinstance(result, tuple) else (result,)
    return {name: value.numpy() for name, value in zip(outputs, results, strict=True)}


def _open(data: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _run(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def to_onnx(module: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]) -> bytes:
    """Serialize ``module`` as ONNX: fixed shapes, standard operators only, no traces of this machine."""
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            optimize=True,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    del program
    _tidy(model)
    data: bytes = model.SerializeToString()
    return data


def _tidy(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes for debugging (it holds paths of this machine) and unused constants."""
    graph = model.graph
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "doppelgan", "", ""
    del model.metadata_props[:]
    del model.functions[:]
    del graph.metadata_props[:]
    del graph.value_info[:]
    graph.name, graph.doc_string = "network", ""
    _prefer_global_pool(graph)
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    for i in reversed(range(len(graph.initializer))):
        if graph.initializer[i].name not in used:
            del graph.initializer[i]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*graph.input, *graph.output]:
        value.doc_string = ""
        del value.metadata_props[:]
    # Domains of exporter-private functions are not part of the result.
    standard = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    foreign = sorted(
        {f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")}
    )
    assert not foreign, f"the exporter left non-standard operators: {foreign}"


def _prefer_global_pool(graph: onnx.GraphProto) -> None:
    """Mean over a map's two axes -> GlobalAveragePool, for which engines have a kernel in every layout."""
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in constants:
            continue
        axes = sorted(onnx.numpy_helper.to_array(constants[node.input[1]]).tolist())
        keep = all(a.i == 1 for a in node.attribute if a.name == "keepdims")
        if keep and axes in ([2, 3], [-2, -1]):
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks about its own dependencies; none of that helps a user."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
