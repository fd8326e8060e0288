"""Progress on a terminal: what people see of it, and what pipes and logs do not."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from doppelgan.runtime.cli import progress
from doppelgan.runtime.cli.progress import frame_progress, is_terminal
from rich.progress import Progress

Watch = Callable[[io.StringIO], tuple[io.StringIO, io.StringIO]]


class Screen(io.StringIO):
    """A stream that people watch."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The bars that were shown, by a clock that a test sets."""
    shown: list[Any] = []

    class Clocked(Progress):
        def __init__(self, *columns: Any, **settings: Any) -> None:
            self.now_s = 0.0
            super().__init__(*columns, get_time=lambda: self.now_s, auto_refresh=False, **settings)
            shown.append(self)

    monkeypatch.setattr(progress, "Progress", Clocked)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "120"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    return shown


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """``watch(stream)`` -> what becomes standard error, and a standard output that people watch."""

    def streams(error: io.StringIO) -> tuple[io.StringIO, io.StringIO]:
        monkeypatch.setattr(sys, "stderr", error)
        monkeypatch.setattr(sys, "stdout", Screen())
        return sys.stderr, sys.stdout  # type: ignore[return-value]

    return streams


def test_a_terminal_shows_how_far_it_is_and_how_fast(bars: list[Any], watch: Watch) -> None:
    error, output = watch(Screen())
    with frame_progress("[red]clip.mp4") as advance:
        (bar,) = bars
        for done in range(4):
            bar.now_s = done / 2
            advance(done, 8)
        task = bar.tasks[0]
        assert (task.completed, task.total, task.fields["rate"]) == (3, 8, "2 frames/s")
        bar.refresh()
        shown = error.getvalue()
    assert "[red]clip.mp4" in shown  # a name is no markup
    assert "3/8" in shown
    assert "2 frames/s" in shown
    assert error.getvalue().endswith("\x1b[2K")  # at the end its line is wiped
    assert output.getvalue() == ""


def test_the_first_frame_of_a_stream_has_no_speed_and_no_end(bars: list[Any], watch: Watch) -> None:
    watch(Screen())
    with frame_progress("a") as advance:
        advance(1, None)
        (task,) = bars[0].tasks
        assert (task.completed, task.total, task.fields["rate"]) == (1, None, "")


def test_pipes_and_logs_stay_silent(bars: list[Any], watch: Watch) -> None:
    error, output = watch(io.StringIO())
    with frame_progress("clip.mp4") as advance:
        for done in range(3):
            bars[0].now_s = float(done)
            advance(done, 3)
        bars[0].refresh()
    assert error.getvalue() == ""
    assert output.getvalue() == ""


def test_a_closed_stream_is_no_terminal() -> None:
    assert not is_terminal(None)
    assert not is_terminal(io.StringIO())
    assert is_terminal(Screen())
