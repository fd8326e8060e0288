"""What the parts found: printed as it comes, kept as JSON by part, and drawn as a page beside it.

A part that is measured again replaces what it found before; the others stay as they were, each with its date.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doppelgan.runtime.host.machine import load_average, this_machine, versions
from doppelgan.runtime.measure.bench import commit


class Section:
    """One part's table, printed row by row."""

    def __init__(self, name: str, title: str, columns: Sequence[str]) -> None:
        self.name, self.title, self.columns = name, title, tuple(columns)
        self.rows: list[list[str]] = []
        self.notes: list[str] = []
        self.load = load_average()
        self._when = time.strftime("%Y-%m-%d %H:%M")
        print(f"\n{title}\n\n" + "\n".join(self._head()), flush=True)

    def row(self, label: str, *values: float | str) -> None:
        """Numbers with three digits; a string stays as it is."""
        cells = [label, *(value if isinstance(value, str) else _number(value) for value in values)]
        self.rows.append(cells)
        print(_line(cells), flush=True)

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(f"\n{text}", flush=True)

    def record(self, chromium: str) -> dict[str, Any]:
        return {
            "title": self.title,
            "when": self._when,
            "commit": commit(),
            "load": self.load,
            "niceness": os.nice(0),  # below 0: before other work that this machine had
            "versions": {"chromium": chromium, **versions()},
            "columns": self.columns,
            "rows": self.rows,
            "notes": self.notes,
        }

    def _head(self) -> list[str]:
        return [_line(self.columns), "|---" + "|--:" * (len(self.columns) - 1) + "|"]


def keep(section: Section, chromium: str, stem: Path) -> None:
    """Into STEM.json, in place of what the part found before, and draw STEM.md."""
    path = stem.with_name(stem.name + ".json")
    machine = this_machine()
    found: dict[str, Any] = {"machine": f"{machine.processor}, {machine.cores} cores", "parts": {}}
    if path.exists():
        found["parts"] = json.loads(path.read_text(encoding="utf-8"))["parts"]
    found["parts"][section.name] = section.record(chromium)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(draw(found), encoding="utf-8")


def draw(found: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# The page in a real browser",
        "",
        f"{found['machine']}; server, browser and camera share them.",
        "",
    ]
    for part in found["parts"].values():
        numbers = " · ".join(f"{name} {number}" for name, number in part["versions"].items())
        origin = f"commit {part['commit'] or 'unknown'} · load before {part['load'] or 0:.1f}"
        origin += f", niceness {part['niceness']}" if part["niceness"] else ""
        lines += [
            f"## {part['title']}",
            "",
            f"{part['when']} · {origin} · {numbers}",
            "",
            _line(part["columns"]),
            "|---" + "|--:" * (len(part["columns"]) - 1) + "|",
            *map(_line, part["rows"]),
            "",
        ]
        for note in part["notes"]:
            lines += [note, ""]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
