"""Signals that ask a program to end: Ctrl-C, `kill` and service managers, a terminal that is closed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal asked for the end, and all files were completed.

    number: of the signal; a program ends with 128 + number then.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def is_default(number: int) -> bool:
    """Whether nobody else handles the signal, nor ignores it on purpose, as under `nohup`."""
    return signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL, _raise)


@contextlib.contextmanager
def stop_as_ctrl_c() -> Iterator[None]:
    """Every signal of STOP_SIGNALS raises as Ctrl-C does, so that files are put away; in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in STOP_SIGNALS if n != signal.SIGINT and is_default(n)}
    for number in before:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    # Who says it twice, as service managers do, must not cut the putting away short; Ctrl-C may.
    signal.signal(number, signal.SIG_IGN)
    raise Stopped(number)
