"""The online half of doppelgan: frames in, frames with edited faces out. Never imports torch.

>>> from doppelgan.runtime import Pipeline, open_bundle, read_image, write_image
>>> pipeline = Pipeline(open_bundle("demo"), edits={"grey": 0.8})
>>> write_image("older.png", pipeline.process(read_image("me.jpg")))  # BGR uint8 [H,W,3]

Live, from any source to any sink:

>>> from doppelgan.runtime import open_sink, open_source, run_live
>>> with open_source("0") as camera, open_sink("window") as window:
...     run_live(camera, pipeline.process_frame, [window])

These names are the public surface; everything else may change between minor versions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .backends import register_backend
from .bundle import Bundle, BundleWriter, list_bundles, open_bundle
from .edit import Direction, load_directions, mix, toward_w, truncate
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
from .pictures import read_image, write_image
from .pipeline import Pipeline
from .types import Crop, Face, Frame

if TYPE_CHECKING:
    from .schedule import run_files, run_live
    from .sink import open_sink
    from .source import open_source

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
    "mix",
    "open_bundle",
    "open_sink",
    "open_source",
    "read_image",
    "register_backend",
    "run_files",
    "run_live",
    "toward_w",
    "truncate",
    "write_image",
]

# Imported when used: whoever edits one picture needs no video.
_LATER = {"open_sink": "sink", "open_source": "source", "run_files": "schedule", "run_live": "schedule"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    if name == "__version__":
        from importlib.metadata import version  # slow to import

        return version("doppelgan")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
