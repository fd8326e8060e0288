"""A bounded number of damaged inputs for every reader, as CI runs them; `python -m tests.hard` for more."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .__main__ import alone, attack
from .mutate import mutated
from .nursery import Nursery
from .readers import READERS

INPUTS = 25
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory and time are limited as on Linux")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@pytest.mark.parametrize("name", READERS)
def test_damaged_inputs_are_refused_in_one_line(name: str, nursery: Nursery) -> None:
    outcome = attack(name, INPUTS, seed=2026, work=nursery)
    assert outcome.findings == {}
    assert outcome.inputs == INPUTS
    assert outcome.refused > 0  # the damage does reach the reader


def test_the_same_seed_gives_the_same_bytes() -> None:
    seeds = [b"abc" * 50, b'{"version": 1}']
    assert [mutated(seeds, n, 3) for n in range(50)] == [mutated(seeds, n, 3) for n in range(50)]
    assert len({mutated(seeds, n, 3) for n in range(50)}) > 40


def test_what_is_found_is_told(nursery: Nursery) -> None:
    """A harness that cannot fail finds nothing: readers that raise, hang, grow and crash."""
    for name, what in (
        ("raises", "KeyError at"),
        ("hangs", "more than 1 s"),
        ("grows", "more than 1024 MB"),
        ("crashes", "the process ended with -11"),
    ):
        outcome = attack(f"self-test: {name}", 2, work=nursery)
        assert len(outcome.findings) == 2
        assert what in outcome.findings[1]


def test_a_worker_of_its_own_finds_the_same(nursery: Nursery) -> None:
    shared, own = (attack("npz", INPUTS, seed=2026, work=work) for work in (nursery, alone))
    assert (shared.read, shared.refused, shared.findings) == (own.read, own.refused, own.findings)
