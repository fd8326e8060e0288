"""One reader, many damaged inputs, in a process that may crash: ``python -m tests.hard.worker NAME ...``.

Prints a line of JSON for the input that is begun and for every finding; the last one says how it went.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from .mutate import mutated
from .readers import READERS, SELF_TESTS, silence

LIMIT_S = 5
ROOM_MB = 1024


class TooSlow(BaseException):
    """No reader may catch it."""


def main(name: str, first: int, last: int, seed: int, seconds: float) -> None:
    from doppelgan.runtime.errors import DoppelganError

    reader, out = {**READERS, **SELF_TESTS}[name], sys.stdout
    limit_s = 1 if name in SELF_TESTS else LIMIT_S
    silence()
    counts = {"read": 0, "refused": 0}
    slowest_ms = 0.0
    signal.signal(signal.SIGALRM, _too_slow)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "seeds").mkdir()
        seeds, read = reader.seeds(folder / "seeds"), reader.read()
        path = folder / f"input{reader.suffix}"
        for data in seeds:  # good files are read, and everything is imported before memory is counted
            path.write_bytes(data)
            read(path)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        leave_room()
        deadline = time.monotonic() + seconds
        number = first
        for number in range(first, last):
            if time.monotonic() > deadline:
                break
            data = mutated(seeds, number, seed)
            path.write_bytes(data)
            print(json.dumps({"begun": number}), file=out, flush=True)
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            faulthandler.dump_traceback_later(6 * LIMIT_S, exit=True)  # where no signal gets through
            try:
                read(path)
                counts["read"] += 1
            except (DoppelganError, click_errors()) as error:
                counts["refused"] += 1
                if "\n" in str(error) or len(str(error)) > 1000:
                    _finding(number, f"a message of several lines or {len(str(error))} letters")
            except TooSlow:
                _finding(number, f"more than {limit_s} s")
            except MemoryError:
                _finding(number, f"more than {ROOM_MB} MB")
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                _finding(number, f"{type(error).__name__} at {place}: {str(error)[:150]!r}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                faulthandler.cancel_dump_traceback_later()
            slowest_ms = max(slowest_ms, 1e3 * (time.perf_counter() - start))
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    done = {
        "done": number + 1 - first,
        **counts,
        "slowest_ms": round(slowest_ms),
        "grown_mb": round(grown_mb),
    }
    print(json.dumps(done), file=out, flush=True)


def click_errors() -> Any:
    import click

    return click.ClickException


def _finding(number: int, what: str) -> None:
    print(json.dumps({"finding": number, "what": what}), flush=True)


def _too_slow(*_: object) -> None:
    raise TooSlow


def leave_room() -> None:
    """Allow this process ROOM_MB more than it has now."""
    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limit = used + ROOM_MB * (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
