"""One picture, one minute, your live avatar: the whole flow of ``doppelgan enroll`` on one screen.

::

    gather -> read          -> tune               -> write
    faces     codes, by the    the base's generator   the bundle of
              base's encoder   draws this person      one person
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from doppelgan.runtime.bundle import BundleWriter, open_bundle
from doppelgan.runtime.manifest import Enrollment
from doppelgan.runtime.types import Floats, Image

from . import personal
from .base import Base
from .features import LEAST_PX, FaceFeatures
from .material import MOST, Sample, gather
from .progress import Progress, Step, check_resumable
from .recipe import Outcome, Recipe, Target, start, tune, usual_steps
from .room import check_disk, check_memory, short_memory_said
from .weights import face_weights

LARGEST_PX = (
    256  # what tuning draws unless asked for more: a step at 1024 px takes half a minute on two cores
)


@dataclass(frozen=True)
class Settings:
    """What a user chooses; see ``doppelgan enroll --help``."""

    base: str = "demo"  # name or folder of a bundle with an encoder
    recipe: Recipe | None = None  # None: the usual steps for the number of frames
    size: int = LARGEST_PX  # px, at most, that tuning draws
    most_frames: int = MOST
    seconds: float = 12.0  # of a camera
    keep_picture: bool = False
    consent: str = ""  # who confirmed that the person consented; noted in the manifest
    name: str | None = None
    overwrite: bool = False
    resume: bool = False


def enroll(
    sources: Sequence[str],  # pictures, clips, folders, a camera
    output: str | Path,  # folder of the bundle, not there yet
    settings: Settings | None = None,
    *,
    watch: Callable[[Image, float], None] | None = None,  # is shown every frame of a camera, with its time
    on_step: Step = lambda *_: None,
    report: Callable[[str], None] = lambda _: None,  # is told each stage
) -> Enrollment:
    """Write a bundle of one person.

    Raises SourceError for pictures that cannot be enrolled from, BundleError for a base that cannot be
    enrolled into, SinkError for an output that cannot be written, BackendError where memory is short: before
    the long part, and nothing is left behind.
    Ctrl-C while it tunes ends it with the best so far.
    """
    settings, output = settings or Settings(), Path(output)
    overwrite = settings.overwrite or settings.resume
    BundleWriter(output, overwrite=overwrite)  # refuse before the long part
    if settings.resume:
        check_resumable(output)
    with open_bundle(settings.base) as bundle, short_memory_said("enroll", settings.size):
        base = Base(bundle)
        size = min(settings.size, bundle.image_size)
        module = base.file.module()
        check_memory("enroll", module.channels, module.w_dim, size)
        check_disk(output, bundle.path, module.channels, module.w_dim)

        material = gather(
            sources,
            bundle,
            most=settings.most_frames,
            seconds=settings.seconds,
            size=size,
            watch=watch,
            report=report,
        )
        samples = [material.pivot, *(sample for sample in material.chosen if sample is not material.pivot)]
        report(f"{len(samples)} of {material.read} frames chosen, {len(material.held_out)} held out")

        recipe = settings.recipe or Recipe(steps=usual_steps(len(samples)))
        everyone = [*samples, *material.held_out]
        read = base.read(everyone, of=len(samples))
        features = base.features() if recipe.features and size >= LEAST_PX else None
        targets = [
            target_of(sample, code, size, features) for sample, code in zip(everyone, read.codes, strict=True)
        ]
        near = base.near(read.pivot, recipe.near_codes, recipe.seed)

        pivot = targets[0]
        with torch.no_grad():
            before = module(pivot.code, size=size)
        key = _digest(recipe, samples)
        with Progress(
            output, recipe, samples[0].picture, before, pivot.code, key, on_step=on_step
        ) as progress:
            state = start(module, recipe)
            if settings.resume:
                progress.resumed(state)
            held_out = targets[len(samples) :]
            outcome = tune(
                state,
                module,
                targets[: len(samples)],
                near,
                recipe,
                size=size,
                held_out=held_out,
                features=features,
                progress=progress,
            )
            if outcome.stopped == "interrupted":
                progress.save(state)
            enrollment = _enrollment(settings, base, len(samples), outcome)
            kept = samples[0] if settings.keep_picture else None
            personal.write(
                output, base, read, outcome, enrollment, name=settings.name, picture=kept, overwrite=overwrite
            )
            if outcome.stopped != "interrupted":
                progress.finish()
    report(
        f"{outcome.steps} of {recipe.steps} steps ({outcome.stopped}): "
        f"{outcome.before_db:.1f} -> {outcome.after_db:.1f} dB"
    )
    return enrollment


def target_of(sample: Sample, code: Floats, size: int, features: FaceFeatures | None = None) -> Target:
    """What tuning draws at ``size`` pixels for ``code`` [n_styles, w_dim]."""
    landmarks = (sample.crop.landmarks + 0.5) * (size / sample.crop.size) - 0.5
    weight = torch.from_numpy(face_weights(landmarks, size))[None]
    picture = torch.from_numpy(sample.picture)
    edges = sample.crop.landmarks + np.array([0.5, 0.5, 0.0])  # from the picture's edge, not a pixel's middle
    shares = np.asarray(edges / sample.crop.size, np.float32)
    looks = None if features is None else features.looks(picture, shares)
    return Target(torch.from_numpy(code[None]), picture, weight, looks)


def _enrollment(settings: Settings, base: Base, frames: int, outcome: Outcome) -> Enrollment:
    return Enrollment(
        base=base.bundle.manifest.name,
        base_sha256=base.bundle.manifest.networks[base.network].sha256,
        frames=frames,
        steps=outcome.steps,
        cpu_s=round(outcome.cpu_s, 1),
        psnr_db=(round(outcome.before_db, 2), round(outcome.after_db, 2)),
        date=date.today().isoformat(),
        consent=settings.consent,
        # Without a memory, an encoder cannot tell motion from looks: only its changes can be handed on.
        motion="absolute" if base.bundle.encoder.appearance_size else "relative",
    )


def _digest(recipe: Recipe, samples: Sequence[Sample]) -> str:
    """What a run must share with one that it resumes."""
    digest = hashlib.sha256(repr(recipe).encode())
    for sample in samples:
        digest.update(sample.crop.pixels.tobytes())
    return digest.hexdigest()
