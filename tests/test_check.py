"""The check command's two halves: what fails first ends the other, and both are told."""

from __future__ import annotations

import os
import sys

import pytest

from .__main__ import beside

LONG = "import time; time.sleep(20); print('passed')"  # if it gets there
PASSES, FAILS = "print('passed')", "import sys; sys.exit('failed')"


def later(code: str) -> str:
    return f"import time; time.sleep(0.5); {code}"


@pytest.mark.parametrize(
    ("quiet", "main", "code", "said"),
    [
        (PASSES, PASSES, 0, 2 * ["passed"]),
        (later(PASSES), PASSES, 0, 2 * ["passed"]),
        (FAILS, LONG, 1, ["failed"]),
        (LONG, "raise SystemExit(3)", 3, []),
        (later(FAILS), PASSES, 1, ["passed", "failed"]),
        (FAILS, later("raise SystemExit(3)"), 1, ["failed"]),
    ],
)
def test_what_fails_first_ends_the_other(
    quiet: str, main: str, code: int, said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    commands = ([sys.executable, "-c", text] for text in (quiet, main))
    assert beside(*commands, dict(os.environ)) == code
    assert [line for line in capfd.readouterr().out.splitlines() if line in ("passed", "failed")] == said
