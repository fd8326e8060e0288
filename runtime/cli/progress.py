"""Progress of frames on a terminal; silent in pipes and logs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def is_terminal(stream: TextIO | None) -> bool:
    """Whether people watch; a closed stream is None."""
    return stream is not None and stream.isatty()


@contextmanager
def frame_progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield ``advance(done, total)``, to be told how many frames of how many are done."""
    columns = (
        TextColumn("{task.description}", markup=False),  # a file's name
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not is_terminal(sys.stderr), transient=True) as progress:
        task = progress.add_task(title, total=None, rate="")

        def advance(done: int, total: int | None) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate=f"{speed:.0f} frames/s" if speed else "")

        yield advance
