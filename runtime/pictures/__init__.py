"""Pictures: files of them, drawing on them, resizing them. BGR uint8 [H,W,3]."""

from __future__ import annotations

from .files import read_image, read_picture, write_image, write_picture
from .picture import Metadata, Picture

__all__ = ["Metadata", "Picture", "read_image", "read_picture", "write_image", "write_picture"]
