"""Pivotal tuning: the generator learns to draw one person for the codes that the encoder reads from them.

After Roich et al. 2021 ("Pivotal Tuning for Latent-based Editing of Real Images"), with what an avatar needs:

- every frame has its own code, read with the person's remembered appearance; one offset in W+ is learned for
  all of them and lies in the styles' biases afterwards, so that encoder and edits stay as they are;
- coarse to fine: 64 pixels first, where a step costs a twentieth;
- what the base did is kept: the *change* of the picture from the pivot to codes near it (other motion, other
  edits) is compared with the base's change, which knows mouths, lids and turned heads that no picture shows;
- what the tracker's face-mesh network sees is compared beside the pixels: eyes and lips as what they are;
- frames that are held out say when to stop.

Plain Adam and plain losses (L1 over a pyramid, structural similarity), easy to rewrite elsewhere.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from doppelgan.runtime.types import Floats
from torch import Tensor

from ..networks.trainable import Synthesis
from .features import LEAST_PX, FaceFeatures, Looks
from .losses import psnr, pyramid_l1, structure

SMALLEST = 64  # px: where tuning begins
NEAR_SIZE = 64  # px, at which changes are compared with the base's


@dataclass(frozen=True)
class Recipe:
    """How long, how fast, and what counts. The numbers of docs/enroll.md belong to the defaults."""

    steps: int = 150  # see `usual_steps`
    rate: float = 4e-3  # of Adam, for weights of unit variance
    offset_rate: float = 2.5  # times that, for the offset in W+
    warm: int = 20  # steps in which the rate grows
    small: float = 0.15  # of the steps at the smallest size; after that sizes double evenly up to ``half``
    half: float = 0.5  # of the steps, from which on it is the full size
    pixels: float = 0.25  # of the summed L1 of a pyramid
    structure: float = 0.5  # of 1 - SSIM
    features: float = 0.5  # of the face-mesh network's feature maps
    near: float = 1.5  # of the changes that the base makes; likeness is the same with 0, 0.5 and 1.5
    near_codes: int = 24  # of which one is drawn each step
    batch: int = 1
    seed: int = 0
    patience: int = 15  # judgements without gain on held-out frames, after which it stops
    judge_every: int = 20  # steps


ONE_PICTURE, PER_FRAME, MOST_STEPS = 150, 22, 1000


def usual_steps(frames: int) -> int:
    """Steps for so many frames: what one picture shows is learned in 150, and more of them only add noise.

    A clip gains longer: 1000 instead of 600 gave 0.5 dB on its unseen frames.
    """
    return min(ONE_PICTURE + PER_FRAME * (frames - 1), MOST_STEPS)


@dataclass(frozen=True)
class Target:
    """One frame: what to draw for which code."""

    code: Tensor  # [1, n_styles, w_dim]
    picture: Tensor  # [1, 3, R, R], -1..1
    weight: Tensor  # [1, 1, R, R], how much each pixel counts
    looks: Looks | None = None  # what the face-mesh network sees of it


_RESUMED = ("step", "best", "best_offset", "best_loss", "since_best", "cpu_s")


@dataclass
class State:
    """All that a run needs to go on."""

    module: Synthesis
    offset: Tensor  # [1, n_styles, w_dim]
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: dict[str, Tensor] | None = None
    best_offset: Tensor | None = None
    best_loss: float = math.inf
    since_best: int = 0
    cpu_s: float = 0.0
    losses: list[float] = field(default_factory=list)

    def save(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "offset": self.offset.detach(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in _RESUMED},
        }

    def load(self, saved: dict[str, Any]) -> None:
        self.module.load_state_dict(saved["module"])
        with torch.no_grad():
            self.offset.copy_(saved["offset"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for name in _RESUMED:
            setattr(self, name, saved[name])


@dataclass(frozen=True)
class Outcome:
    """A tuned generator, the offset already folded into it, and how it came about."""

    module: Synthesis
    offset: Floats  # [n_styles, w_dim]
    steps: int
    cpu_s: float
    before_db: float  # PSNR of the pivot's picture, weighted
    after_db: float
    stopped: str  # "done", "interrupted", "no more gain"


def start(base: Synthesis, recipe: Recipe) -> State:
    """A state before the first step. ``base`` is left alone."""
    module = copy.deepcopy(base)
    offset = torch.zeros(1, module.n_styles, module.w_dim, requires_grad=True)
    groups: list[dict[str, Any]] = [{"params": list(module.parameters())}, {"params": [offset]}]
    return State(module, offset, torch.optim.Adam(groups, lr=recipe.rate, betas=(0.9, 0.99)))


def tune(
    state: State,
    base: Synthesis,
    targets: Sequence[Target],
    near: Tensor,  # [m, n_styles, w_dim]: codes near the pivot, whose changes the base knows; may be empty
    recipe: Recipe,
    *,
    size: int
    | None = None,  # px, at most, that pictures are compared at: that of the targets; None: the generator's
    held_out: Sequence[Target] = (),
    features: FaceFeatures | None = None,  # compared where targets say what it sees of them
    progress: Callable[[State, Tensor], None] = lambda *_: None,  # after each step; the picture just drawn
) -> Outcome:
    """Run the recipe from ``state`` on. The first target is the pivot.

    KeyboardInterrupt, raised anywhere inside, ends it early with the best that there is.
    """
    random = np.random.default_rng([recipe.seed, state.step])
    torch.manual_seed(recipe.seed + state.step)
    pivot = targets[0]
    changes = _changes(base, near, pivot.code) if recipe.near and len(near) else None
    stopped = "done"
    full = size or base.size
    began = time.process_time()
    spent = state.cpu_s
    try:
        while state.step < recipe.steps:
            done = state.step / recipe.steps
            _set_rates(state.optimizer, recipe, state.step, done)
            now = size_at(done, recipe, full)
            picks = _pick(targets, recipe.batch, random)
            code = torch.cat([target.code for target in picks]) + state.offset
            real, weight = shrunk(picks, now)
            drawn = state.module(code, size=now)
            loss = recipe.pixels * pyramid_l1(drawn, real, weight)
            loss = loss + recipe.structure * structure(drawn, real, full, weight)
            looks = [target.looks for target in picks if target.looks is not None]
            if features is not None and len(looks) == len(picks) and now >= LEAST_PX:
                loss = loss + recipe.features * features.difference(drawn, looks)
            if changes is not None:
                which = int(random.integers(len(near)))
                both = torch.cat([pivot.code, near[which : which + 1]]) + state.offset
                at_pivot, changed = state.module(both, size=min(NEAR_SIZE, base.size))
                loss = loss + recipe.near * (changed - at_pivot - changes[which]).abs().mean()
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            state.step += 1
            state.cpu_s = spent + time.process_time() - began
            progress(state, drawn.detach())
            if (
                held_out
                and state.step % recipe.judge_every == 0
                and not _still_gaining(state, held_out, recipe)
            ):
                stopped = "no more gain"
                break
    except KeyboardInterrupt:
        stopped = "interrupted"
    return _outcome(state, base, pivot, full, stopped)


def size_at(done: float, recipe: Recipe, full: int) -> int:
    """Side of the pictures that are compared at this share of the steps."""
    smallest = min(SMALLEST, full)
    doublings = int(math.log2(full // smallest))
    if doublings == 0 or done >= recipe.half:
        return full
    if done < recipe.small:
        return smallest
    share = (done - recipe.small) / max(recipe.half - recipe.small, 1e-9)
    return smallest << min(doublings, 1 + int(share * max(doublings - 1, 1))) if doublings > 1 else full


@torch.no_grad()
def fold(module: Synthesis, offset: Tensor) -> Synthesis:
    """A copy that draws for ``codes`` what ``module`` draws for ``codes + offset``."""
    folded = copy.deepcopy(module)
    for row, layer in folded.layers():
        modulation = layer.conv.modulation
        moved = F.linear(offset[0, row], modulation.weight * modulation.gain) / modulation.lr_mul
        modulation.bias.copy_(modulation.bias + moved)
    return folded


@torch.no_grad()
def _changes(base: Synthesis, near: Tensor, pivot: Tensor) -> Tensor:
    """What the base changes in the picture from the pivot to each code, [m, 3, s, s]."""
    size = min(NEAR_SIZE, base.size)
    at_pivot = base(pivot, size=size)
    return torch.cat([base(code, size=size) - at_pivot for code in near[:, None]])


def _set_rates(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int, done: float) -> None:
    rate = recipe.rate * min(1.0, (step + 1) / recipe.warm) * (0.475 * (1 + math.cos(math.pi * done)) + 0.05)
    for group, factor in zip(optimizer.param_groups, (1.0, recipe.offset_rate), strict=True):
        group["lr"] = rate * factor


def _pick(targets: Sequence[Target], count: int, random: np.random.Generator) -> list[Target]:
    count = min(count, len(targets))
    return [targets[i] for i in random.choice(len(targets), count, replace=False)]


def shrunk(targets: Sequence[Target], size: int) -> tuple[Tensor, Tensor]:
    """Pictures and weights at ``size``; weights have a mean of 1."""
    real = torch.cat([target.picture for target in targets])
    weight = torch.cat([target.weight for target in targets])
    if real.shape[-1] != size:
        real, weight = (F.interpolate(x, size=size, mode="area") for x in (real, weight))
    return real, weight / weight.mean()


@torch.no_grad()
def _still_gaining(state: State, held_out: Sequence[Target], recipe: Recipe) -> bool:
    size = min(128, state.module.size)
    losses = []
    for target in held_out:
        real, weight = shrunk([target], size)
        drawn = state.module(target.code + state.offset, size=size)
        losses.append(float(pyramid_l1(drawn, real, weight)))
    loss = float(np.mean(losses))
    state.losses.append(loss)
    if loss < state.best_loss:
        state.best_loss, state.since_best = loss, 0
        state.best = {name: value.clone() for name, value in state.module.state_dict().items()}
        state.best_offset = state.offset.detach().clone()
    else:
        state.since_best += 1
    return state.since_best < recipe.patience


@torch.no_grad()
def _outcome(state: State, base: Synthesis, pivot: Target, size: int, stopped: str) -> Outcome:
    if state.best is not None and state.best_offset is not None:
        state.module.load_state_dict(state.best)
        state.offset.copy_(state.best_offset)
    folded = fold(state.module, state.offset)
    real, weight = shrunk([pivot], size)
    return Outcome(
        module=folded,
        offset=state.offset.detach()[0].numpy().copy(),
        steps=state.step,
        cpu_s=state.cpu_s,
        before_db=psnr(base(pivot.code, size=size), real, weight),
        after_db=psnr(folded(pivot.code, size=size), real, weight),
        stopped=stopped,
    )
