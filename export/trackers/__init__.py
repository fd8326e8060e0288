"""The trackers: MediaPipe's TFLite networks, read and rewritten as ONNX."""

from __future__ import annotations

from .mediapipe import export_trackers

__all__ = ["export_trackers"]
