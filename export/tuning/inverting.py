"""The flow of ``doppelgan invert``: picture -> face -> start -> search -> point, and its page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from doppelgan.runtime.bundle import Bundle, open_bundle

from .base import Base
from .enroll import check_memory, target_of
from .invert import POINTS, Inversion, invert, judge, write_page
from .material import gather


def run_invert(
    picture: Path,
    bundle: str | Path,
    *,
    plus: float,
    steps: int,
    size: int,
    start: str,  # "encoder" or "average"
    page: Path | None = None,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> Inversion:
    """Invert the face of ``picture``. Raises Source-, Bundle- or BackendError before the long part."""
    with open_bundle(bundle) as opened:
        base = Base(opened)
        module = base.file.module()
        size = min(size, opened.image_size)
        check_memory("invert", module.channels, module.w_dim, size)
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
            points.append(judge(opened, module, target, codes, value))
        if page is not None:
            others = [("encoder", judge(opened, module, target, encoded, 1.0))]
            write_page(page, opened, module, target, points, others)
        return points[dial.index(plus)]


def _spread(bundle: Bundle) -> torch.Tensor:
    """Of W, [w_dim]; 1 where the bundle does not say."""
    stated = bundle.latent.get("w_std")
    spread = np.ones(bundle.w_dim, np.float32) if stated is None else np.maximum(stated, 1e-3)
    return torch.from_numpy(np.asarray(spread, np.float32))
