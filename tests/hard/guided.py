"""Coverage-guided damage for one reader: ``python -m tests.hard.guided READER CORPUS SECONDS``, with atheris.

libFuzzer keeps in CORPUS what reaches new lines, so that the next run goes on where this one ended. Half of
the inputs it changes its own way, half by the faults of `mutate`, which know what lengths and text look like.
Ends at the first finding, which is then in CORPUS/../findings; the conditions are those of `worker`.
"""

from __future__ import annotations

import gc
import random
import signal
import sys
import tempfile
from pathlib import Path
from types import FunctionType
from typing import Any

from .mutate import mutated
from .readers import READERS, silence
from .worker import LIMIT_S, ROOM_MB, leave_room


class Finding(BaseException):
    """What no reader may do."""


def _too_slow(*_: object) -> None:
    raise Finding(f"more than {LIMIT_S} s")


def main(name: str, corpus: Path, seconds: int) -> None:
    import atheris  # type: ignore[import-not-found]

    reader = READERS[name]
    from doppelgan.runtime.errors import DoppelganError

    read = reader.read()
    silence()
    folder = Path(tempfile.mkdtemp())
    (folder / "seeds").mkdir()
    seeds = reader.seeds(folder / "seeds")
    corpus.mkdir(parents=True, exist_ok=True)
    findings = corpus.parent / "findings"
    findings.mkdir(exist_ok=True)
    path = folder / f"input{reader.suffix}"
    for index, data in enumerate(seeds):
        (corpus / f"seed-{index}").write_bytes(data)
        path.write_bytes(data)
        read(path)  # everything is imported before memory is counted
    # Not on import: an editable installation's own loader would come in between.
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and (function.__module__ or "").startswith("doppelgan."):
            atheris.instrument_func(function)

    import click

    def one(data: bytes) -> None:
        path.write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # not of the clock: the machine may be busy
        try:
            read(path)
        except (DoppelganError, click.ClickException) as error:
            if "\n" in str(error) or len(str(error)) > 1000:
                raise Finding(f"a message of several lines or {len(str(error))} letters") from error
        except MemoryError:
            raise Finding(f"more than {ROOM_MB} MB") from None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def change(data: bytes, most: int, seed: int) -> Any:
        if seed % 2:
            return atheris.Mutate(data, most)
        others = [data, data, data, random.Random(seed).choice(seeds)]
        return mutated(others, seed)[:most]

    signal.signal(signal.SIGPROF, _too_slow)
    leave_room()
    options = [
        f"-artifact_prefix={findings}/{name.replace(' ', '-')}-",
        f"-max_total_time={seconds}",
        "-rss_limit_mb=0",  # `leave_room` is exact
        "-timeout=600",  # of the clock, where no signal gets through
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
