"""Writes what was tuned as the bundle of one person, after comparing it with what torch draws."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from doppelgan.runtime.bundle.personal import write_personal
from doppelgan.runtime.manifest import Enrollment, Parity
from doppelgan.runtime.pictures import write_image
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.types import Floats

from ..networks.trainable import Synthesis
from ..onnx_files.parity import compare, require
from .base import Base, Read
from .material import Sample
from .recipe import Outcome

FLOAT32_TOLERANCE, STORED_TOLERANCE = 1e-4, 5e-3  # relative L2: constants stored in float32, and in float16


def write(
    output: Path,
    base: Base,
    read: Read,
    outcome: Outcome,
    enrollment: Enrollment,
    *,
    name: str | None = None,
    picture: Sample | None = None,  # to keep
    overwrite: bool = False,
) -> None:
    """Write the bundle. Raises ParityError if ONNX Runtime draws something else than torch."""
    data = base.file.rewritten(outcome.module)
    parity = measure(base, data, outcome.module, read.pivot)
    with tempfile.TemporaryDirectory() as folder:
        kept = None
        if picture is not None:
            kept = Path(folder) / "picture.png"
            write_image(kept, to_image(picture.crop.pixels[0]))
        write_personal(
            output,
            base.bundle,
            base.style,
            data,
            enrollment,
            read.pivot[0],
            None if read.appearance is None else read.appearance[0],
            parity=(parity,),
            name=name,
            picture=kept,
            overwrite=overwrite,
        )


def measure(base: Base, data: bytes, module: Synthesis, pivot: Floats) -> Parity:
    """The stored network against the module, at the pivot and at the average code."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    codes = np.concatenate([pivot, base.bundle.latent_avg[None]])
    with torch.inference_mode():
        drawn = np.concatenate([module(torch.from_numpy(code[None])).numpy() for code in codes])
    stored = np.concatenate([session.run(None, {name: code[None]})[0] for code in codes])
    half = np.float16 in {array.dtype.type for array in base.file.stored().values()}
    parity = compare(
        "tuned torch float32 -> onnxruntime",
        drawn,
        stored,
        tolerance=STORED_TOLERANCE if half else FLOAT32_TOLERANCE,
        image=True,
        samples=len(codes),
    )
    return require(base.network, parity)
