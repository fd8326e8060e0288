"""Editing W+ codes by arithmetic: directions, sliders, truncation, mixing."""

from __future__ import annotations

from .direction import Direction
from .direction_files import load_directions
from .editor import Editor, mix, orthogonalize, parse_edits, select_rows, toward_w, truncate
from .words import Reading, read_edits, read_words

__all__ = [
    "Direction",
    "Editor",
    "Reading",
    "load_directions",
    "mix",
    "orthogonalize",
    "parse_edits",
    "read_edits",
    "read_words",
    "select_rows",
    "toward_w",
    "truncate",
]
