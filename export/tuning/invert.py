"""Inversion by optimization: the code whose picture is nearest to a given one, in W, in W+, or between.

Reconstructing more exactly pushes a code out of the region where edits mean what they say (Tov et al. 2021).
The dial is ``plus``: 0 stays in W (one row for all layers), 1 lets every row go where it likes, and between
the rows' distance from each other costs the more the nearer the dial is to 0::

    picture ~ synthesis(w + offset[row]),    loss + LEASH * (1 - plus) / plus * mean(offset^2 / spread^2)

The generator stays as it is: `enroll.py` is the other way, which tunes it instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from doppelgan.runtime.bundle import Bundle
from doppelgan.runtime.edit.editor import Editor
from doppelgan.runtime.host.files import write_whole
from doppelgan.runtime.pictures import write_image
from doppelgan.runtime.pictures.convert import to_image
from doppelgan.runtime.pictures.sheet import grid
from doppelgan.runtime.types import Floats
from torch import Tensor

from ..networks.trainable import Synthesis
from .losses import psnr, pyramid_l1, structure
from .recipe import Recipe, Target, shrunk, size_at

LEASH = 0.02  # of leaving W by one spread, at the dial's middle
RATE = 0.02  # of Adam, in spreads of W
EDITED = 4  # directions, at most, that editability is measured with
POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the dial, on a page


@dataclass(frozen=True)
class Inversion:
    """One point of the dial."""

    plus: float
    codes: Floats  # float32 [1, n_styles, w_dim]
    psnr_db: float  # of the weighted picture
    structure: float  # 1 - SSIM over a pyramid: distortion that people see
    away: float  # mean distance of the rows from their mean, in spreads of W
    editability: float  # how much of an edit's change in W it makes here: cosine, 0..1


def invert(
    module: Synthesis,  # is not changed
    target: Target,  # its code is where the search starts
    spread: Tensor,  # [w_dim]: of W
    average: Tensor,  # [n_styles, w_dim]
    *,
    plus: float = 0.5,  # 0: W; 1: W+
    steps: int = 100,
    size: int | None = None,  # px, at most, that pictures are compared at
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> Floats:
    """The code, float32 [1, n_styles, w_dim]. KeyboardInterrupt ends it early with what there is."""
    if not 0 <= plus <= 1:
        raise ValueError(f"plus: expected 0 (W) to 1 (W+), got {plus}")
    full = min(size or module.size, module.size, target.picture.shape[-1])
    frozen = [parameter.requires_grad for parameter in module.parameters()]
    module.requires_grad_(False)
    relative = (target.code[0] - average) / spread
    middle = relative.mean(0, keepdim=True).clone().requires_grad_(True)  # [1, w_dim]
    rows = ((relative - relative.mean(0)) * plus).clone().requires_grad_(plus > 0)  # [n_styles, w_dim]
    learned = [middle, rows] if plus else [middle]
    optimizer = torch.optim.Adam(learned, lr=RATE, betas=(0.9, 0.99))
    growth = Recipe(steps=steps, small=0.3, half=0.7)
    try:
        for step in range(steps):
            done = step / steps
            for group in optimizer.param_groups:
                group["lr"] = (
                    RATE * min(1.0, (step + 1) / 10) * (0.475 * (1 + math.cos(math.pi * done)) + 0.05)
                )
            now = size_at(done, growth, full)
            real, weight = shrunk([target], now)
            drawn = module((average + spread * (middle + rows))[None], size=now)
            loss = 0.25 * pyramid_l1(drawn, real, weight) + 0.5 * structure(drawn, real, full, weight)
            if 0 < plus < 1:
                loss = loss + LEASH * (1 - plus) / plus * (rows - rows.mean(0)).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            on_step(step + 1, steps)
    except KeyboardInterrupt:
        pass
    finally:
        for parameter, learns in zip(module.parameters(), frozen, strict=True):
            parameter.requires_grad_(learns)
    return (average + spread * (middle + rows)).detach()[None].numpy().astype(np.float32)


@torch.no_grad()
def measure_inversion(
    bundle: Bundle, module: Synthesis, target: Target, codes: Floats, plus: float
) -> Inversion:
    """Distortion and editability of ``codes``."""
    real, weight = target.picture, target.weight / target.weight.mean()
    size = real.shape[-1]
    drawn = module(torch.from_numpy(codes), size=size)
    spread = np.maximum(np.asarray(bundle.latent.get("w_std", 1.0), np.float32), 1e-6)
    relative = (codes[0] - bundle.latent_avg) / spread
    return Inversion(
        plus=plus,
        codes=codes,
        psnr_db=round(psnr(drawn, real, weight), 2),
        structure=round(float(structure(drawn, real, size, weight)), 4),
        away=round(float(np.sqrt(np.square(relative - relative.mean(0)).mean())), 3),
        editability=round(editability(bundle, module, codes), 3),
    )


@torch.no_grad()
def editability(bundle: Bundle, module: Synthesis, codes: Floats, size: int = 64) -> float:
    """Cosine between what edits change at ``codes`` and at the average code, which lies in W.

    The mean over some directions; NaN for a bundle without.
    """
    size = min(size, module.size)
    editor = Editor(bundle.directions, bundle.latent_avg)
    names = list(bundle.directions)[:: max(1, len(bundle.directions) // EDITED)][:EDITED]

    def change(at: Floats, name: str) -> Tensor:
        low, high = bundle.directions[name].range
        ends = np.concatenate([editor.apply(at, {name: end}) for end in (low, high)])
        drawn: Tensor = module(torch.from_numpy(ends), size=size).clamp(-1, 1)
        return (drawn[1] - drawn[0]).flatten()

    cosines = []
    for name in names:
        here, there = change(codes, name), change(bundle.latent_avg[None], name)
        cosines.append(float(torch.nn.functional.cosine_similarity(here, there, dim=0)))
    return float(np.mean(cosines)) if cosines else math.nan


def write_page(
    folder: Path,
    bundle: Bundle,
    module: Synthesis,
    target: Target,
    points: Sequence[Inversion],
    encoded: Inversion,  # the encoder's own code
    enrolled: tuple[Synthesis, Inversion] | None = None,  # a generator that was tuned to this person
) -> None:
    """``page.png``: person, picture and edits of the encoder, of each point of the dial, and enrolled.

    ``page.json``: the numbers.
    """
    editor = Editor(bundle.directions, bundle.latent_avg)
    names = list(bundle.directions)[:: max(1, len(bundle.directions) // EDITED)][:EDITED]
    size = target.picture.shape[-1]
    table = []
    labeled = [("encoder", module, encoded)]
    labeled += [(f"invert, plus {point.plus:g}", module, point) for point in points]
    labeled += [] if enrolled is None else [("enroll", *enrolled)]
    for label, drawing, point in labeled:
        row = [("person", to_image(target.picture[0].numpy()))]
        cells = [(f"{label}: {point.psnr_db:.1f} dB, edits {point.editability:.2f}", point.codes)]
        for name in names:
            high = bundle.directions[name].range[1]
            cells.append((f"{name} {high:+g}", editor.apply(point.codes, {name: high})))
        for text, codes in cells:
            with torch.no_grad():
                row.append((text, to_image(drawing(torch.from_numpy(codes), size=size)[0].numpy())))
        table.append(row)
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / "page.png", grid(table, 192))
    numbers = [
        {"label": label, **{k: v for k, v in asdict(point).items() if k != "codes"}}
        for label, _, point in labeled
    ]
    page = json.dumps(numbers, indent=2, allow_nan=False, default=str) + "\n"
    write_whole(folder / "page.json", page.encode())
