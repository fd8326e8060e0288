"""What is made once in a run of tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import once

ROOT = Path(__file__).resolve().parent.parent
# What another process of the same run does: tells whether it had to make it.
ANOTHER = """
from tests.test_once import made, twice
print(twice(21).decode(), len(made))
"""
made: list[int] = []


@once.once
def twice(number: int) -> bytes:
    made.append(number)
    if number < 0:
        raise ValueError("none of those")
    return str(2 * number).encode()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(once.FOLDER, str(tmp_path))
    twice.cache_clear()  # type: ignore[attr-defined]
    made.clear()


def test_what_one_process_has_made_others_read() -> None:
    assert [twice(21), twice(21), twice(4)] == [b"42", b"42", b"8"]
    assert made == [21, 4]
    done = subprocess.run([sys.executable, "-c", ANOTHER], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == [b"42", b"0"]


def test_what_cannot_be_made_fails_for_each_and_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="none of those"):
            twice(-1)
    assert made == [-1, -1]
    assert list(tmp_path.iterdir()) == []


def test_outside_of_a_run_it_is_made_by_whoever_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(once.FOLDER)
    assert twice(3) == b"6"
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_died_over_it_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice(5)
    (left,) = tmp_path.iterdir()
    left.unlink()
    left.with_suffix(".claim").touch()
    twice.cache_clear()  # type: ignore[attr-defined]
    monkeypatch.setattr(once, "PATIENCE_S", 0.1)
    with pytest.raises(FileNotFoundError):
        twice(5)
