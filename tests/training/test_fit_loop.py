"""The loop that the lessons share: when it reports, when it saves, what it survives."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

torch = pytest.importorskip("torch")

from training.fit.clock import Budget
from training.fit.config import PLANS
from training.fit.lessons import loop
from training.fit.report import Log


class Steps:
    """A budget of five steps, and the lesson that takes them."""

    fraction = 0.5

    def __init__(self, sheet_fails: bool = False) -> None:
        self.step = self.images = 0
        self.numbers: dict[str, Any] = {}
        self.saved: list[tuple[int, bool]] = []
        self.sheet_fails = sheet_fails

    @property
    def over(self) -> bool:
        return self.step >= 5

    def take(self) -> bool:
        self.step += 1
        self.images += 8
        return self.step == 2

    def evaluate(self, most: int) -> dict[str, float]:
        return {"figure": float(most)}

    def sheet(self, path: Path, count: int = 10) -> None:
        if self.sheet_fails:
            raise OSError("disk full")

    def save(self, budget: object, final: bool = False) -> None:
        self.saved.append((self.step, final))


def learn(lesson: Steps, tmp_path: Path, report_s: float, checkpoint_s: float) -> list[dict[str, Any]]:
    plan = replace(PLANS["smoke"], report_seconds=report_s, checkpoint_seconds=checkpoint_s)
    path, budget = tmp_path / "log.jsonl", cast(Budget, lesson)
    log = Log(path, job="lesson")
    loop.learn(lesson, lesson.take, lambda: {"people": 7}, plan, budget, tmp_path / "sheet.png", log)
    loop.finish(lesson, 7, plan, budget, tmp_path / "sheet.png", log)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_step_may_ask_for_a_report(tmp_path: Path) -> None:
    lesson = Steps()
    lines = learn(lesson, tmp_path, math.inf, math.inf)
    assert [line["step"] for line in lines] == [2, 5]
    assert lines[0]["people"] == 7
    assert lines[0]["images"] == 16
    assert lines[1]["event"] == "done"
    assert lesson.saved == [(5, True)]


def test_reports_and_checkpoints_come_by_the_clock(tmp_path: Path) -> None:
    lesson = Steps()
    lines = learn(lesson, tmp_path, -1, -1)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 5]
    assert lesson.saved == [(n, False) for n in range(1, 6)] + [(5, True)]


def test_a_sheet_that_fails_stops_no_lesson(tmp_path: Path) -> None:
    lesson = Steps(sheet_fails=True)
    learn(lesson, tmp_path, -1, -1)
    assert lesson.step == 5
    assert lesson.saved[-1] == (5, True)


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.525), (1.0, 0.05)])
def test_the_rate_decays_to_a_twentieth(fraction: float, expected: float) -> None:
    assert loop.decay(fraction, 0.5) == pytest.approx(expected)


def test_one_gradient_that_is_not_finite_sets_all_to_zero() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = torch.tensor([1.0, math.nan]), torch.tensor([2.0, 3.0])
    loop.keep_finite(parameters)
    assert all((p.grad == 0).all() for p in parameters)
    parameters[0].grad, parameters[1].grad = torch.tensor([1.0, 4.0]), torch.tensor([2.0, 3.0])
    loop.keep_finite(parameters)
    assert parameters[1].grad.tolist() == [2.0, 3.0]
