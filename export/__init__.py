"""Offline half: checkpoint -> torch module -> ONNX -> parity -> bundle. Needs torch and onnx.

::

    from doppelgan.export import export_checkpoint
    export_checkpoint("e4e_ffhq_encode.pt", "engines/mine", progress=print)

``export_module`` exports a module of your own, for ``doppelgan.runtime.bundle.BundleWriter``.

Names are imported when they are used: precision variants and engines are made on devices without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints.checkpoint import Checkpoint, read_checkpoint
    from .convert import build_encoder, export_checkpoint, generator_weights
    from .networks.stylegan2 import GeneratorWeights, Mapping, Synthesis
    from .onnx_files.onnx_graph import ExportedNetwork, export_module

__all__ = [
    "Checkpoint",
    "ExportedNetwork",
    "GeneratorWeights",
    "Mapping",
    "Synthesis",
    "build_encoder",
    "export_checkpoint",
    "export_module",
    "generator_weights",
    "read_checkpoint",
]

_MODULES = {
    "Checkpoint": "checkpoints.checkpoint",
    "ExportedNetwork": "onnx_files.onnx_graph",
    "GeneratorWeights": "networks.stylegan2",
    "Mapping": "networks.stylegan2",
    "Synthesis": "networks.stylegan2",
    "build_encoder": "convert",
    "export_checkpoint": "convert",
    "export_module": "onnx_files.onnx_graph",
    "generator_weights": "convert",
    "read_checkpoint": "checkpoints.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
