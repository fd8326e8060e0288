"""Tests of the exporter."""

from __future__ import annotations

import functools
import sys

import onnxscript  # noqa: F401 - what torch.onnx stands on
import torch.onnx  # noqa: F401


def _build_operators_once() -> None:
    """torch.onnx builds its table of operators anew for every export, which is half of a small one's time."""
    from torch.onnx._internal.exporter import _registration

    once = functools.cache(_registration.onnxscript_apis.get_torchlib_ops)
    for name, module in list(sys.modules.items()):
        if name.startswith("onnxscript._framework_apis.") and hasattr(module, "get_torchlib_ops"):
            module.get_torchlib_ops = once  # type: ignore[attr-defined]


_build_operators_once()
