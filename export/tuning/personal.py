"""The bundle of one person: a copy of the base with a tuned generator, a pivot and an appearance."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np
import torch
from doppelgan.runtime.bundle import BundleWriter
from doppelgan.runtime.demo.sheet import to_image
from doppelgan.runtime.manifest import Enrollment, Parity
from doppelgan.runtime.pictures import write_image
from doppelgan.runtime.types import Floats

from ..networks.trainable import Synthesis
from ..onnx_files.parity import compare, require
from .base import Base, Read
from .material import Sample
from .recipe import Outcome

FLOAT32_TOLERANCE, STORED_TOLERANCE = (
    1e-4,
    5e-3,
)  # relative L2, where constants are stored in float32 and in float16
LOOP_GENERATOR = "synthesis-loop"  # the base's, for encoders that look at what it draws


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
) -> Path:
    """Write the bundle and return its folder. Raises ParityError if ONNX Runtime draws something else."""
    bundle, manifest = base.bundle, base.bundle.manifest
    data = base.file.rewritten(outcome.module)
    parity = measure(base, data, outcome.module, read.pivot)
    writer = BundleWriter(
        output,
        overwrite=overwrite,
        name=name or output.name,
        description=f"one person, enrolled into {manifest.name} from {_count(enrollment.frames)}",
        license=manifest.license,
        n_styles=manifest.n_styles,
        w_dim=manifest.w_dim,
        z_dim=manifest.z_dim,
        image_size=manifest.image_size,
        enrollment=enrollment,
    )
    with writer as personal:
        for key, network in manifest.networks.items():
            tuned = key == base.network
            personal.add_network(
                key,
                data if tuned else bundle.path / network.file,
                network.inputs,
                network.outputs,
                precision=network.precision,
                parity=parity if tuned else network.parity,
                gflop=network.gflop,
            )
        encoder = manifest.encoder
        assert encoder is not None
        if encoder.loop == "restyle" and not encoder.generator:
            network = manifest.networks[base.network]
            personal.add_network(LOOP_GENERATOR, bundle.path / network.file, network.inputs, network.outputs)
            encoder = msgspec.structs.replace(encoder, generator=LOOP_GENERATOR)
        personal.add_encoder(encoder, manifest.crop_size)
        for style, key in manifest.generators.items():
            personal.add_generator(style, key)
        for direction in bundle.directions.values():
            personal.add_direction(direction)
        latent = {**bundle.latent, "pivot": read.pivot[0]}
        if read.appearance is not None:
            latent["appearance"] = read.appearance[0]
        personal.add_latent(**latent)
        for key, other in manifest.files.items():
            if key not in ("latent", "directions", "picture"):
                personal.add_file(key, other.file, bundle.path / other.file)
        if picture is not None:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "picture.png"
                write_image(file, to_image(picture.crop.pixels[0]))
                personal.add_file("picture", file.name, file)
        for source in manifest.sources:
            personal.keep_source(source)
    return output


def measure(base: Base, data: bytes, module: Synthesis, pivot: Floats) -> tuple[Parity, ...]:
    """The stored network against the module, at the pivot and at the average code."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    codes = np.concatenate([pivot, base.bundle.latent_avg[None]])
    with torch.inference_mode():
        drawn = np.concatenate([module(torch.from_numpy(code[None])).numpy() for code in codes])
    stored = np.concatenate(
        [session.run(None, {session.get_inputs()[0].name: code[None]})[0] for code in codes]
    )
    half = np.float16 in {array.dtype.type for array in base.file.stored().values()}
    parity = compare(
        "tuned torch float32 -> onnxruntime",
        drawn,
        stored,
        tolerance=STORED_TOLERANCE if half else FLOAT32_TOLERANCE,
        image=True,
        samples=len(codes),
    )
    return (require(base.network, parity),)


def _count(frames: int) -> str:
    return "one picture" if frames == 1 else f"{frames} frames"
