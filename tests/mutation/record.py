"""The table of shares: what was killed, room by room, when, and of which state of the code."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .mutants import ROOT


@dataclass(frozen=True)
class Result:
    """One room's run."""

    room: str
    places: int  # ways to break the room at one place
    tried: int  # mutants of the sample
    equivalent: int  # survivors that nobody could notice, each with its reason in rooms.JUDGED
    survived: int  # the others
    hung: int  # of those that were noticed: not by a failure, but because the tests did not end
    seed: int
    seconds: float

    @property
    def counted(self) -> int:
        return self.tried - self.equivalent

    @property
    def share(self) -> float:
        """Of those that count, killed."""
        return 1 - self.survived / max(self.counted, 1)

    def __str__(self) -> str:
        return (
            f"{self.room}: {self.share:.0%} of {self.counted} killed, {self.survived} survived"
            f" ({self.equivalent} judged, {self.hung} hung; {self.places} places, seed {self.seed},"
            f" {self.seconds:.0f} s)"
        )


def write(path: Path, result: Result) -> None:
    """Put a room's result into the JSON file, and the file's table beside it as Markdown."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    results[result.room] = {**asdict(result), "share": result.share, "date": today, "commit": commit}
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(results), encoding="utf-8")


def page(results: Mapping[str, Any]) -> str:
    """The rooms' results as a table, Markdown."""
    rows = [
        f"| {room} | {row['places']} | {row['tried']} | {row['equivalent']} | {row['survived']} |"
        f" {row['hung']} | {row['share']:.0%} | {row['seed']} | {row['seconds']:.0f} |"
        f" {row['date']} | {row['commit']} |"
        for room, row in results.items()
    ]
    head = [
        "# Mutants killed, by room of the flow",
        "",
        "Written by `python -m tests --mutants --record`. Places: ways to break a room once. Tried: a random"
        " sample of them, drawn with the seed.",
        "Judged: survivors that nobody could notice, each with its reason in `tests/mutation/rooms.py`; they"
        " do not count.",
        "",
        "| Room | Places | Tried | Judged | Survived | Hung | Killed | Seed | Seconds | Date | Commit |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"
