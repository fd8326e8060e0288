"""The package's own networks as a backend: graphs recognized from ONNX, run by ``runtime/native``."""

from __future__ import annotations

from .session import NativeSession, open, precisions, why_not  # noqa: A004 - the backends' common verb

__all__ = ["NativeSession", "open", "precisions", "why_not"]
