"""What the long lessons share: steps until the time is over, reports and checkpoints by the clock, and guards of a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.fit.clock import Budget, orphaned
from training.fit.config import Plan
from training.fit.report import Log, forgiving


class Trainer(Protocol):
    """A lesson under way."""

    step: int
    images: int
    numbers: dict[str, Tensor]  # of the last step, for the report

    def evaluate(self, most: int) -> dict[str, float]:
        """Figures on at most so many held-out people."""
        ...

    def sheet(self, path: Path, count: int = 10) -> None: ...
    def save(self, budget: Budget, final: bool = False) -> None: ...


def learn(
    trainer: Trainer,
    step: Callable[[], bool],  # one step of training; True: report now
    facts: Callable[[], Mapping[str, Any]],  # for the report, beside what every lesson tells
    plan: Plan,
    budget: Budget,
    sheet: Path,
    log: Log,
) -> None:
    """Step until the budget is over, or the process that started this one is gone. Reports may fail, steps may not."""
    began, images, reported, saved = time.monotonic(), trainer.images, time.monotonic(), time.monotonic()
    while not budget.over and not orphaned():
        report_now = step()
        if report_now or time.monotonic() - reported > plan.report_seconds:
            reported = time.monotonic()
            rate = (trainer.images - images) / (reported - began)
            with forgiving(log):
                log(step=trainer.step, images=trainer.images, fraction=budget.fraction, per_s=rate, **facts(),
                    **trainer.numbers, **trainer.evaluate(min(64, plan.held_out_most)))  # fmt: skip
                trainer.sheet(sheet)
            began, images = time.monotonic(), trainer.images
        if time.monotonic() - saved > plan.checkpoint_seconds:
            trainer.save(budget)
            saved = time.monotonic()


def finish(trainer: Trainer, people: int, plan: Plan, budget: Budget, sheet: Path, log: Log) -> None:
    """The final state, sheet and figures."""
    trainer.save(budget, final=True)
    with forgiving(log):
        trainer.sheet(sheet, 12)
        figures = trainer.evaluate(plan.held_out_most)
        log(event="done", step=trainer.step, images=trainer.images, people=people, **figures)


def decay(fraction: float, start: float) -> float:
    """1 until `start`, then a cosine down to 0.05."""
    if fraction <= start:
        return 1.0
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - start) / (1 - start))))


def keep_finite(parameters: Iterable[nn.Parameter]) -> None:
    """One bad batch must not poison the optimizer: all gradients become zero if one is not finite."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(gradients)
    good = torch.isfinite(torch.stack(norms)).all()
    if good.device.type == "cpu" and good:
        return
    for gradient in gradients:
        torch.nan_to_num_(gradient, 0.0, 0.0, 0.0)
        gradient.mul_(good)
