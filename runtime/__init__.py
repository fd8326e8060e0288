"""The online half of doppelgan: frames in, frames with edited faces out. Never imports torch.

>>> from doppelgan.runtime import Pipeline, open_bundle, read_image, write_image
>>> pipeline = Pipeline(open_bundle("demo"), edits={"grey": 0.8})
>>> write_image("older.png", pipeline.process(read_image("me.jpg")))  # BGR uint8 [H,W,3]
"""

from __future__ import annotations

from .bundle.reader import Bundle, open_bundle
from .bundle.writer import BundleWriter
from .edit.direction import Direction
from .edit.direction_files import load_directions
from .errors import (
    BackendError,
    BundleError,
    CheckpointError,
    DoppelganError,
    EditError,
    ParityError,
    SinkError,
    SourceError,
)
from .pictures.files import read_image, write_image
from .pipeline import Pipeline
from .places import list_bundles
from .types import Crop, Face, Frame

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "BundleWriter",
    "CheckpointError",
    "Crop",
    "Direction",
    "DoppelganError",
    "EditError",
    "Face",
    "Frame",
    "ParityError",
    "Pipeline",
    "SinkError",
    "SourceError",
    "list_bundles",
    "load_directions",
    "open_bundle",
    "read_image",
    "write_image",
]
