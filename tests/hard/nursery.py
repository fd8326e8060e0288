"""Workers that begin with everything imported, which takes longer than a few inputs do: forks of one process.

``python -m tests.hard.nursery`` reads requests from standard input, a line of JSON each: a worker's
arguments, and the files that take what it prints. It answers with how the worker ended.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from . import worker
from .__main__ import Ended
from .readers import READERS

SEEDS = ("tests.export.seeds", "tests.export.tiny_tflite", "tests.runtime.clips", "tests.tiny")


class Nursery:
    """A running one, for ``attack(work=...)``."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, arguments: Sequence[str], timeout_s: float) -> Ended:
        """The worker limits itself: ``timeout_s`` is for processes that may have to be given up."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("out", "err")]
            print(json.dumps([list(arguments), *map(str, files)]), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            out, err = (file.read_text(errors="replace") for file in files)
        return subprocess.CompletedProcess(list(arguments), code, out, err)


def main() -> None:
    for name in SEEDS:
        importlib.import_module(name)
    for reader in READERS.values():
        reader.read()
    for line in sys.stdin:
        arguments, *files = json.loads(line)
        child = os.fork()
        if child == 0:
            for number, path in enumerate(files, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
            os._exit(_work(arguments))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _work(arguments: Sequence[str]) -> int:
    name, *numbers, seconds = arguments
    try:
        worker.main(name, *map(int, numbers), float(seconds))
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    main()
