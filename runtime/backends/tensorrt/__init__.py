"""TensorRT and TensorRT for RTX: engines that this machine built, run through CUDA."""

from __future__ import annotations

from .session import TensorRtSession, open  # noqa: A004 - the backends' common verb

__all__ = ["TensorRtSession", "open"]
