"""Threads and queues under ``schedule.py``: frames go from stage to stage, and all stages end together."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Generic, TypeVar

from ..host.signals import STOP_SIGNALS, Stopped, is_default
from ..sink import close_sinks
from ..sink.base import Sink
from ..source.base import Source

T = TypeVar("T")

TICK_S = 0.1  # how often a waiting run looks up: Ctrl-C, window events, watchdog
JOIN_S = 10.0  # a network that computes is waited for; a driver that hangs is not


class Ended(Exception):
    """A queue will give nothing any more."""


class Queue(Generic[T]):
    """Frames from one thread to the next: bounded; full, it makes wait, or drops the oldest (``newest``)."""

    def __init__(self, size: int, *, newest: bool = False) -> None:
        if size < 1:
            raise ValueError(f"expected room for at least 1 frame, got {size}")
        self._items: deque[T] = deque()
        self._size = size
        self._newest = newest
        self._ended = self._stopped = False
        self._changed = threading.Condition()
        self.count = 0
        self.dropped = 0

    def put(self, item: T) -> bool:
        """False if nobody wants frames any more."""
        with self._changed:
            while not self._stopped and len(self._items) >= self._size:
                if self._newest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._stopped:
                return False
            self._items.append(item)
            self.count += 1
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> T | None:
        """The oldest, or None if none came in time. Raises Ended after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended or self._stopped, timeout_s)
            if self._stopped or (self._ended and not self._items):
                raise Ended
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[T]:
        with contextlib.suppress(Ended):
            while True:
                item = self.get()
                if item is not None:
                    yield item

    def end(self) -> None:
        """What is inside is still delivered, nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Wake everyone; nothing is delivered any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class Stages:
    """Runs stages in threads and takes everything down in order: stages, sinks, source."""

    def __init__(
        self,
        source: Source,
        sinks: Sequence[Sink],
        queues: Sequence[Queue[Any]],
        ended: threading.Event | None = None,
    ) -> None:
        self._source = source
        self._sinks = sinks
        self._queues = queues
        self._ended = ended or threading.Event()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._stopped_by: int | None = None  # number of a signal
        self._restore: Callable[[], object] | None = None

    def start(self, name: str, stage: Callable[[], None], output: Queue[Any]) -> None:
        """Run ``stage`` in a thread; its end ends ``output``, its exception stops everything."""

        def run() -> None:
            try:
                stage()
            except BaseException as error:
                self._error = self._error or error
                self._stop()
            else:
                output.end()

        thread = threading.Thread(target=run, name=f"doppelgan-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def check(self) -> None:
        """Raise what the user or a stage did."""
        if self._stopped_by is not None:
            raise Stopped(self._stopped_by)
        if self._error is not None:
            raise self._error

    def _stop(self) -> None:
        self._ended.set()
        for queue in self._queues:
            queue.stop()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C does not wait; a service manager or terminal that says it twice does.
        if self._stopped_by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._stopped_by = self._stopped_by or number

    def __enter__(self) -> Stages:
        # An exception inside an encoder would cost the packet it was about to give.
        if threading.current_thread() is threading.main_thread():
            before = {n: signal.getsignal(n) for n in STOP_SIGNALS if is_default(n)}
            for number in before:
                signal.signal(number, self._interrupt)
            self._restore = lambda: [signal.signal(number, handler) for number, handler in before.items()]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with contextlib.ExitStack() as closing:
            if self._restore is not None:
                closing.callback(self._restore)
            closing.callback(self._source.close)
            closing.callback(close_sinks, self._sinks)
            closing.callback(self._join)
            closing.callback(self._stop)
        if kind is None:
            self.check()

    def _join(self) -> None:
        until_s = time.monotonic() + JOIN_S
        for thread in self._threads:
            # In slices: on Windows a wait without end cannot be interrupted.
            while thread.is_alive() and time.monotonic() < until_s:
                thread.join(TICK_S)
