"""Bundles: open and use them, write new ones. The format is documented in ``runtime/manifest.py``."""

from __future__ import annotations

from ..places import find_bundle, list_bundles
from .reader import Bundle, open_bundle
from .writer import BundleWriter, add_effects

__all__ = ["Bundle", "BundleWriter", "add_effects", "find_bundle", "list_bundles", "open_bundle"]
