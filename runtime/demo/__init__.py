"""`doppelgan demo`: everything once, on the embedded bundle and its own clip."""

from __future__ import annotations

from .run import run_demo

__all__ = ["run_demo"]
