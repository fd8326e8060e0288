"""Turn-taking between the parts, through files in the output folder; and the results of one part."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

READY = "ready"


def go(folder: Path, part: str) -> None:
    """Let ``part`` measure."""
    (folder / f"{part}.go").touch()


class Notes:
    """What one part has to say: a line of JSON at a time, on disk at once."""

    def __init__(self, folder: Path, part: str) -> None:
        self.folder = folder
        self.part = part
        self._path = folder / f"{part}.jsonl"

    def add(self, kind: str, **fields: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **fields}) + "\n")
        print(kind, fields, flush=True)

    def attempt(self, what: str, work: Callable[[], Any]) -> Any:
        """The result of ``work``; its failure is noted, and None."""
        try:
            return work()
        except Exception as error:  # one variant must not take the others with it
            lines = f"{type(error).__name__}: {error}".splitlines()
            self.add("failure", what=what, error=lines[0][:400])
            return None

    def wait_for_turn(self) -> None:
        """Say that everything is prepared, and wait until nobody else measures."""
        (self.folder / f"{self.part}.{READY}").touch()
        while not (self.folder / f"{self.part}.go").exists():
            time.sleep(0.02)
