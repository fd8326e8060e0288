"""Pictures: files of them, drawing on them, resizing them. BGR uint8 [H,W,3]."""

from __future__ import annotations

from .files import read_image, write_image

__all__ = ["read_image", "write_image"]
