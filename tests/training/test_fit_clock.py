"""Budgets and spans of time."""

from __future__ import annotations

import time

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.clock import Budget, elapsing


def test_a_span_of_time_elapses_from_when_it_is_asked_for() -> None:
    span = elapsing(0.02)
    time.sleep(0.03)  # not yet asked for
    fractions = list(span)
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < fractions[-1] < 1
    assert not list(elapsing(0.0))


def test_budget_resumes_where_it_was_and_ends_on_time() -> None:
    now = time.time()
    budget = Budget(now - 30, now + 70)
    assert budget.fraction == pytest.approx(0.3, abs=0.01)
    budget.resume(0.6)
    assert budget.fraction == pytest.approx(0.6, abs=0.01)
    budget.start -= 70
    assert budget.fraction == pytest.approx(0.8, abs=0.02)
    assert not budget.over
    assert Budget(now - 10, now - 1).over
    assert Budget(now - 10, now - 1).fraction == 1
