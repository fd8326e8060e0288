"""The flow of ``doppelgan invert``: picture -> face -> start -> search -> point, and its page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.errors import BundleError
from doppelgan.runtime.types import Floats

from ..networks.trainable import Synthesis
from .base import Base
from .enroll import target_of
from .invert import POINTS, Inversion, invert, measure_inversion, write_page
from .material import Sample, gather
from .room import check_memory, short_memory_said


def run_invert(
    picture: Path,
    bundle: str | Path,
    *,
    plus: float,
    steps: int,
    size: int,
    start: str,  # "encoder" or "average"
    page: Path | None = None,
    enrolled: Path | None = None,  # the bundle of this person, for the page
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> Inversion:
    """Invert the face of ``picture``. Raises Source-, Bundle- or BackendError before the long part."""
    with open_bundle(bundle) as opened, short_memory_said("invert", size):
        base = Base(opened)
        module = base.file.module()
        size = min(size, opened.image_size)
        check_memory("invert", module.channels, module.w_dim, size)
        tuned = None if enrolled is None else _enrolled(enrolled, base)
        sample = gather([str(picture)], opened, size=size).pivot
        encoded = base.read([sample]).codes
        code = encoded if start == "encoder" else opened.latent_avg[None]
        target = target_of(sample, code[0], size)
        average, spread = torch.from_numpy(opened.latent_avg), _spread(opened)
        dial = [plus] if page is None else sorted({plus, *POINTS})
        points = []
        for k, value in enumerate(dial):
            codes = invert(
                module,
                target,
                spread,
                average,
                plus=value,
                steps=steps,
                on_step=lambda done, of, k=k: on_step(k * of + done, len(dial) * of),  # type: ignore[misc]
            )
            points.append(measure_inversion(opened, module, target, codes, value))
        if page is not None:
            plain = measure_inversion(opened, module, target, encoded, 1.0)
            own = None
            if tuned is not None:
                own = tuned.module, measure_inversion(opened, tuned.module, target, tuned.read(sample), 1.0)
            write_page(page, opened, module, target, points, plain, own)
        return points[dial.index(plus)]


@dataclass(frozen=True)
class _Enrolled:
    """A person's own generator, and how their bundle reads a picture of them."""

    path: Path
    module: Synthesis

    def read(self, sample: Sample) -> Floats:
        with open_bundle(self.path) as person:
            return person.encode(sample.crop.pixels, landmarks=sample.crop.landmarks[None])


def _enrolled(path: Path, base: Base) -> _Enrolled:
    """Raises BundleError for a bundle of nobody, or of another base."""
    with open_bundle(path) as person:
        enrollment = person.manifest.enrollment
        if enrollment is None or enrollment.base_sha256 != base.bundle.manifest.networks[base.network].sha256:
            raise BundleError(
                f"{path}: expected a bundle that was enrolled into {base.bundle.path}, got another; "
                f"make one with `doppelgan enroll PICTURE -b {base.bundle.path} -o NAME`"
            )
        return _Enrolled(path, Base(person).file.module())


def _spread(bundle: Bundle) -> torch.Tensor:
    """Of W, [w_dim]; 1 where the bundle does not say."""
    stated = bundle.latent.get("w_std")
    spread = np.ones(bundle.w_dim, np.float32) if stated is None else np.maximum(stated, 1e-3)
    return torch.from_numpy(np.asarray(spread, np.float32))
