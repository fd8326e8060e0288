"""All readers under coverage-guided damage, in turns: ``python -m tests.hard.campaign FOLDER``.

FOLDER keeps each reader's corpus, what was found, and how long every reader was worked at; the next campaign
goes on there, and several may run at once. The reader that had least of the processor comes next.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.common import header, publish

from .readers import READERS

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Effort:
    """What one reader got. cpu_s: seconds of a processor, fewer than of the clock on a busy machine."""

    cpu_s: float = 0.0
    inputs: int = 0
    busy: float = 0.0  # time.time() until which somebody works at it
    findings: list[str] = field(default_factory=list)


@contextlib.contextmanager
def efforts(folder: Path) -> Iterator[dict[str, Effort]]:
    """The campaign's state, for one process at a time; written back at the end."""
    path = folder / "efforts.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = json.loads(path.read_text()) if path.exists() else {}
        state = {name: Effort(**said.get(name, {})) for name in READERS}
        yield state
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps({name: asdict(one) for name, one in state.items()}, indent=1))
        aside.replace(path)


def work(name: str, folder: Path, seconds: int) -> Effort:
    """One turn of one reader."""
    corpus = folder / name.replace(" ", "-")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "tests.hard.guided", name, str(corpus), str(seconds)]
    child = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    units = re.search(r"number_of_executed_units: (\d+)", child.stderr)
    findings = []
    if child.returncode:
        where = re.search(r"Test unit written to (\S+)", child.stderr + child.stdout)
        output = child.stdout + child.stderr
        raised = re.search(r"=== Uncaught Python exception: ===\n(.*)", output)
        said = raised or re.search(r"ERROR: libFuzzer: (.*)", output)
        what = said[1][:300] if said else output.strip()[-200:]
        findings = [f"{what} ({where[1] if where else f'exit {child.returncode}'})"]
        (folder / "last.log").write_text(output)
    return Effort(cpu_s, int(units[1]) if units else 0, findings=findings)


def table(state: dict[str, Effort]) -> str:
    """Markdown."""
    lines = ["| reader | minutes of a processor | inputs | findings |", "|---|--:|--:|--:|"]
    lines += [
        f"| {name} | {one.cpu_s / 60:.1f} | {one.inputs} | {len(one.findings)} |"
        for name, one in state.items()
    ]
    findings = [
        f"- {name}: {finding.rsplit(' (', 1)[0][:80]}"
        for name, one in state.items()
        for finding in one.findings
    ]
    return "\n".join([*lines, "", *findings])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hard.campaign", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turn", type=int, default=120, help="seconds of the clock per turn")
    parser.add_argument("--minutes", type=float, default=60, help="of a processor, for every reader")
    parser.add_argument("--table", action="store_true", help="only print what was done so far")
    parser.add_argument("-o", "--output", type=Path, help="page to write the table to")
    options = parser.parse_args()
    if not options.table and importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install atheris", file=sys.stderr)
        return 2  # or its absence would be every reader's finding
    options.folder.mkdir(parents=True, exist_ok=True)
    while not options.table:
        with efforts(options.folder) as state:
            free = [
                name
                for name, one in state.items()
                if one.busy < time.time() and one.cpu_s < 60 * options.minutes
            ]
            if not free:
                break
            name = min(free, key=lambda name: state[name].cpu_s)
            state[name].busy = time.time() + options.turn + 120
        turn = work(name, options.folder.resolve(), options.turn)
        with efforts(options.folder) as state:
            one = state[name]
            one.cpu_s, one.inputs, one.busy = one.cpu_s + turn.cpu_s, one.inputs + turn.inputs, 0.0
            one.findings += turn.findings
        print(
            f"{time.strftime('%H:%M:%S')} {name}: {turn.inputs} inputs, {turn.cpu_s:.0f} s",
            *turn.findings,
            flush=True,
        )
    with efforts(options.folder) as state:
        text = header("Damaged files, coverage-guided", "python -m tests.hard.campaign FOLDER")
        publish(f"{text}\n{table(state)}", options.output)
    return 1 if any(one.findings for one in state.values()) else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
